//! A connection to one stream that all requests share: made when it is first needed, given up when
//! it fails. Used by HTTP's client of the broker; knows no commands.

use super::{client::BrokerError, nodes::BrokerNodes};
use redis::{RedisError, aio::MultiplexedConnection};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// A link to the node that serves a key.
pub(super) struct Link {
    nodes: BrokerNodes,
    key: String,
    response_timeout: Duration,
    current: Mutex<Option<Current>>,
    /// Held by the one who connects, while the others wait for what it gets.
    connecting: tokio::sync::Mutex<u64>,
}

#[derive(Clone)]
struct Current {
    connection: MultiplexedConnection,
    number: u64,
}

impl Link {
    pub(super) fn new(nodes: BrokerNodes, key: &str, response_timeout: Duration) -> Self {
        Self {
            nodes,
            key: key.to_owned(),
            response_timeout,
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(0),
        }
    }

    /// Asks over the link. All commands of one question go over the same connection. Where one fails
    /// that was made before, it may have been dead for long: a new one is asked once more.
    ///
    /// # Errors
    /// [`BrokerError`]; what was asked may have been done all the same.
    pub(super) async fn ask<T>(
        &self,
        deadline: Instant,
        question: impl AsyncFn(MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, BrokerError> {
        loop {
            let (current, is_new) = timeout_at(deadline, self.connection())
                .await
                .map_err(|_| BrokerError::TimedOut)??;
            match timeout_at(deadline, question(current.connection)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => {
                    self.give_up(current.number);
                    if is_new {
                        return Err(error.into());
                    }
                }
                Err(_) => {
                    self.give_up(current.number);
                    return Err(BrokerError::TimedOut);
                }
            }
        }
    }

    /// The connection that there is, or a new one; and whether it is new.
    async fn connection(&self) -> Result<(Current, bool), RedisError> {
        if let Some(current) = self.current().clone() {
            return Ok((current, false));
        }
        let mut number = self.connecting.lock().await;
        if let Some(current) = self.current().clone() {
            return Ok((current, true));
        }
        let connection = self.nodes.connect(&self.key, self.response_timeout).await?;
        *number += 1;
        let current = Current {
            connection,
            number: *number,
        };
        *self.current() = Some(current.clone());
        Ok((current, true))
    }

    /// Others may have put a new one in its place already.
    fn give_up(&self, number: u64) {
        let mut current = self.current();
        if current
            .as_ref()
            .is_some_and(|current| current.number == number)
        {
            *current = None;
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
