//! Publishing through Redis: entries of the broker's stream, in pipelines.

use crate::{account::Answer, cli::RedisTarget};
use redis::{
    Client, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use serde_json::Value;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct Stream {
    connection: ConnectionManager,
    key: String,
}

impl Stream {
    pub(crate) fn new(target: &RedisTarget) -> Result<Self, String> {
        let connect = || -> Result<ConnectionManager, RedisError> {
            let config = ConnectionManagerConfig::new()
                .set_connection_timeout(Some(TIMEOUT))
                .set_response_timeout(Some(TIMEOUT));
            Client::open(target.url.as_str())?.get_connection_manager_lazy(config)
        };
        Ok(Self {
            connection: connect().map_err(|error| format!("--redis-url: {error}"))?,
            key: target.stream.clone(),
        })
    }

    /// Appends all of the events, or none: they go as one transaction.
    pub(crate) async fn send(&self, events: &[Value]) -> Answer {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for event in events {
            let command = pipeline.cmd("XADD").arg(&self.key).arg("*");
            command.arg("event").arg(event.to_string()).ignore();
        }
        let mut connection = self.connection.clone();
        match pipeline.query_async::<()>(&mut connection).await {
            Ok(()) => Answer::Queued,
            Err(error) => Answer::Unknown {
                why: error.to_string(),
                retry_after: None,
            },
        }
    }

    /// Entries that are not stored yet.
    pub(crate) async fn waiting(&self) -> Option<u64> {
        let mut connection = self.connection.clone();
        let mut question = redis::cmd("XLEN");
        question.arg(&self.key);
        question.query_async(&mut connection).await.ok()
    }
}
