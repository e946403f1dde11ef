//! The RedisBridgeActor: keeps a session with each stream of the broker, which hands what it reads to
//! the actors.

use super::{
    entry::EntryLimit,
    names::StreamNames,
    nodes::BrokerNodes,
    session::{BATCHES_IN_FLIGHT_MAX, Session},
};
use crate::actors::{ActorStatus, Crash, DeadLetterClient, IngestClient};
use actix::{Actor, AsyncContext, Context, Handler, Message, Supervised, WrapFuture};
use futures_util::future::join_all;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

/// The numbers and names of the bridge.
#[derive(Debug, Clone)]
pub struct BridgeSettings {
    /// What is read; at least one.
    pub streams: Vec<StreamNames>,
    /// An entry that another consumer has held for that long without acknowledging it is taken
    /// over. Looked for twice in that time.
    pub takeover_after: Duration,
    /// A larger entry becomes a dead letter, and is not appended either.
    pub entry_limit: EntryLimit,
}

/// Reads the broker's streams.
pub struct RedisBridgeActor {
    status: ActorStatus,
    bridge: Arc<Bridge>,
}

/// What the sessions share.
pub(super) struct Bridge {
    status: ActorStatus,
    pub(super) nodes: BrokerNodes,
    pub(super) settings: BridgeSettings,
    pub(super) ingest: IngestClient,
    pub(super) dead_letters: DeadLetterClient,
    pub(super) entries_in_flight: Arc<AtomicUsize>,
    pub(super) is_paused: AtomicBool,
    /// One for each batch that is being stored, given in the order in which they are asked for.
    pub(super) turns: Semaphore,
    streams_connected: AtomicUsize,
}

/// Begin nothing new: the process is going down. What is in flight is stored and acknowledged;
/// what was read and not begun stays pending, for the next start or another consumer.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Pause;

impl RedisBridgeActor {
    /// An actor that connects when it is started. `entries_in_flight` counts the entries that are
    /// being stored, which are both in the stream and in the actors.
    pub fn new(
        status: ActorStatus,
        nodes: BrokerNodes,
        settings: BridgeSettings,
        ingest: IngestClient,
        dead_letters: DeadLetterClient,
        entries_in_flight: Arc<AtomicUsize>,
    ) -> Self {
        let bridge = Bridge {
            status: status.clone(),
            nodes,
            settings,
            ingest,
            dead_letters,
            entries_in_flight,
            is_paused: AtomicBool::new(false),
            turns: Semaphore::new(BATCHES_IN_FLIGHT_MAX),
            streams_connected: AtomicUsize::new(0),
        };
        Self {
            status,
            bridge: Arc::new(bridge),
        }
    }
}

impl Actor for RedisBridgeActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // Everything that must survive is pending in Redis, so the sessions may die with the actor.
        let bridge = Arc::clone(&self.bridge);
        ctx.spawn(async move { bridge.run().await }.into_actor(self));
    }
}

impl Supervised for RedisBridgeActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.status.set_connected(false);
    }
}

impl Handler<Crash> for RedisBridgeActor {
    type Result = ();

    fn handle(&mut self, crash: Crash, ctx: &mut Context<Self>) {
        self.status.obey(crash, ctx);
    }
}

impl Handler<Pause> for RedisBridgeActor {
    type Result = ();

    fn handle(&mut self, _: Pause, _: &mut Context<Self>) {
        self.bridge.is_paused.store(true, Ordering::Relaxed);
    }
}

impl Bridge {
    /// A session with each stream, for ever.
    async fn run(&self) {
        let sessions = self.settings.streams.iter().map(|names| async move {
            let session = Session {
                bridge: self,
                names,
            };
            session.keep_up().await
        });
        join_all(sessions).await;
    }

    /// One stream more is connected, for as long as this lives. The bridge is when all are.
    pub(super) fn connected(&self) -> Connected<'_> {
        let connected = self.streams_connected.fetch_add(1, Ordering::Relaxed) + 1;
        if connected == self.settings.streams.len() {
            self.status.set_connected(true);
        }
        Connected { bridge: self }
    }
}

/// See [`Bridge::connected`].
pub(super) struct Connected<'a> {
    bridge: &'a Bridge,
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.bridge
            .streams_connected
            .fetch_sub(1, Ordering::Relaxed);
        self.bridge.status.set_connected(false);
    }
}
