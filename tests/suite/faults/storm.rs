//! Everything at once: random faults of every kind under load over HTTP and through the stream. A
//! short run is part of the suite; `scripts/soak.sh` runs it for as long as one likes.

use super::{
    Allowance,
    actors::crash_one,
    assert_the_accounts_agree,
    broker::Producer,
    load::Load,
    proxy::{Proxy, Weather},
    seed,
};
use crate::support::{Database, PostgresServer, RedisServer, TestApp, eventually};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    env,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Between two faults.
const PACE: Duration = Duration::from_millis(200);
const SOON: Duration = Duration::from_secs(30);
/// Of each of the soak's clients after a request: twelve of them then send some 6,000 events a second,
/// and 20 million in an hour fit a disk of 20 GB.
const SOAK_PAUSE: Duration = Duration::from_millis(15);
/// Between two lines about how it goes.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

struct Storm {
    random: StdRng,
    postgres: PostgresServer,
    redis: RedisServer,
    proxy: Proxy,
    app: TestApp,
    faults: BTreeMap<&'static str, u64>,
}

impl Storm {
    async fn gather(seed: u64) -> Self {
        let postgres = PostgresServer::start().await;
        let proxy = Proxy::start(postgres.address()).await;
        let redis = RedisServer::start().await;
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
        let app = TestApp::on(Arc::new(Database::at(url)))
            .set("REDIS_URL", redis.url())
            .set("DATABASE_STATEMENT_TIMEOUT_MS", 1_000)
            .set("DATABASE_CONNECT_TIMEOUT_MS", 500)
            .start()
            .await;
        Self {
            random: StdRng::seed_from_u64(seed),
            postgres,
            redis,
            proxy,
            app,
            faults: BTreeMap::new(),
        }
    }

    /// One fault: most are actors' deaths, as they take no time.
    async fn strike(&mut self, spares_process: bool) {
        let name = match self.random.random_range(0..100) {
            lot @ 0..94 if lot < 80 || (lot >= 90 && spares_process) => {
                crash_one(&self.app, &mut self.random).await;
                "actor crashed"
            }
            80..85 => {
                self.proxy.cut();
                "connections cut"
            }
            85..90 => {
                let before = self.proxy.swallowed();
                self.proxy.set(Weather::SwallowCommitAnswer);
                eventually("an answer to COMMIT is lost", SOON, async || {
                    self.proxy.swallowed() > before
                })
                .await;
                "answer to COMMIT lost"
            }
            90..92 => {
                self.app.kill9().await;
                self.app.restart().await;
                "process killed"
            }
            92..94 => {
                let (status, _) = self.app.terminate().await;
                assert_eq!(status.code(), Some(0), "{}", self.app.stderr());
                self.app.restart().await;
                "process terminated"
            }
            94..96 => {
                self.postgres.kill().await;
                self.postgres.start_again().await;
                "Postgres killed"
            }
            96..97 => {
                self.proxy.set(Weather::BlackHole);
                eventually("it is noticed", SOON, async || {
                    self.app.status("/readyz").await == Some(503)
                })
                .await;
                self.proxy.set(Weather::Fair);
                "black hole"
            }
            97..99 => {
                self.redis.kill().await;
                self.redis.start_again().await;
                "Redis killed"
            }
            _ => {
                self.redis.pause();
                sleep(PACE * 5).await;
                self.redis.resume();
                "Redis paused"
            }
        };
        *self.faults.entry(name).or_default() += 1;
        eventually("it is ready again", SOON, async || {
            self.app.status("/readyz").await == Some(200)
        })
        .await;
    }
}

/// In the second half of the time the process is left to live, if its memory is to be watched.
async fn weather(seed: u64, time: Duration, pause: Duration, watches_memory: bool) {
    let mut storm = Storm::gather(seed).await;
    let url = format!("http://{}", storm.app.address());
    let load = Load::start_paced(seed, 12, vec![url], pause);
    let producer = Producer::start(seed, storm.redis.url());
    let started = Instant::now();
    let mut reported = started;
    while started.elapsed() < time {
        let spares_process = watches_memory && started.elapsed() > time / 2;
        storm.strike(spares_process).await;
        if reported.elapsed() >= REPORT_INTERVAL {
            reported = Instant::now();
            eprintln!(
                "{} s: {}; RSS {} KiB; {:?}",
                started.elapsed().as_secs(),
                load.ledger.sums(),
                storm.app.resident_kib(),
                storm.faults
            );
        }
        sleep(PACE).await;
    }
    load.answers(50).await;
    producer.entries(50).await;
    let (over_http, through_redis) = (load.finish().await, producer.finish().await);
    eprintln!("over HTTP: {}", over_http.sums());
    eprintln!("through Redis: {}", through_redis.sums());
    eprintln!(
        "faults: {:?}; restarts of the last process: {}",
        storm.faults,
        super::restarts(&storm.app).await
    );
    over_http.absorb(&through_redis);
    let allowance = Allowance {
        redelivered_max: over_http.sums().attempts,
        ..Allowance::default()
    };
    assert_the_accounts_agree(&storm.app, &over_http, allowance).await;
    assert!(storm.faults.values().sum::<u64>() > 0, "no fault happened");
}

#[tokio::test]
async fn a_storm_of_faults_loses_nothing_that_was_answered() {
    weather(seed(), Duration::from_secs(15), Duration::ZERO, false).await;
}

#[tokio::test]
#[ignore = "as long as SOAK_MINUTES says: scripts/soak.sh runs it"]
async fn soak() {
    let minutes = env::var("SOAK_MINUTES").ok();
    let minutes: u64 = minutes.and_then(|text| text.parse().ok()).unwrap_or(10);
    weather(seed(), Duration::from_secs(60 * minutes), SOAK_PAUSE, true).await;
}
