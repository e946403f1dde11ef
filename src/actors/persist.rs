//! The PersistActor: stores one shard's requests in groups, one transaction at a time. Between the
//! IngestActor and the store's writer.
//!
//! Group commit without a timer: what arrives while a transaction is in flight waits, and goes into
//! the next one together. Under light load a group is one request, under heavy load groups grow by
//! themselves. Small groups take turns, and take along what waits at other shards (see [`Turns`]).
//!
//! All work lives in the actor's fields, not in its futures. A panic at any point leaves the
//! requests in `queue`, `retries` or `flight`; after the restart the flight is settled (did it
//! commit?) and goes on. So a crash is a wait for those who are in flight, and nothing else.

mod reach;
mod transaction;

use self::{
    reach::Reach,
    transaction::{sabotage, store_group},
};
use super::{
    client::AppendError,
    messages::{Append, Committed, Crash, CrashPoint, Job},
    queue::{Group, LARGE_GROUP_EVENTS, Queue},
    stats::StatsActor,
    status::ActorStatus,
    turns::{Turn, Turns},
};
use crate::{
    domain::{EventBatch, Outcome},
    store::{EventWriter, GroupReceipts, StoreError, TxnId, WriterSource},
};
use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, Supervised, WrapFuture,
};
use std::{cell::Cell, collections::VecDeque, mem, rc::Rc, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The most that goes into one transaction. A single request may be larger and then goes alone.
#[derive(Debug, Clone, Copy)]
pub struct GroupLimits {
    /// Events.
    pub events_max: usize,
    /// Bytes of their texts.
    pub bytes_max: usize,
}

/// The numbers of a persist actor.
#[derive(Debug, Clone, Copy)]
pub struct PersistSettings {
    /// What one transaction may hold.
    pub group: GroupLimits,
    /// Before the second attempt to reconnect (the first is made at once); doubles up to the next.
    pub reconnect_pause_min: Duration,
    /// The longest pause between two attempts.
    pub reconnect_pause_max: Duration,
}

/// The longest that they wait: about one transaction with a fast disk.
const TURN_PATIENCE: Duration = Duration::from_millis(2);
/// After a transaction that lost against another one: both try again, not at the same moment.
const CONTENTION_PAUSE_MAX_MS: u64 = 10;

/// Stores one shard's requests.
pub struct PersistActor {
    shard: usize,
    status: ActorStatus,
    settings: PersistSettings,
    writers: Arc<dyn WriterSource>,
    turns: Turns,
    stats: Addr<StatsActor>,
    link: Link,
    reach: Reach,
    /// Requests that wait.
    queue: Queue,
    /// Parts of a group that failed as a whole; each is tried before the queue.
    retries: VecDeque<Vec<Job>>,
    /// The group of the present transaction.
    flight: Option<Flight>,
    is_flush_scheduled: bool,
    is_waiting_for_turn: bool,
    /// For the group that is about to start.
    turn: Option<Turn>,
    sabotage: Option<Crash>,
}

/// The connection, and who has it.
enum Link {
    Down,
    Connecting,
    Idle(Box<dyn EventWriter>),
    /// It is with the transaction's future.
    Busy,
}

/// A group that is on its way into the database.
struct Flight {
    jobs: Vec<Job>,
    group: Arc<[Arc<EventBatch>]>,
    /// Set before the transaction is sent, so that after a crash it can be asked for.
    txn: Rc<Cell<Option<TxnId>>>,
    took_off: Instant,
}

impl Flight {
    fn new(jobs: Vec<Job>) -> Self {
        Self {
            group: jobs.iter().map(|job| Arc::clone(&job.batch)).collect(),
            jobs,
            txn: Rc::new(Cell::new(None)),
            took_off: Instant::now(),
        }
    }
}

/// Let the mailbox drain first, then take what has come together.
#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

impl PersistActor {
    /// The actor of a shard. It connects when it is started.
    pub fn new(
        shard: usize,
        status: ActorStatus,
        settings: PersistSettings,
        writers: Arc<dyn WriterSource>,
        turns: Turns,
        stats: Addr<StatsActor>,
    ) -> Self {
        Self {
            shard,
            reach: Reach::new(shard, status.clone()),
            status,
            settings,
            writers,
            stats,
            link: Link::Down,
            queue: turns.queue(shard),
            retries: VecDeque::new(),
            flight: None,
            is_flush_scheduled: false,
            is_waiting_for_turn: false,
            turn: None,
            sabotage: None,
            turns,
        }
    }

    /// Starts whatever can be started: a connection, or the next transaction.
    fn proceed(&mut self, ctx: &mut Context<Self>) {
        match self.link {
            Link::Down => return self.connect(ctx),
            Link::Connecting | Link::Busy => return,
            Link::Idle(_) => {}
        }
        self.drop_abandoned_flight();
        if self.flight.is_none() {
            if !self.may_start(ctx) {
                return;
            }
            self.flight = self.next_group().map(Flight::new);
        }
        let turn = self.turn.take();
        let Some(flight) = &self.flight else {
            self.reach.has_nothing_to_store();
            return self.crash_if_idle(ctx);
        };
        let Link::Idle(writer) = mem::replace(&mut self.link, Link::Busy) else {
            return;
        };
        let crash = self.sabotage.take();
        self.queue.reserve(false);
        let status = self.status.clone();
        let group = Arc::clone(&flight.group);
        let txn = Rc::clone(&flight.txn);
        let transaction = async move {
            let mut writer = writer;
            let sabotage = |point| sabotage(&status, crash, point);
            let result = store_group(&mut *writer, &group, &txn, sabotage).await;
            (writer, turn, result)
        };
        ctx.spawn(
            transaction
                .into_actor(self)
                .map(|(writer, turn, result), actor, ctx| {
                    // Still its turn, if it was: to wait for it again would cost a moment in which nothing
                    // is stored.
                    actor.turn = turn.filter(Turn::is_due);
                    actor.land(writer, result, ctx);
                    actor.turn = None;
                }),
        );
    }

    /// Whether what waits may go now; else it will, when its turn comes or when it has become large.
    fn may_start(&mut self, ctx: &mut Context<Self>) -> bool {
        let is_small = !self.queue.has(LARGE_GROUP_EVENTS);
        if self.turn.is_some() || !is_small || self.queue.is_empty() || !self.retries.is_empty() {
            return true;
        }
        self.turn = self.turns.take_now();
        if self.turn.is_none() && !self.is_waiting_for_turn {
            self.is_waiting_for_turn = true;
            let turn = self.turns.clone().take(TURN_PATIENCE);
            ctx.spawn(turn.into_actor(self).map(|turn, actor, ctx| {
                actor.is_waiting_for_turn = false;
                // Those who wait now may have come later, the first ones gone along with others.
                if turn.is_due() || actor.queue.has_waited(TURN_PATIENCE) {
                    actor.turn = Some(turn);
                }
                actor.proceed(ctx);
                // Not needed any more, if it is still there.
                actor.turn = None;
            }));
        }
        self.turn.is_some()
    }

    /// The transaction has ended, one way or another.
    fn land(
        &mut self,
        writer: Box<dyn EventWriter>,
        result: Result<GroupReceipts, StoreError>,
        ctx: &mut Context<Self>,
    ) {
        match result {
            Ok(receipts) => {
                self.link = Link::Idle(writer);
                self.reach.has_stored();
                self.answer(receipts);
                self.proceed(ctx);
            }
            Err(error @ StoreError::Contention(_)) => {
                self.link = Link::Idle(writer);
                let time = self.flight.as_ref().map(|flight| flight.took_off.elapsed());
                if self.reach.has_lost_to_another(&error, time) {
                    self.queue.drop_abandoned();
                }
                let pause = rand::random_range(1..=CONTENTION_PAUSE_MAX_MS);
                ctx.run_later(Duration::from_millis(pause), Self::proceed);
            }
            Err(error @ StoreError::Refused(_)) => {
                self.link = Link::Idle(writer);
                self.split(&error);
                self.proceed(ctx);
            }
            Err(error) => {
                drop(writer);
                self.lose_connection(&error, ctx);
            }
        }
    }

    fn answer(&mut self, receipts: GroupReceipts) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let count = |outcome: Outcome| {
            let all = receipts.iter().flatten();
            all.filter(|receipt| receipt.outcome == outcome).count() as u64
        };
        let conflicts = count(Outcome::Conflict);
        self.stats.do_send(Committed {
            stored: count(Outcome::Stored),
            duplicates: count(Outcome::Duplicate) + conflicts,
            conflicts,
            took: flight.took_off.elapsed(),
        });
        let is_small = receipts.iter().flatten().count() < LARGE_GROUP_EVENTS;
        let answer = move || {
            for (job, receipts) in flight.jobs.into_iter().zip(receipts) {
                job.answer(Ok(receipts));
            }
        };
        if is_small {
            // The next one, of whoever has the turn now, goes to the database before those who are answered
            // take the processors. A crash of this actor does not concern a task of its own.
            actix::spawn(async move { answer() });
        } else {
            answer();
        }
    }

    /// The database will not take something in the group. Halved again and again, the culprit ends
    /// up alone and its neighbours are stored.
    fn split(&mut self, error: &StoreError) {
        let Some(mut flight) = self.flight.take() else {
            return;
        };
        if flight.jobs.len() > 1 {
            let second_half = flight.jobs.split_off(flight.jobs.len() / 2);
            self.retries.push_front(second_half);
            self.retries.push_front(flight.jobs);
            return;
        }
        tracing::error!(
            shard = self.shard,
            error = error.on_one_line(),
            "database refused a validated request"
        );
        for job in flight.jobs {
            job.answer(Err(AppendError::Refused));
        }
    }

    /// The group of the next transaction: a part that failed before, or what waits, up to the limits.
    fn next_group(&mut self) -> Option<Vec<Job>> {
        while let Some(mut part) = self.retries.pop_front() {
            part.retain(|job| !job.is_abandoned());
            if !part.is_empty() {
                return Some(part);
            }
        }
        let mut group = Group::new(self.settings.group);
        self.queue.move_into(&mut group);
        if group.events() >= LARGE_GROUP_EVENTS {
            self.turn = None;
        } else if self.turn.is_some() {
            self.turns.take_along(&mut group);
            group
                .jobs_mut()
                .iter_mut()
                .for_each(|job| job.hand_over(&self.status));
        }
        let jobs = group.into_jobs();
        (!jobs.is_empty()).then_some(jobs)
    }

    /// A group that nobody waits for, and that is certainly not stored, need not be tried again:
    /// its senders were told to send it again. But while nothing can be stored and nobody waits, one
    /// request of it stays, to find out when that is over; to store it is no fault.
    fn drop_abandoned_flight(&mut self) {
        let Some(flight) = self.flight.take_if(|flight| flight.txn.get().is_none()) else {
            return;
        };
        let mut jobs = flight.jobs;
        let mut all = self.retries.iter().flatten().chain(&jobs);
        if self.reach.is_refuted() && all.all(Job::is_abandoned) && self.queue.is_abandoned() {
            jobs.truncate(1);
        } else {
            jobs.retain(|job| !job.is_abandoned());
        }
        if !jobs.is_empty() {
            self.flight = Some(Flight::new(jobs));
        }
    }

    fn connect(&mut self, ctx: &mut Context<Self>) {
        self.link = Link::Connecting;
        let writers = Arc::clone(&self.writers);
        let shard = self.shard;
        let connection = async move { writers.connect(shard).await };
        ctx.spawn(
            connection
                .into_actor(self)
                .map(|result, actor, ctx| match result {
                    Ok(writer) => actor.has_connected(writer, ctx),
                    Err(error) => actor.has_not_connected(&error, ctx),
                }),
        );
    }

    fn has_connected(&mut self, writer: Box<dyn EventWriter>, ctx: &mut Context<Self>) {
        self.link = Link::Idle(writer);
        self.reach.has_connected();
        self.proceed(ctx);
    }

    fn has_not_connected(&mut self, error: &StoreError, ctx: &mut Context<Self>) {
        self.link = Link::Connecting;
        let settings = self.settings;
        let doublings = self.reach.has_failed(error).min(16);
        let pause =
            (settings.reconnect_pause_min * (1 << doublings)).min(settings.reconnect_pause_max);
        // Their senders have had a 503: what waits on must not hold their permits.
        self.queue.drop_abandoned();
        ctx.run_later(pause, Self::connect);
    }

    fn lose_connection(&mut self, error: &StoreError, ctx: &mut Context<Self>) {
        if !self.reach.has_lost(error) {
            return self.has_not_connected(error, ctx);
        }
        self.link = Link::Down;
        self.connect(ctx);
    }

    fn crash_if_idle(&mut self, ctx: &mut Context<Self>) {
        if let Some(crash) = self.sabotage.take_if(|crash| crash.at == CrashPoint::Idle) {
            self.status.obey(crash, ctx);
        }
    }
}

