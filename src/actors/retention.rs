//! The RetentionActor: now and then goes through what has expired and has it dropped, a small transaction
//! at a time. Beside the way of an event, on a connection of its own; nobody waits for it.
//!
//! How far it has come stands in the database, written with what was dropped. So a crash at any point costs
//! the batch in hand, which the next life looks at again, and nothing is done or counted twice.

use super::{
    messages::{Crash, CrashPoint},
    status::ActorStatus,
};
use crate::{
    domain::RetentionRules,
    store::{Expired, ExpiredBatch, RetentionRun, RetentionStore, StoreError},
};
use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, Supervised, WrapFuture,
};
use std::{cell::Cell, future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Duration};
use tokio::time::{Instant, sleep};

/// After each batch it rests as long as that took, so that it has half of a connection at most, but not longer
/// than this.
const REST_MAX: Duration = Duration::from_secs(1);
/// After a run that failed; twice as long after each further one.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest of these pauses.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// What a retention actor is to do.
#[derive(Debug, Clone)]
pub struct RetentionSettings {
    /// What is kept of what.
    pub rules: Arc<RetentionRules>,
    /// When dead letters are deleted; `None` = never.
    pub dead_letter_age: Option<Duration>,
    /// Between the end of a run and the next one.
    pub interval: Duration,
    /// The most rows that it looks at, and changes in one transaction.
    pub batch_rows_max: u32,
}

/// Drops what has expired.
pub struct RetentionActor {
    status: ActorStatus,
    store: Arc<dyn RetentionStore>,
    settings: RetentionSettings,
    /// Rows of the next batch: half as many after a failure, which may be for lack of time.
    batch_rows: Rc<Cell<u32>>,
    sabotage: Rc<Cell<Option<Crash>>>,
    is_running: bool,
    next_run: Option<SpawnHandle>,
    /// Runs that have failed since one came to its end.
    failed_runs: u32,
}

impl RetentionActor {
    /// An actor that begins its first run when it is started.
    pub fn new(
        status: ActorStatus,
        store: Arc<dyn RetentionStore>,
        settings: RetentionSettings,
    ) -> Self {
        Self {
            status,
            store,
            batch_rows: Rc::new(Cell::new(settings.batch_rows_max)),
            settings,
            sabotage: Rc::default(),
            is_running: false,
            next_run: None,
            failed_runs: 0,
        }
    }

    fn run(&mut self, ctx: &mut Context<Self>) {
        if let Some(planned) = self.next_run.take() {
            ctx.cancel_future(planned);
        }
        if self.is_running {
            return;
        }
        self.is_running = true;
        let (store, settings) = (Arc::clone(&self.store), self.settings.clone());
        let batch_rows = Rc::clone(&self.batch_rows);
        let (status, crash) = (self.status.clone(), Rc::clone(&self.sabotage));
        let run = async move {
            let sabotage = |point| sabotage(&status, &crash, point);
            go_through(&*store, &settings, &batch_rows, sabotage).await
        };
        ctx.spawn(
            run.into_actor(self)
                .map(|result, actor, ctx| actor.has_run(result, ctx)),
        );
    }

    fn has_run(&mut self, result: Result<Expired, StoreError>, ctx: &mut Context<Self>) {
        self.is_running = false;
        let pause = match result {
            Ok(expired) => {
                self.failed_runs = 0;
                self.status.set_connected(true);
                if expired != Expired::default() {
                    tracing::info!(
                        payloads_dropped = expired.payloads_dropped,
                        events_deleted = expired.events_deleted,
                        dead_letters_deleted = expired.dead_letters_deleted,
                        "dropped what has expired",
                    );
                }
                self.settings.interval
            }
            Err(error) => {
                self.status.set_connected(false);
                if self.failed_runs == 0 {
                    let error = error.on_one_line();
                    tracing::warn!(error, "failed to drop what has expired, trying again");
                }
                self.batch_rows.set((self.batch_rows.get() / 2).max(1));
                let pause = RETRY_PAUSE_MIN * (1 << self.failed_runs.min(16));
                self.failed_runs = self.failed_runs.saturating_add(1);
                pause.min(RETRY_PAUSE_MAX)
            }
        };
        self.next_run = Some(ctx.run_later(pause, Self::run));
        self.crash_if_idle(ctx);
    }

