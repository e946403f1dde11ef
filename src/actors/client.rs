//! What HTTP and the bridge hold of the actors: append a request, wait for its receipts.

use super::{
    admission::{Admission, Permit},
    ingest::{IngestActor, shard_of},
    messages::{Append, Job},
    status::ActorStatus,
};
use crate::domain::{EventBatch, Receipt};
use actix::Addr;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

/// Before a request is sent again that died with an actor.
const RESEND_PAUSE: Duration = Duration::from_millis(2);

/// Why a request has no receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The database did not commit it in time. It may still do so: sent again, the same request
    /// finds out.
    #[error("the database did not answer in time")]
    TimedOut,
    /// The database will never take it, though validation let it pass: a bug of ours.
    #[error("the database refused the data")]
    Refused,
}

/// A way to the IngestActor.
#[derive(Clone)]
pub struct IngestClient {
    ingest: Addr<IngestActor>,
    status: ActorStatus,
    shards: Arc<[ActorStatus]>,
    admission: Admission,
    timeout: Duration,
}

impl IngestClient {
    /// A client whose requests wait at most that long for their receipts.
    pub fn new(
        ingest: Addr<IngestActor>,
        status: ActorStatus,
        shards: Vec<ActorStatus>,
        admission: Admission,
        timeout: Duration,
    ) -> Self {
        Self {
            ingest,
            status,
            shards: shards.into(),
            admission,
            timeout,
        }
    }

    /// The door that requests have to pass first.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The moment at which a request that came in now has to be answered.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// How long the shard of a request has been without its database; `None` where it has it.
    pub fn outage(&self, batch: &EventBatch) -> Option<Duration> {
        self.shards[shard_of(batch, self.shards.len())].disconnected_for()
    }

    /// Stores a request; returns after the commit, one receipt an event.
    ///
    /// # Errors
    /// [`AppendError`]; after [`AppendError::TimedOut`] the request may have been stored.
    pub async fn append(
        &self,
        batch: Arc<EventBatch>,
        permit: Permit,
        deadline: Instant,
    ) -> Result<Vec<Receipt>, AppendError> {
        let permit = Arc::new(permit);
        loop {
            let (reply, answer) = oneshot::channel();
            self.ingest.do_send(Append(Job::new(
                Arc::clone(&batch),
                Arc::clone(&permit),
                reply,
                &self.status,
            )));
            match timeout_at(deadline, answer).await {
                Ok(Ok(reply)) => return reply,
                // An actor died with it in hand, before it was anywhere in the store.
                Ok(Err(_)) if Instant::now() < deadline => sleep(RESEND_PAUSE).await,
                Ok(Err(_)) | Err(_) => return Err(AppendError::TimedOut),
            }
        }
    }
}