impl Actor for PersistActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.proceed(ctx);
    }
}

impl Supervised for PersistActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        // All futures are gone, and with them a connection that was busy or being made. A flight
        // stays: `proceed` settles it before anything else.
        self.is_flush_scheduled = false;
        self.is_waiting_for_turn = false;
        self.turn = None;
        self.sabotage = None;
        self.queue.reserve(false);
        if !matches!(self.link, Link::Idle(_)) {
            self.link = Link::Down;
        }
    }
}

impl Handler<Append> for PersistActor {
    type Result = ();

    fn handle(&mut self, Append(job): Append, ctx: &mut Context<Self>) {
        self.queue.push(job);
        if !self.is_flush_scheduled && self.flight.is_none() && matches!(self.link, Link::Idle(_)) {
            self.is_flush_scheduled = true;
            ctx.notify(Flush);
        }
    }
}

impl Handler<Flush> for PersistActor {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Context<Self>) {
        self.is_flush_scheduled = false;
        self.proceed(ctx);
    }
}

impl Handler<Crash> for PersistActor {
    type Result = ();

    fn handle(&mut self, crash: Crash, ctx: &mut Context<Self>) {
        if crash.at == CrashPoint::Now {
            return self.status.obey(crash, ctx);
        }
        if crash.incarnation == self.status.incarnation() {
            self.sabotage = Some(crash);
            // Its next transaction is to be one, and not that of another actor.
            self.queue.reserve(true);
            self.proceed(ctx);
        }
    }
}
