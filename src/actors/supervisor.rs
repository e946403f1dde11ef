//! Keeps an actor alive through panics. Actix's own supervisor restarts an actor that stops, but a
//! panic closes its mailbox for good; this one catches it. Works for every actor, knows none.
//!
//! The address, the mail that waits and the actor's fields survive. The message in hand and every
//! future that the actor has spawned are dropped, so work that must survive lives in its fields.

use super::status::ActorStatus;
use crate::telemetry::{self, Panic};
use actix::{
    Actor, Addr, Context, Supervised,
    dev::{ContextFut, channel},
};
use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::Poll,
    time::Duration,
};
use tokio::time::sleep;

/// Senders that wait until there is room have to wait at this many messages. Ours never wait:
/// their permits bound what a mailbox can hold.
const MAILBOX_CAPACITY: usize = 1024;

/// How an actor is started again.
#[derive(Debug, Clone, Copy)]
pub struct RestartPolicy {
    /// Before the first restart; each further one in a row waits twice as long.
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// A life that lasts this long ends the row.
    pub healthy_after: Duration,
    /// More restarts in a row make it failed.
    pub restarts_max: u32,
}

impl RestartPolicy {
    fn pause(&self, restarts_in_a_row: u32) -> Duration {
        let doublings = restarts_in_a_row.saturating_sub(1).min(16);
        (self.pause_min * (1 << doublings)).min(self.pause_max)
    }
}

/// Actors that have an address and no thread yet: mail may be sent, and waits.
#[derive(Default)]
pub struct Cast(Vec<Box<dyn FnOnce() + Send>>);

impl Cast {
    /// Adds an actor. Once started it is kept alive until all its addresses are gone.
    pub fn add<A>(
        &mut self,
        policy: RestartPolicy,
        status: ActorStatus,
        build: impl FnOnce() -> A + Send + 'static,
    ) -> Addr<A>
    where
        A: Actor<Context = Context<A>> + Supervised,
    {
        let (sender, receiver) = channel::channel(MAILBOX_CAPACITY);
        self.0.push(Box::new(move || {
            let life = Context::with_receiver(receiver).into_future(build());
            actix::spawn(supervise(life, policy, status));
        }));
        Addr::new(sender)
    }

    /// Starts all of them on this thread, which is an arbiter's.
    pub fn start(self) {
        self.0.into_iter().for_each(|start| start());
    }
}

async fn supervise<A>(
    mut actor: ContextFut<A, Context<A>>,
    policy: RestartPolicy,
    status: ActorStatus,
) where
    A: Actor<Context = Context<A>> + Supervised,
{
    loop {
        status.has_started(policy.healthy_after);
        let mut end = live(&mut actor).await;
        // Until a restart succeeds: `restarting` is the actor's code and may panic, too.
        loop {
            let (reason, location) = match end {
                Some(panic) => (panic.message, Some(panic.location)),
                None => ("stopped".to_owned(), None),
            };
            let in_a_row = status.has_ended(reason.clone(), policy.restarts_max);
            let pause = policy.pause(in_a_row);
            tracing::warn!(
                actor = status.name(),
                restarts = status.incarnation(),
                in_a_row,
                pause_ms = pause.as_millis(),
                reason,
                location,
                "actor ended, restarting it",
            );
            sleep(pause).await;
            match caught(|| actor.restart()) {
                Ok(true) => break,
                // Nobody can send to it any more: the process is going down.
                Ok(false) => return,
                Err(panic) => end = Some(panic),
            }
        }
    }
}

/// One life of an actor. Returns the panic that ended it, or nothing where it stopped by itself.
async fn live<A>(actor: &mut ContextFut<A, Context<A>>) -> Option<Panic>
where
    A: Actor<Context = Context<A>>,
{
    poll_fn(|cx| {
        // Whatever half a handler has left in the actor's fields is the actor's to mend in
        // `restarting`; actix's own state is replaced by its `restart`.
        match caught(|| Pin::new(&mut *actor).poll(cx)) {
            Ok(poll) => poll.map(|()| None),
            Err(panic) => Poll::Ready(Some(panic)),
        }
    })
    .await
}

/// Runs the actor's code. A panic is not logged here, because the restart that follows is one line
/// in the log and has it.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    telemetry::quiet_panics(|| catch_unwind(AssertUnwindSafe(run))).map_err(|_| {
        telemetry::take_last_panic().unwrap_or_else(|| Panic {
            message: "panicked".to_owned(),
            location: "unknown".to_owned(),
        })
    })
}

#[cfg(test)]
mod tests;
