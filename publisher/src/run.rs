//! The run: workers that take the next send, repeat what is not answered, and keep the account.

use crate::{
    account::{Account, Answer},
    cli::Options,
    progress::Progress,
    transport::Transport,
    workload::Workload,
};
use rand::RngExt;
use serde_json::Value;
use std::{
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    task::LocalSet,
    time::{sleep, sleep_until},
};

/// Before a first repeat; doubles up to the next.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(20);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);

/// What a run has come to.
pub(crate) struct Outcome {
    pub(crate) account: Account,
    pub(crate) took: Duration,
    pub(crate) is_interrupted: bool,
    /// Interrupted again: nothing more is waited for.
    pub(crate) is_cut_short: bool,
    /// Sends that were begun.
    pub(crate) sends: usize,
}

/// What the workers share; they all run on this thread.
struct Shared {
    options: Options,
    workload: Arc<Workload>,
    transport: Transport,
    account: RefCell<Account>,
    progress: Progress,
    state: RefCell<State>,
    started: Instant,
}

#[derive(Default)]
struct State {
    next: usize,
    is_interrupted: bool,
}

pub(crate) async fn run(
    options: &Options,
    workload: &Arc<Workload>,
    transport: Transport,
) -> Outcome {
    let shared = Rc::new(Shared {
        options: options.clone(),
        workload: Arc::clone(workload),
        transport,
        account: RefCell::new(Account::new()),
        progress: Progress::new(workload.sends()),
        state: RefCell::default(),
        started: Instant::now(),
    });
    let workers = LocalSet::new();
    for _ in 0..options.concurrency {
        workers.spawn_local(work(Rc::clone(&shared)));
    }
    tokio::pin!(workers);
    let mut is_cut_short = false;
    tokio::select! {
        () = &mut workers => {}
        _ = tokio::signal::ctrl_c() => {
            shared.state.borrow_mut().is_interrupted = true;
            // What is on its way is waited for; a second Ctrl-C is not.
            tokio::select! {
                () = &mut workers => {}
                _ = tokio::signal::ctrl_c() => is_cut_short = true,
            }
        }
    }
    shared.progress.finish();
    let State {
        next: sends,
        is_interrupted,
    } = shared.state.take();
    Outcome {
        account: shared.account.replace(Account::new()),
        took: shared.started.elapsed(),
        is_interrupted,
        is_cut_short,
        sends,
    }
}

async fn work(shared: Rc<Shared>) {
    while let Some((first, events)) = shared.next() {
        if let Some(rate) = shared.options.rate {
            #[expect(clippy::cast_precision_loss, reason = "a due time need not be exact")]
            let due = Duration::from_secs_f64(first as f64 / rate);
            sleep_until((shared.started + due).into()).await;
        }
        shared.send(&events).await;
        shared.progress.advance(events.len());
    }
}

impl Shared {
    /// The next events to send, and the place of the first of them; `None` at the end.
    fn next(&self) -> Option<(usize, Vec<Value>)> {
        let mut state = self.state.borrow_mut();
        let first = state.next;
        let end = (first + self.options.batch_size).min(self.workload.sends());
        if first >= end || state.is_interrupted {
            return None;
        }
        state.next = end;
        let events = (first..end).map(|send| self.workload.event(self.workload.number(send)));
        Some((first, events.collect()))
    }

    /// Sends events until they are answered, or refused, or given up.
    async fn send(&self, events: &[Value]) {
        let count = events.len() as u64;
        let started = Instant::now();
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            let answer = self.transport.send(events).await;
            self.account.borrow_mut().enter(count, &answer);
            let retry_after = match answer {
                Answer::Committed { .. } | Answer::Queued => {
                    return self.account.borrow_mut().took(started.elapsed());
                }
                Answer::Refused { .. } => return,
                Answer::Unknown { retry_after, .. } => retry_after,
            };
            let is_interrupted = self.state.borrow().is_interrupted;
            if started.elapsed() >= self.options.give_up_after || is_interrupted {
                return self.account.borrow_mut().give_up(count);
            }
            let jitter = rand::rng().random_range(0.5..1.5);
            sleep(retry_after.unwrap_or_default().max(pause.mul_f64(jitter))).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
            self.account.borrow_mut().retries += 1;
        }
    }
}
