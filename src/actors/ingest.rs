//! The IngestActor: chooses the shard of each request. Between the clients and the persist actors;
//! keeps nothing, so a crash costs at most the request in hand, whose sender notices and sends it
//! again.

use super::{
    messages::{Append, Crash},
    persist::PersistActor,
    status::ActorStatus,
};
use crate::domain::{EventBatch, Topic};
use actix::{Actor, Addr, Context, Handler, Supervised};

/// Routes requests to shards.
pub struct IngestActor {
    status: ActorStatus,
    shards: Vec<(Addr<PersistActor>, ActorStatus)>,
}

impl IngestActor {
    /// An actor that routes to these shards.
    pub fn new(status: ActorStatus, shards: Vec<(Addr<PersistActor>, ActorStatus)>) -> Self {
        Self { status, shards }
    }
}

impl Actor for IngestActor {
    type Context = Context<Self>;
}

impl Supervised for IngestActor {}

impl Handler<Append> for IngestActor {
    type Result = ();

    fn handle(&mut self, Append(mut job): Append, _: &mut Context<Self>) {
        let (shard, status) = &self.shards[shard_of(&job.batch, self.shards.len())];
        job.hand_over(status);
        shard.do_send(Append(job));
    }
}

impl Handler<Crash> for IngestActor {
    type Result = ();

    fn handle(&mut self, crash: Crash, ctx: &mut Context<Self>) {
        self.status.obey(crash, ctx);
    }
}

/// A request is never split: it goes whole to the shard of its first event's topic.
pub(super) fn shard_of(batch: &EventBatch, shards: usize) -> usize {
    let hash = fnv1a(batch.first().topic());
    usize::try_from(hash % shards.max(1) as u64).unwrap_or_default()
}

/// FNV-1a, 64 bits: <http://www.isthe.com/chongo/tech/comp/fnv/>. It is only there to spread topics
/// evenly; that it is the same in every process makes logs easier to read.
fn fnv1a(topic: &Topic) -> u64 {
    topic
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}
