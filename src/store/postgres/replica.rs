//! A streaming standby that listings are read from, where one is configured. It may be behind, so nothing
//! that follows the log and no counter comes from it; while it does not answer, the primary does.

use super::{
    Database,
    pool::{Pools, Reading},
    servers::Servers,
};
use crate::store::StoreError;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// The longest that it is waited for: a reader has to have time left for the primary.
const PATIENCE: Duration = Duration::from_secs(2);
/// After it has failed, nobody asks it for that long.
const REST: Duration = Duration::from_secs(5);

pub(super) struct Replica {
    servers: Servers,
    pools: Pools,
    /// While it has failed: until when it is left alone.
    rests_until: Mutex<Option<Instant>>,
}

impl Replica {
    pub(super) fn new(database: &Database, servers: Servers) -> Self {
        Self {
            pools: Pools::new(database, &servers, "replica"),
            servers,
            rests_until: Mutex::default(),
        }
    }

    /// Takes a connection for one call.
    pub(super) async fn begin(
        &self,
        database: &Database,
        what: &'static str,
    ) -> Result<Reading<'_>, StoreError> {
        self.pools.begin(database, &self.servers, what).await
    }

    /// What the call has found, which reads from here; `None` where the primary has to be asked.
    pub(super) async fn found<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<T> {
        if self
            .rests_until()
            .is_some_and(|until| Instant::now() < until)
        {
            return None;
        }
        let found = timeout(PATIENCE, call).await;
        let found = found.unwrap_or(Err(StoreError::TimedOut("the replica")));
        match found {
            Ok(found) => {
                if self.rests_until().take().is_some() {
                    tracing::info!("the replica is read from again");
                }
                Some(found)
            }
            Err(error) => {
                let was_well = self.rests_until().replace(Instant::now() + REST).is_none();
                if was_well {
                    tracing::warn!(
                        error = error.on_one_line(),
                        "the replica does not answer, reading from the primary"
                    );
                }
                None
            }
        }
    }

    pub(super) async fn close(&self) {
        self.pools.close().await;
    }

    fn rests_until(&self) -> MutexGuard<'_, Option<Instant>> {
        // Nothing panics while it is locked.
        self.rests_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
