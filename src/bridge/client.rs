//! What HTTP holds of the broker: append events to its stream, and ask how much waits there.

use super::stream::StreamNames;
use crate::{domain::Event, wire};
use redis::{
    Client, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use std::time::Duration;
use tokio::time::timeout;

/// The longest that an append may take, connecting included.
const APPEND_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that a question may take: it is asked to show something, and can be left out.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(500);
/// Between two attempts to connect, at most.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);

/// The broker did not take or answer it.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It said so, or is not to be reached.
    #[error("the broker failed")]
    Failed(#[from] RedisError),
    /// It said nothing in time. What was to be appended may have been.
    #[error("the broker did not answer in time")]
    TimedOut,
}

/// A way to the broker's stream, shared by all requests.
#[derive(Clone)]
pub struct BrokerClient {
    connection: ConnectionManager,
    stream: String,
}

impl BrokerClient {
    /// A client that connects when it is first used, and again whenever it has to.
    ///
    /// # Errors
    /// Where the client's settings are none.
    pub fn new(client: Client, names: &StreamNames) -> Result<Self, BrokerError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(APPEND_TIMEOUT))
            .set_response_timeout(Some(APPEND_TIMEOUT))
            .set_number_of_retries(1)
            .set_max_delay(RECONNECT_PAUSE_MAX);
        Ok(Self {
            connection: client.get_connection_manager_lazy(config)?,
            stream: names.stream.clone(),
        })
    }

    /// Appends all of the events, or none of them. When it returns, Redis has acknowledged them.
    ///
    /// # Errors
    /// [`BrokerError`]; the events may have been appended all the same, and are then stored once.
    pub async fn append(&self, events: &[Event]) -> Result<(), BrokerError> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for event in events {
            pipeline
                .cmd("XADD")
                .arg(&self.stream)
                .arg("*")
                .arg(super::actor::EVENT_FIELD)
                .arg(wire::event_to_json(event))
                .ignore();
        }
        let mut connection = self.connection.clone();
        timeout(APPEND_TIMEOUT, pipeline.query_async::<()>(&mut connection))
            .await
            .map_err(|_| BrokerError::TimedOut)?
            .map_err(BrokerError::from)
    }

    /// Entries of the stream: those that wait, and those that are being stored.
    ///
    /// # Errors
    /// [`BrokerError`] where the broker does not say.
    pub async fn depth(&self) -> Result<u64, BrokerError> {
        let mut connection = self.connection.clone();
        let mut question = redis::cmd("XLEN");
        question.arg(&self.stream);
        timeout(QUESTION_TIMEOUT, question.query_async(&mut connection))
            .await
            .map_err(|_| BrokerError::TimedOut)?
            .map_err(BrokerError::from)
    }

    /// Whether the broker answers.
    pub async fn ping(&self) -> bool {
        let mut connection = self.connection.clone();
        let question = redis::cmd("PING");
        let answer = timeout(
            QUESTION_TIMEOUT,
            question.query_async::<()>(&mut connection),
        );
        matches!(answer.await, Ok(Ok(())))
    }
}
