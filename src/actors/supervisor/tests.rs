//! One test for each way in which an actor can end.

use super::*;
use crate::{
    actors::{ActorKind, ActorState},
    telemetry::remember_panics_in_tests,
};
use actix::{AsyncContext, Handler, Message, WrapFuture, fut::wrap_future};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

const POLICY: RestartPolicy = RestartPolicy {
    pause_min: Duration::from_millis(1),
    pause_max: Duration::from_millis(8),
    healthy_after: Duration::from_millis(40),
    restarts_max: 3,
};

/// An actor that dies as it is told to. It is told from outside, as its own code would be.
#[derive(Clone, Default)]
struct Script(Arc<Directions>);

#[derive(Default)]
struct Directions {
    /// How many of the next lives panic at once in `started`.
    panics_in_started: AtomicU32,
    /// How many of the next calls of `restarting` panic.
    panics_in_restarting: AtomicU32,
    lives: AtomicU32,
}

impl Script {
    /// Takes one of the panics that are left.
    fn panic_if_told(counter: &AtomicU32, place: &str) {
        let left = counter.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        });
        assert!(left.is_err(), "told to panic in {place}");
    }
}

struct Probe {
    script: Script,
    /// Outlives the actor's lives.
    handled: u32,
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.script.0.lives.fetch_add(1, Ordering::SeqCst);
        Script::panic_if_told(&self.script.0.panics_in_started, "started");
    }
}

impl Supervised for Probe {
    fn restarting(&mut self, _: &mut Context<Self>) {
        Script::panic_if_told(&self.script.0.panics_in_restarting, "restarting");
    }
}

#[derive(Message)]
#[rtype(result = "()")]
enum Do {
    Answer(oneshot::Sender<u32>),
    PanicInHandler,
    PanicInFuture,
    PanicInFutureWhileBusy,
    Stop,
}

impl Handler<Do> for Probe {
    type Result = ();

    fn handle(&mut self, what: Do, ctx: &mut Context<Self>) {
        self.handled += 1;
        match what {
            Do::Answer(reply) => drop(reply.send(self.handled)),
            Do::PanicInHandler => panic!("told to panic in the handler"),
            Do::PanicInFuture => {
                ctx.spawn(async { panic!("told to panic in a future") }.into_actor(self));
            }
            Do::PanicInFutureWhileBusy => {
                ctx.wait(wrap_future::<_, Self>(async {
                    tokio::task::yield_now().await;
                    panic!("told to panic in a future that the actor waits for")
                }));
            }
            Do::Stop => actix::ActorContext::stop(ctx),
        }
    }
}

fn probe() -> (Addr<Probe>, ActorStatus, Script) {
    let script = Script::default();
    let status = ActorStatus::new(ActorKind::Stats, None);
    let actor = Probe {
        script: script.clone(),
        handled: 0,
    };
    let mut cast = Cast::default();
    let address = cast.add(POLICY, status.clone(), || actor);
    cast.start();
    (address, status, script)
}

/// Asks until there is an answer: a question may die with the actor.
async fn answer(probe: &Addr<Probe>) -> u32 {
    let asking = async {
        loop {
            let (reply, answer) = oneshot::channel();
            probe.do_send(Do::Answer(reply));
            if let Ok(number) = answer.await {
                return number;
            }
        }
    };
    timeout(Duration::from_secs(10), asking)
        .await
        .expect("the actor never answered again")
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

#[actix::test]
async fn an_actor_survives_each_kind_of_end_and_keeps_its_fields_and_its_mail() {
    let ends = [
        (Do::PanicInHandler, "told to panic in the handler"),
        (Do::PanicInFuture, "told to panic in a future"),
        (
            Do::PanicInFutureWhileBusy,
            "told to panic in a future that the actor waits for",
        ),
        (Do::Stop, "stopped"),
    ];
    remember_panics_in_tests();
    for (end, reason) in ends {
        let (probe, status, script) = probe();
        assert_eq!(answer(&probe).await, 1);
        probe.do_send(end);
        // Mail behind the one that kills it.
        let (reply, waiting) = oneshot::channel();
        probe.do_send(Do::Answer(reply));
        eventually("a second life", || {
            script.0.lives.load(Ordering::SeqCst) == 2
        })
        .await;
        let number = timeout(Duration::from_secs(10), waiting)
            .await
            .expect("mail that waited was never handled");
        // What waited behind a stop or a panic is handled by the next life, or was by the last.
        assert_eq!(number, Ok(3), "{reason}");
        let view = status.view();
        assert_eq!((view.restarts, view.state), (1, ActorState::Running));
        let (said, _) = view.last_failure.expect("a failure is remembered");
        // The message alone: where in the source it happened is for the log.
        assert_eq!(said, reason);
    }
}

#[actix::test]
async fn a_panic_in_started_is_a_restart_like_any_other() {
    remember_panics_in_tests();
    let (probe, status, script) = probe();
    answer(&probe).await;
    script.0.panics_in_started.store(2, Ordering::SeqCst);
    probe.do_send(Do::PanicInHandler);
    answer(&probe).await;
    eventually("three restarts", || status.incarnation() == 3).await;
    assert_eq!(script.0.lives.load(Ordering::SeqCst), 4);
}

#[actix::test]
async fn a_panic_in_restarting_is_tried_again() {
    remember_panics_in_tests();
    let (probe, status, script) = probe();
    answer(&probe).await;
    script.0.panics_in_restarting.store(2, Ordering::SeqCst);
    probe.do_send(Do::Stop);
    answer(&probe).await;
    eventually("three ends", || status.incarnation() == 3).await;
    assert_eq!(script.0.lives.load(Ordering::SeqCst), 2);
}

#[actix::test]
async fn a_crash_loop_is_failed_still_tried_and_recovers_by_itself() {
    remember_panics_in_tests();
    let (probe, status, script) = probe();
    answer(&probe).await;
    script.0.panics_in_started.store(u32::MAX, Ordering::SeqCst);
    probe.do_send(Do::PanicInHandler);
    eventually("the state failed", || status.state() == ActorState::Failed).await;
    let lives = script.0.lives.load(Ordering::SeqCst);
    eventually("further attempts", || {
        script.0.lives.load(Ordering::SeqCst) >= lives + 3
    })
    .await;
    assert_eq!(status.state(), ActorState::Failed);
    script.0.panics_in_started.store(0, Ordering::SeqCst);
    answer(&probe).await;
    eventually("the state running", || {
        status.state() == ActorState::Running
    })
    .await;
}

#[test]
fn pauses_double_up_to_the_longest() {
    let pauses: Vec<_> = [1, 2, 3, 4, 5, 40]
        .map(|in_a_row| POLICY.pause(in_a_row).as_millis())
        .into();
    assert_eq!(pauses, [1, 2, 4, 8, 8, 8]);
}

#[actix::test]
async fn health_makes_the_next_pause_the_shortest_again() {
    remember_panics_in_tests();
    let (probe, status, _) = probe();
    for restarts in 1..=6 {
        answer(&probe).await;
        // A proven life, by the policy's own measure.
        let healthy_at = Instant::now() + POLICY.healthy_after;
        eventually("a healthy life", || Instant::now() > healthy_at).await;
        probe.do_send(Do::PanicInHandler);
        eventually("a restart", || status.incarnation() == restarts).await;
        assert_ne!(status.state(), ActorState::Failed, "after {restarts}");
    }
}
