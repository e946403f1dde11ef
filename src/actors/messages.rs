//! What actors say to each other. Each message can be lost with the actor that is handling it, so
//! each either carries a reply whose loss is noticed, or may be lost.

use super::{
    admission::Permit,
    client::AppendError,
    status::{ActorStatus, DepthGuard},
};
use crate::domain::{EventBatch, Receipt};
use actix::Message;
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// What a request is answered with.
pub(super) type AppendReply = Result<Vec<Receipt>, AppendError>;

/// A request on its way through the actors. Dropping it tells its sender, who sends it again.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) batch: Arc<EventBatch>,
    /// Held until the request is answered or given up.
    _permit: Arc<Permit>,
    reply: oneshot::Sender<AppendReply>,
    depth: DepthGuard,
}

impl Job {
    pub(super) fn new(
        batch: Arc<EventBatch>,
        permit: Arc<Permit>,
        reply: oneshot::Sender<AppendReply>,
        at: &ActorStatus,
    ) -> Self {
        Self {
            depth: at.count_in(batch.events().len()),
            batch,
            _permit: permit,
            reply,
        }
    }

    /// Counts the job with the actor that it goes to, no longer with the one that it comes from.
    pub(super) fn hand_over(&mut self, to: &ActorStatus) {
        self.depth = to.count_in(self.batch.events().len());
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    pub(super) fn answer(self, reply: AppendReply) {
        // Whoever gave up waiting has had an answer that sends it here again.
        let _ = self.reply.send(reply);
    }
}

/// Store this request.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Append(pub(super) Job);

/// A group has been committed.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct Committed {
    pub(super) stored: u64,
    pub(super) duplicates: u64,
    pub(super) conflicts: u64,
    pub(super) took: Duration,
}

/// Die, to show that nothing is lost by it.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Crash {
    /// Which life of the actor is meant: a message that waited through a restart hits nobody.
    pub incarnation: u64,
    /// How.
    pub mode: CrashMode,
    /// When; only persist actors and retention know more than [`CrashPoint::Now`].
    pub at: CrashPoint,
}

/// How an actor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashMode {
    /// A real panic.
    Panic,
    /// It stops itself, as actors may.
    Stop,
}

/// The moment at which an actor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// In the handler of the message, whatever else goes on.
    Now,
    /// As soon as no transaction is in flight.
    Idle,
    /// Within the next transaction, when it has been sent and is not answered.
    BeforeCommit,
    /// After the next commit has succeeded and before anybody was told.
    AfterCommit,
}

impl CrashPoint {
    /// The name in requests and in what is said of the actor afterwards.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::Idle => "idle",
            Self::BeforeCommit => "before-commit",
            Self::AfterCommit => "after-commit",
        }
    }
}
