//! The StatsActor: aggregates what the shards have done, and reads the counters of all replicas
//! from the database, at most once in an interval, however many ask.
//!
//! Refused events are counted here first and added to the database's counter before each reading,
//! and every second: a crash of the process may lose the last second of them, nothing else.

use super::{
    messages::{Committed, Crash},
    status::ActorStatus,
};
use crate::{
    domain::Rejection,
    metrics::{SizeHistogram, TimeHistogram},
    store::{EventReader, StoreError, Totals},
};
use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, Supervised, WrapFuture,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

/// How often refused events reach the database while nobody asks for the counters.
const REJECTED_FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// The counters are out of reach with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the counters cannot be read")]
pub struct StatsError;

type TotalsReply = oneshot::Sender<Result<Totals, StatsError>>;

/// What this process has done since it was started.
#[derive(Debug, Default)]
pub struct LocalCounts {
    /// Events stored.
    pub stored: AtomicU64,
    /// Repeats dropped, conflicts among them.
    pub duplicates: AtomicU64,
    /// Repeats that said something else.
    pub conflicts: AtomicU64,
    /// Events taken by the broker in the place of the database.
    pub queued: AtomicU64,
    /// Events that validation refused, in the order of [`Rejection::ALL`].
    rejected: [AtomicU64; Rejection::ALL.len()],
    /// Events of each committed transaction.
    pub group_events: SizeHistogram,
    /// From its take-off to its commit.
    pub commit_times: TimeHistogram,
}

impl LocalCounts {
    /// Events that validation refused for this.
    pub fn rejected(&self, rejection: Rejection) -> u64 {
        self.rejected[rejection as usize].load(Ordering::Relaxed)
    }
}

/// Refused events that the database does not know of yet. Outside the actor, so that neither a
/// crash of the actor nor a lost answer of the database changes the count.
#[derive(Debug, Default)]
struct RejectedLedger {
    events: AtomicU64,
    /// Whoever flushes holds it until the database has answered, so that a reading of the counters
    /// does not fall between the taking and the adding.
    turn: tokio::sync::Mutex<()>,
}

impl RejectedLedger {
    fn add(&self, events: u64) {
        self.events.fetch_add(events, Ordering::SeqCst);
    }

    /// Brings the events into the database's counter. What fails is kept for the next time.
    async fn flush(&self, reader: &dyn EventReader) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let events = self.events.swap(0, Ordering::SeqCst);
        if events == 0 {
            return Ok(());
        }
        let result = reader.add_rejected(events).await;
        if result.is_err() {
            self.add(events);
        }
        result
    }
}

/// Flushes in a task of its own: dropped half-way, with an actor, it would lose count.
async fn flush_to_end(
    rejected: Arc<RejectedLedger>,
    reader: Arc<dyn EventReader>,
) -> Result<(), StoreError> {
    let flush = actix::spawn(async move { rejected.flush(&*reader).await });
    // The task neither panics nor is it aborted but at the end of the process.
    flush.await.unwrap_or(Ok(()))
}

/// Aggregates counters.
pub struct StatsActor {
    status: ActorStatus,
    reader: Arc<dyn EventReader>,
    interval: Duration,
    local: Arc<LocalCounts>,
    rejected: Arc<RejectedLedger>,
    waiting: Vec<TotalsReply>,
    /// Those whom the present reading will answer.
    reading: Vec<TotalsReply>,
    last_read: Option<Instant>,
    is_scheduled: bool,
}

/// A way to the StatsActor.
#[derive(Clone)]
pub struct StatsClient {
    stats: Addr<StatsActor>,
    local: Arc<LocalCounts>,
    rejected: Arc<RejectedLedger>,
    reader: Arc<dyn EventReader>,
    timeout: Duration,
}

/// Read the counters for me.
#[derive(Message)]
#[rtype(result = "()")]
struct Read(TotalsReply);

#[derive(Message)]
#[rtype(result = "()")]
struct ReadNow;

impl StatsActor {
    /// An actor that reads through `reader` at most once in `interval`.
    pub fn new(
        status: ActorStatus,
        reader: Arc<dyn EventReader>,
        interval: Duration,
        shared: &SharedCounts,
    ) -> Self {
        Self {
            status,
            reader,
            interval,
            local: Arc::clone(&shared.local),
            rejected: Arc::clone(&shared.rejected),
            waiting: Vec::new(),
            reading: Vec::new(),
            last_read: None,
            is_scheduled: false,
        }
    }

    /// Whoever asks is answered from a reading that begins after the question.
    fn schedule(&mut self, ctx: &mut Context<Self>) {
        if self.is_scheduled || !self.reading.is_empty() {
            return;
        }
        self.is_scheduled = true;
        let pause = self
            .last_read
            .map(|at| self.interval.saturating_sub(at.elapsed()))
            .unwrap_or_default();
        ctx.notify_later(ReadNow, pause);
    }

