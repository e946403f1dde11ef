//! Everything at once: random faults of every kind (`faults`) under load over HTTP and through the
//! stream, while others read it all (`readers`) and the memory is watched (`memory`). A short run is part
//! of the suite; `scripts/soak.sh` runs it for as long as one likes.

mod faults;
mod memory;
mod readers;

use super::{Allowance, assert_the_accounts_agree, broker::Producer, load::Load, seed};
use crate::support::Engine;
use faults::{Spared, World};
use memory::Curve;
use readers::Readers;
use std::{
    env,
    time::{Duration, Instant},
};
use tokio::time::sleep;

on_both_engines!(a_storm_of_faults_loses_nothing_that_was_answered);

/// Between two faults.
const PACE: Duration = Duration::from_millis(200);
const CLIENTS: u64 = 12;
/// Of each of the soak's clients after a request: twelve of them then send some 6,000 events a second,
/// and 20 million in an hour fit a disk of 20 GB.
const SOAK_PAUSE: Duration = Duration::from_millis(15);
/// Between two lines about how it goes.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// From so long on every fault that there is has to have happened.
const ALL_FAULTS_FROM: Duration = Duration::from_secs(1_200);

/// How long, and how hard.
struct Plan {
    engine: Engine,
    time: Duration,
    pause: Duration,
    /// Takes its time for long faults, and lets the process live in the second half to watch its memory.
    is_soak: bool,
}

async fn weather(plan: Plan) {
    let Plan { time, is_soak, .. } = plan;
    let seed = seed();
    let mut world = World::create(plan.engine, seed).await;
    let url = format!("http://{}", world.app.address());
    let load = Load::start_paced(seed, CLIENTS, vec![url], plan.pause);
    let producer = Producer::start(seed, world.redis.url());
    let mut readers = Readers::start(&world.app);
    let mut memory = Curve::over(time);
    let started = Instant::now();
    let mut reported = started;
    while started.elapsed() < time {
        let spared = Spared {
            process: is_soak && started.elapsed() > time / 2,
            time: !is_soak,
        };
        world.strike(spared).await;
        readers.assert_are_content();
        memory.look(started.elapsed(), world.app.resident_kib());
        if reported.elapsed() >= REPORT_INTERVAL {
            reported = Instant::now();
            eprintln!(
                "{} s: {}; {readers}; RSS {} KiB; {}",
                started.elapsed().as_secs(),
                load.ledger.sums(),
                world.app.resident_kib(),
                world.account()
            );
        }
        sleep(PACE).await;
    }
    load.answers(50).await;
    producer.entries(50).await;
    let (over_http, through_redis) = (load.finish().await, producer.finish().await);
    eprintln!("over HTTP: {}", over_http.sums());
    eprintln!("through Redis: {}", through_redis.sums());
    let restarts = super::restarts(&world.app).await;
    eprintln!("RSS, MiB, in twelfths: {}", memory.summary());
    eprintln!(
        "{}; restarts of the last process: {restarts}",
        world.account()
    );
    over_http.absorb(&through_redis);
    let allowance = Allowance {
        redelivered_max: over_http.sums().attempts,
        ..Allowance::default()
    };
    let served = assert_the_accounts_agree(&world.app, &over_http, allowance).await;
    readers.assert_have_seen(served.rows.keys()).await;
    eprintln!("{readers}");
    memory.assert_is_flat();
    if time >= ALL_FAULTS_FROM {
        assert_eq!(world.missing(), Vec::<&str>::new(), "have not happened");
    }
}

async fn a_storm_of_faults_loses_nothing_that_was_answered(engine: Engine) {
    weather(Plan {
        engine,
        time: Duration::from_secs(15),
        pause: Duration::ZERO,
        is_soak: false,
    })
    .await;
}

#[tokio::test]
#[ignore = "as long as SOAK_MINUTES says, on the engine of SOAK_ENGINE: scripts/soak.sh runs it"]
async fn soak() {
    let minutes = env::var("SOAK_MINUTES").ok();
    let minutes: u64 = minutes.and_then(|text| text.parse().ok()).unwrap_or(10);
    let engine = match env::var("SOAK_ENGINE").as_deref() {
        Ok("sqlite") => Engine::Sqlite,
        Ok("postgres") | Err(_) => Engine::Postgres,
        Ok(other) => panic!("no engine: {other}"),
    };
    weather(Plan {
        engine,
        time: Duration::from_secs(60 * minutes),
        pause: SOAK_PAUSE,
        is_soak: true,
    })
    .await;
}
