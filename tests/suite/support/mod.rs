//! What the tests stand on: private servers, the application as a process, and patience.

mod app;
mod balancer;
mod certificate;
mod client;
mod cluster;
mod compression;
mod database;
mod exposition;
mod pgbouncer;
mod postgres;
mod process;
mod redis;
mod sabotage;
mod subscriber;
mod volume;

pub(crate) use app::{TestApp, TestAppBuilder, oncelog, publisher};
pub(crate) use balancer::Balancer;
pub(crate) use certificate::TestCertificate;
pub(crate) use client::{Answer, Client, event, http_client, large_event};
pub(crate) use cluster::{ClusterPorts, RedisCluster};
pub(crate) use compression::{brotli, brotli_bomb, gzip, zstd};
pub(crate) use database::{Database, Engine};
pub(crate) use exposition::Exposition;
pub(crate) use pgbouncer::Pgbouncer;
pub(crate) use postgres::PostgresServer;
pub(crate) use process::{Process, free_port};
pub(crate) use redis::{RedisServer, TestBroker};
pub(crate) use sabotage::Sabotage;
pub(crate) use subscriber::Subscriber;
pub(crate) use volume::Volume;

use std::{
    env,
    time::{Duration, Instant},
};

/// Between two looks at a condition.
pub(crate) const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Waits until the condition holds; fails the test where it does not in time.
pub(crate) async fn eventually(
    what: &str,
    within: Duration,
    mut condition: impl AsyncFnMut() -> bool,
) {
    let deadline = Instant::now() + within;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// The seed of a run: a new one, or the one that is asked for.
pub(crate) fn seed() -> u64 {
    let seed = env::var("FAULT_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::random_range(1..1_000_000));
    eprintln!("FAULT_SEED={seed}");
    seed
}

/// Makes a test on each engine of functions `async fn claim(engine: Engine)`; their names are
/// `claim::postgres` and `claim::sqlite`.
macro_rules! on_both_engines {
    ($($claim:ident),+ $(,)?) => {
        $(
            mod $claim {
                use crate::support::Engine;

                #[tokio::test]
                async fn postgres() {
                    super::$claim(Engine::Postgres).await;
                }

                #[tokio::test]
                async fn sqlite() {
                    super::$claim(Engine::Sqlite).await;
                }
            }
        )+
    };
}