    fn read(&mut self, ctx: &mut Context<Self>) {
        self.is_scheduled = false;
        self.last_read = Some(Instant::now());
        self.reading.append(&mut self.waiting);
        let reader = Arc::clone(&self.reader);
        let rejected = Arc::clone(&self.rejected);
        let totals = async move {
            flush_to_end(rejected, Arc::clone(&reader)).await?;
            reader.totals().await
        };
        ctx.spawn(totals.into_actor(self).map(|result, actor, ctx| {
            let result = result.map_err(|error| {
                tracing::debug!(%error, "failed to read the counters");
                StatsError
            });
            for reply in actor.reading.drain(..) {
                // Whoever is gone does not need it any more.
                let _ = reply.send(result);
            }
            if !actor.waiting.is_empty() {
                actor.schedule(ctx);
            }
        }));
    }
}

/// What the actor and its clients count in together.
#[derive(Clone, Default)]
pub struct SharedCounts {
    local: Arc<LocalCounts>,
    rejected: Arc<RejectedLedger>,
}

impl StatsClient {
    /// A client that waits at most that long for the counters.
    pub fn new(
        stats: Addr<StatsActor>,
        shared: &SharedCounts,
        reader: Arc<dyn EventReader>,
        timeout: Duration,
    ) -> Self {
        Self {
            stats,
            local: Arc::clone(&shared.local),
            rejected: Arc::clone(&shared.rejected),
            reader,
            timeout,
        }
    }

    /// The counters, not older than this call.
    ///
    /// # Errors
    /// [`StatsError`] where the database is out of reach.
    pub async fn totals(&self) -> Result<Totals, StatsError> {
        let read = async {
            loop {
                let (reply, answer) = oneshot::channel();
                self.stats.do_send(Read(reply));
                // Lost with the actor's message in hand: ask again.
                if let Ok(totals) = answer.await {
                    return totals;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(self.timeout, read).await.unwrap_or(Err(StatsError))
    }

    /// What this process has done.
    pub fn local(&self) -> &LocalCounts {
        &self.local
    }

    /// Counts refused events.
    pub fn reject(&self, rejection: Rejection, events: u64) {
        self.rejected.add(events);
        self.local.rejected[rejection as usize].fetch_add(events, Ordering::Relaxed);
    }

    /// Counts events that the broker has taken in the place of the database.
    pub fn queue(&self, events: u64) {
        self.local.queued.fetch_add(events, Ordering::Relaxed);
    }

    /// Brings the last refused events into the database, before the process ends.
    pub async fn flush(&self) {
        if let Err(error) = self.rejected.flush(&*self.reader).await {
            tracing::warn!(%error, "failed to add the last refused events to their counter");
        }
    }
}

impl Actor for StatsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(REJECTED_FLUSH_INTERVAL, |actor, _| {
            let reader = Arc::clone(&actor.reader);
            let rejected = Arc::clone(&actor.rejected);
            actix::spawn(async move {
                if let Err(error) = rejected.flush(&*reader).await {
                    tracing::debug!(%error, "failed to add refused events to their counter");
                }
            });
        });
        if !self.waiting.is_empty() {
            self.schedule(ctx);
        }
    }
}

impl Supervised for StatsActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.is_scheduled = false;
        self.waiting.append(&mut self.reading);
    }
}

impl Handler<Read> for StatsActor {
    type Result = ();

    fn handle(&mut self, Read(reply): Read, ctx: &mut Context<Self>) {
        self.waiting.push(reply);
        self.schedule(ctx);
    }
}

impl Handler<ReadNow> for StatsActor {
    type Result = ();

    fn handle(&mut self, _: ReadNow, ctx: &mut Context<Self>) {
        self.read(ctx);
    }
}

impl Handler<Committed> for StatsActor {
    type Result = ();

    fn handle(&mut self, committed: Committed, _: &mut Context<Self>) {
        let add = |counter: &AtomicU64, number| counter.fetch_add(number, Ordering::Relaxed);
        add(&self.local.stored, committed.stored);
        add(&self.local.duplicates, committed.duplicates);
        add(&self.local.conflicts, committed.conflicts);
        let local = &self.local;
        local
            .group_events
            .add(committed.stored + committed.duplicates);
        local.commit_times.add(committed.took);
    }
}

impl Handler<Crash> for StatsActor {
    type Result = ();

    fn handle(&mut self, crash: Crash, ctx: &mut Context<Self>) {
        self.status.obey(crash, ctx);
    }
}
