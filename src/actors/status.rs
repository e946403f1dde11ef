//! What is known of each actor from outside: its state, its restarts, what waits for it. Written by
//! the supervisor and the actors, read by HTTP.

use super::messages::{Crash, CrashMode, CrashPoint};
use crate::domain::Timestamp;
use actix::{Actor, ActorContext, Context, Recipient};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};
use tokio::time::{Duration, Instant};

/// The kinds of actors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorKind {
    /// Chooses the shard of each request.
    Ingest,
    /// Writes one shard's requests.
    Persist,
    /// Aggregates counters.
    Stats,
    /// Reads the broker's stream.
    RedisBridge,
    /// Drops what has expired.
    Retention,
}

impl ActorKind {
    /// The name in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Persist => "persist",
            Self::Stats => "stats",
            Self::RedisBridge => "redis-bridge",
            Self::Retention => "retention",
        }
    }
}

/// Whether an actor is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorState {
    /// It handles its messages.
    Running,
    /// It has ended and will be started again after a pause.
    Restarting,
    /// It has ended too often in a row. It is still started again, at the longest pause.
    Failed,
}

impl ActorState {
    /// The name in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
        }
    }
}

/// An actor's status, shared by all who write or read it.
#[derive(Debug, Clone)]
pub struct ActorStatus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: String,
    kind: ActorKind,
    shard: Option<usize>,
    messages: AtomicUsize,
    events: AtomicUsize,
    /// Since when it lacks what it needs from outside: its database connection, its broker.
    disconnected_since: Mutex<Option<Instant>>,
    life: Mutex<Life>,
}

#[derive(Debug)]
struct Life {
    incarnation: u64,
    is_up: bool,
    /// Restarts since it was last healthy for a while.
    restarts_in_a_row: u32,
    is_failed: bool,
    healthy_at: Instant,
    started_at: Timestamp,
    last_failure: Option<Failure>,
}

#[derive(Debug, Clone)]
struct Failure {
    reason: String,
    at: Timestamp,
}

/// What `/admin/actors` says of an actor.
#[derive(Debug, Clone)]
pub struct ActorView {
    /// Its name, unique in the process.
    pub name: String,
    /// Its kind.
    pub kind: ActorKind,
    /// The shard it writes, for persist actors.
    pub shard: Option<usize>,
    /// Whether it is at work.
    pub state: ActorState,
    /// How often it was started again.
    pub restarts: u64,
    /// When its present life began.
    pub started_at: Timestamp,
    /// Why and when its last life ended.
    pub last_failure: Option<(String, Timestamp)>,
    /// Messages that wait for it or for its transaction.
    pub mailbox_depth: usize,
    /// Whether it reaches what it needs.
    pub is_connected: bool,
}

impl ActorStatus {
    /// The status of an actor that is about to be started for the first time.
    pub fn new(kind: ActorKind, shard: Option<usize>) -> Self {
        let name = match shard {
            Some(shard) => format!("{}-{shard}", kind.as_str()),
            None => kind.as_str().to_owned(),
        };
        Self(Arc::new(Shared {
            name,
            kind,
            shard,
            messages: AtomicUsize::new(0),
            events: AtomicUsize::new(0),
            disconnected_since: Mutex::new(match kind {
                ActorKind::Ingest | ActorKind::Stats | ActorKind::Retention => None,
                ActorKind::Persist | ActorKind::RedisBridge => Some(Instant::now()),
            }),
            life: Mutex::new(Life {
                incarnation: 0,
                is_up: false,
                restarts_in_a_row: 0,
                is_failed: false,
                healthy_at: Instant::now(),
                started_at: Timestamp::now(),
                last_failure: None,
            }),
        }))
    }

    /// The actor's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The actor's kind.
    pub fn kind(&self) -> ActorKind {
        self.0.kind
    }

    /// Which life the actor is in, counted from 0.
    pub fn incarnation(&self) -> u64 {
        self.life().incarnation
    }

    /// Its state now.
    pub fn state(&self) -> ActorState {
        let life = self.life();
        let is_proven = life.is_up && Instant::now() >= life.healthy_at;
        match (life.is_up, life.is_failed && !is_proven) {
            (_, true) => ActorState::Failed,
            (true, false) => ActorState::Running,
            (false, false) => ActorState::Restarting,
        }
    }

    /// Whether it is down at this moment, waiting for its restart.
    pub fn is_down(&self) -> bool {
        !self.life().is_up
    }

    /// Whether it reaches the database or the broker that it needs.
    pub fn is_connected(&self) -> bool {
        self.disconnected_for().is_none()
    }

