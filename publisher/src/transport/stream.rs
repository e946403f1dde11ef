//! Publishing through Redis: entries of the broker's streams, in pipelines. Finds its way in a Redis
//! Cluster by what the nodes themselves say.

use crate::{account::Answer, cli::RedisTarget};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    RedisError, RedisResult, ServerErrorKind, aio::MultiplexedConnection,
};
use serde_json::Value;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Mutex;

const TIMEOUT: Duration = Duration::from_secs(5);
/// How long replicas may take to have what was appended.
const WAIT_MS: u64 = 1000;
/// Nodes of a cluster that may send us on to another one.
const HOPS_MAX: usize = 5;

#[derive(Clone)]
pub(crate) struct Stream(Arc<Streams>);

struct Streams {
    nodes: Vec<ConnectionInfo>,
    keys: Vec<Key>,
    replicas_ack: u32,
    /// The stream that is next.
    turn: AtomicUsize,
}

struct Key {
    name: String,
    /// None before the first use, and after a failure.
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Stream {
    pub(crate) fn new(target: &RedisTarget) -> Result<Self, String> {
        let nodes = target
            .urls
            .iter()
            .map(|url| url.as_str().into_connection_info());
        let nodes: RedisResult<Vec<ConnectionInfo>> = nodes.collect();
        let keys = target.streams.iter().map(|name| Key {
            name: name.clone(),
            connection: Mutex::new(None),
        });
        Ok(Self(Arc::new(Streams {
            nodes: nodes.map_err(|error| format!("--redis-url: {error}"))?,
            keys: keys.collect(),
            replicas_ack: target.replicas_ack,
            turn: AtomicUsize::new(0),
        })))
    }

    /// Appends all of the events to one stream, or none: they go as one transaction.
    pub(crate) async fn send(&self, events: &[Value]) -> Answer {
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        let key = &self.0.keys[turn % self.0.keys.len()];
        let unknown = |why| Answer::Unknown {
            why,
            retry_after: None,
        };
        match self.0.append(key, events).await {
            Ok(replicas) if replicas >= self.0.replicas_ack => Answer::Queued,
            Ok(replicas) => unknown(format!("only {replicas} replicas have it")),
            Err(error) => {
                *key.connection.lock().await = None;
                unknown(error.to_string())
            }
        }
    }

    /// Entries that are not stored yet.
    pub(crate) async fn waiting(&self) -> Option<u64> {
        let mut waiting = 0;
        for key in &self.0.keys {
            let asked = self.0.length(key).await;
            if asked.is_err() {
                *key.connection.lock().await = None;
            }
            waiting += asked.ok()?;
        }
        Some(waiting)
    }
}

impl Streams {
    /// Says how many replicas have it, where that was asked for.
    async fn append(&self, key: &Key, events: &[Value]) -> RedisResult<u32> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for event in events {
            let command = pipeline.cmd("XADD").arg(&key.name).arg("*");
            command.arg("event").arg(event.to_string()).ignore();
        }
        let mut connection = self.connection(key).await?;
        pipeline.query_async::<()>(&mut connection).await?;
        if self.replicas_ack == 0 {
            return Ok(0);
        }
        // On the connection that has written: WAIT counts what its own connection has written.
        let mut wait = redis::cmd("WAIT");
        wait.arg(self.replicas_ack).arg(WAIT_MS);
        wait.query_async(&mut connection).await
    }

    async fn length(&self, key: &Key) -> RedisResult<u64> {
        let mut connection = self.connection(key).await?;
        let mut question = redis::cmd("XLEN");
        question.arg(&key.name).query_async(&mut connection).await
    }

    async fn connection(&self, key: &Key) -> RedisResult<MultiplexedConnection> {
        let mut current = key.connection.lock().await;
        if let Some(connection) = &*current {
            return Ok(connection.clone());
        }
        let mut last = RedisError::from((ErrorKind::Io, "there is no node to connect to"));
        for node in &self.nodes {
            match follow(node.clone(), &key.name).await {
                Ok(connection) => return Ok(current.insert(connection).clone()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Asks a node, and whom it names, until one serves the key; a Redis that is no cluster does.
async fn follow(mut node: ConnectionInfo, key: &str) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(TIMEOUT))
        .set_response_timeout(Some(TIMEOUT));
    for _ in 0..HOPS_MAX {
        let client = Client::open(node.clone())?;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut question = redis::cmd("XLEN");
        let asked = question.arg(key).query_async::<u64>(&mut connection).await;
        let error = match asked {
            Ok(_) => return Ok(connection),
            Err(error) => error,
        };
        let moved = ErrorKind::Server(ServerErrorKind::Moved);
        let Some(home) = named(&error).filter(|_| error.kind() == moved) else {
            return Err(error);
        };
        node = node.set_addr(home);
    }
    Err(RedisError::from((
        ErrorKind::Io,
        "the nodes of the cluster send us in a circle",
    )))
}

fn named(error: &RedisError) -> Option<ConnectionAddr> {
    let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']).to_owned();
    Some(ConnectionAddr::Tcp(host, port.parse().ok()?))
}