    fn crash_if_idle(&mut self, ctx: &mut Context<Self>) {
        let Some(crash) = self.sabotage.get() else {
            return;
        };
        if crash.at == CrashPoint::Idle && !self.is_running {
            self.sabotage.take();
            self.status.obey(crash, ctx);
        }
    }
}

/// Drops all that has expired, unless another replica is at it.
async fn go_through(
    store: &dyn RetentionStore,
    settings: &RetentionSettings,
    batch_rows: &Cell<u32>,
    at: impl Fn(CrashPoint),
) -> Result<Expired, StoreError> {
    let mut sum = Expired::default();
    let Some(mut run) = store.begin_run(Arc::clone(&settings.rules)).await? else {
        return Ok(sum);
    };
    if let Some(age) = settings.dead_letter_age {
        sum += expire_dead_letters(&mut *run, age, batch_rows).await?;
    }
    loop {
        let began = Instant::now();
        let Some(batch) = run.next(batch_rows.get()).await? else {
            return Ok(sum);
        };
        let expired = expire(&mut *run, &batch, &at).await?;
        sum += expired;
        batch_rows.set((batch_rows.get() * 2).min(settings.batch_rows_max));
        sleep(began.elapsed().min(REST_MAX)).await;
    }
}

async fn expire_dead_letters(
    run: &mut dyn RetentionRun,
    age: Duration,
    batch_rows: &Cell<u32>,
) -> Result<Expired, StoreError> {
    let mut sum = Expired::default();
    loop {
        let began = Instant::now();
        let letters_max = batch_rows.get();
        let expired = run.expire_dead_letters(age, letters_max).await?;
        sum += expired;
        if expired.dead_letters_deleted < u64::from(letters_max) {
            return Ok(sum);
        }
        sleep(began.elapsed().min(REST_MAX)).await;
    }
}

async fn expire(
    run: &mut dyn RetentionRun,
    batch: &ExpiredBatch,
    at: &impl Fn(CrashPoint),
) -> Result<Expired, StoreError> {
    if batch.is_empty() {
        return run.expire(batch).await;
    }
    let mut expiring = run.expire(batch);
    // As far as it goes without waiting, which is: sent.
    let progress = poll_fn(|context| Poll::Ready(expiring.as_mut().poll(context))).await;
    at(CrashPoint::BeforeCommit);
    let expired = match progress {
        Poll::Ready(result) => result?,
        Poll::Pending => expiring.await?,
    };
    at(CrashPoint::AfterCommit);
    Ok(expired)
}

/// Panics where an operator asked for it; the run dies with the actor.
fn sabotage(status: &ActorStatus, crash: &Cell<Option<Crash>>, point: CrashPoint) {
    if let Some(asked) = crash.get()
        && asked.at == point
        && asked.incarnation == status.incarnation()
    {
        crash.take();
        status.panic_now(point);
    }
}

impl Actor for RetentionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.run(ctx);
    }
}

impl Supervised for RetentionActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        // All futures are gone, and with them the run and its connection.
        self.is_running = false;
        self.next_run = None;
        self.sabotage.take();
    }
}

impl Handler<Crash> for RetentionActor {
    type Result = ();

    /// Around a commit: that of the next batch, which is looked for at once.
    fn handle(&mut self, crash: Crash, ctx: &mut Context<Self>) {
        if crash.at == CrashPoint::Now {
            return self.status.obey(crash, ctx);
        }
        if crash.incarnation != self.status.incarnation() {
            return;
        }
        self.sabotage.set(Some(crash));
        if crash.at == CrashPoint::Idle {
            self.crash_if_idle(ctx);
        } else {
            self.run(ctx);
        }
    }
}