    /// How long it has not reached what it needs; `None` where it does.
    pub fn disconnected_for(&self) -> Option<Duration> {
        let since = &self.0.disconnected_since;
        let since = since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed())
    }

    /// Says whether it reaches what it needs.
    pub fn set_connected(&self, is_connected: bool) {
        let since = &self.0.disconnected_since;
        let mut since = since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = match *since {
            _ if is_connected => None,
            None => Some(Instant::now()),
            earlier => earlier,
        };
    }

    /// Events that wait for it or for its transaction.
    pub fn events_waiting(&self) -> usize {
        self.0.events.load(Ordering::Relaxed)
    }

    /// All of it, for show.
    pub fn view(&self) -> ActorView {
        let state = self.state();
        let life = self.life();
        ActorView {
            name: self.0.name.clone(),
            kind: self.0.kind,
            shard: self.0.shard,
            state,
            restarts: life.incarnation,
            started_at: life.started_at,
            last_failure: life
                .last_failure
                .clone()
                .map(|failure| (failure.reason, failure.at)),
            mailbox_depth: self.mailbox_depth(),
            is_connected: self.is_connected(),
        }
    }

    /// Requests that wait with this actor or are in its hands.
    pub(super) fn mailbox_depth(&self) -> usize {
        self.0.messages.load(Ordering::Relaxed)
    }

    /// Counts a request with this actor for as long as the guard lives.
    pub(super) fn count_in(&self, events: usize) -> DepthGuard {
        self.0.messages.fetch_add(1, Ordering::Relaxed);
        self.0.events.fetch_add(events, Ordering::Relaxed);
        DepthGuard {
            status: self.clone(),
            events,
        }
    }

    /// A life begins; it counts as healthy after that long.
    pub(super) fn has_started(&self, healthy_after: Duration) {
        let mut life = self.life();
        life.is_up = true;
        life.started_at = Timestamp::now();
        life.healthy_at = Instant::now() + healthy_after;
    }

    /// A life has ended. Returns how many did so in a row without being healthy in between.
    pub(super) fn has_ended(&self, reason: String, restarts_max: u32) -> u32 {
        let mut life = self.life();
        if life.is_up && Instant::now() >= life.healthy_at {
            life.restarts_in_a_row = 0;
        }
        life.is_up = false;
        life.incarnation += 1;
        life.restarts_in_a_row += 1;
        life.is_failed = life.restarts_in_a_row > restarts_max;
        life.last_failure = Some(Failure {
            reason,
            at: Timestamp::now(),
        });
        life.restarts_in_a_row
    }

    /// Does what a crash message says, if it means this life.
    pub fn obey<A>(&self, crash: Crash, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>>,
    {
        if crash.incarnation != self.incarnation() {
            return;
        }
        match crash.mode {
            CrashMode::Panic => self.panic_now(crash.at),
            CrashMode::Stop => ctx.stop(),
        }
    }

    /// The real thing: unwinds through the actor, up to its supervisor.
    #[expect(clippy::panic, reason = "an operator asked for a panic")]
    pub(super) fn panic_now(&self, at: CrashPoint) -> ! {
        panic!("crashed on request ({})", at.as_str())
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        // The life is changed field by field without a panic in between, so it is whole.
        self.0.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is counted with an actor.
#[derive(Debug)]
pub(super) struct DepthGuard {
    status: ActorStatus,
    events: usize,
}

impl Drop for DepthGuard {
    fn drop(&mut self) {
        self.status.0.messages.fetch_sub(1, Ordering::Relaxed);
        self.status
            .0
            .events
            .fetch_sub(self.events, Ordering::Relaxed);
    }
}

/// All actors of the process, for those who look at them or crash them.
#[derive(Clone, Default)]
pub struct Roster(Vec<Member>);

#[derive(Clone)]
struct Member {
    status: ActorStatus,
    crash: Recipient<Crash>,
}

/// Why an actor was not crashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCrashed {
    /// There is no actor of that name.
    Unknown,
    /// It is down already.
    Restarting,
}

impl Roster {
    /// Adds an actor.
    pub fn add(&mut self, status: ActorStatus, crash: Recipient<Crash>) {
        self.0.push(Member { status, crash });
    }

    /// All of them, in the order in which they were added.
    pub fn statuses(&self) -> impl Iterator<Item = &ActorStatus> {
        self.0.iter().map(|member| &member.status)
    }

    /// Tells an actor to die.
    ///
    /// # Errors
    /// [`NotCrashed`] where there is none of that name, or it is down already.
    pub fn crash(&self, name: &str, mode: CrashMode, at: CrashPoint) -> Result<u64, NotCrashed> {
        let member = self
            .0
            .iter()
            .find(|member| member.status.name() == name)
            .ok_or(NotCrashed::Unknown)?;
        if member.status.is_down() {
            return Err(NotCrashed::Restarting);
        }
        let incarnation = member.status.incarnation();
        member.crash.do_send(Crash {
            incarnation,
            mode,
            at,
        });
        Ok(incarnation)
    }
}
