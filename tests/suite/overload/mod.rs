//! More than the service can take, and clients that take their time: what is answered, how soon, what it
//! costs, and how soon all is well again. Each claim runs small here and large in `at_full_size`, which
//! `scripts/overload.sh` runs on a release build.

mod bombs;
mod burst;
mod full;
mod idle;
mod open_loop;
mod pause;
mod slow;
mod stuck;
mod wire;

use crate::support::{Database, Exposition, TestApp, event, eventually};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sqlx::{Connection, PgConnection};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// No answer may take longer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// After it, the service has to be as it was.
const RECOVERY_MAX: Duration = Duration::from_secs(5);
/// What a publish takes at the very most where nothing is overloaded, beside other tests.
const USUAL_MAX: Duration = Duration::from_millis(500);
/// So many of them in a row, and it is as it was.
const USUAL_PUBLISHES: usize = 10;
/// No load may take the service beyond that.
const RESIDENT_BYTES_MAX: u64 = 300_000_000;
/// What a test needs of files beside its connections.
const OTHER_FILES: u64 = 500;

/// How much is made of it.
#[derive(Clone, Copy)]
struct Scale {
    /// Connections that publish at the same moment.
    publishers: usize,
    /// Connections that ask for nothing more.
    idle: usize,
    /// Connections that send a byte at a time.
    slow: usize,
    /// Subscribers that never read.
    stuck: usize,
    /// Compressed bodies, each much larger than it looks.
    bombs: usize,
    /// How long Postgres stands still.
    pause: Duration,
    /// Clients that publish meanwhile.
    clients: usize,
    /// Whether the service's deadlines are shorter than an operator's, so that a run is short.
    is_impatient: bool,
}

impl Scale {
    /// Whether less than all of it would be no answer.
    fn is_full(self) -> bool {
        !self.is_impatient
    }
}

const SMALL: Scale = Scale {
    publishers: 2_000,
    idle: 10_000,
    slow: 200,
    stuck: 200,
    bombs: 30,
    pause: Duration::from_secs(4),
    clients: 50,
    is_impatient: true,
};

/// The most memory that it has ever held, which has to be below the bound.
fn assert_memory_is_bounded(app: &TestApp) -> u64 {
    let most = app.resident_kib_max();
    assert!(most * 1024 < RESIDENT_BYTES_MAX, "{most} KiB");
    most / 1024
}

/// The service is as it was, in time after the load has ended: ready, with nothing in flight, and quick.
/// Gives how long that took. What it publishes has a topic of its own.
async fn assert_recovers(app: &TestApp, ended: Instant) -> Duration {
    let mut published = 0;
    let left = RECOVERY_MAX.saturating_sub(ended.elapsed());
    eventually("as before the load", left, async || {
        let in_flight = gauge(app, "oncelog_inflight_events").await;
        if in_flight > 0.0 || app.status("/readyz").await != Some(200) {
            return false;
        }
        for _ in 0..USUAL_PUBLISHES {
            published += 1;
            let event = event("recovery", &published.to_string());
            let sent = Instant::now();
            if app.publish(&event).await.status != 200 || sent.elapsed() > USUAL_MAX {
                return false;
            }
        }
        true
    })
    .await;
    let took = ended.elapsed();
    assert!(took < RECOVERY_MAX, "{took:?}");
    took
}

/// What the load has stored, counted in the database itself.
async fn stored_by_load(database: &Database) -> i64 {
    let query = "select count(*) from processed_events where topic = 'overload'";
    database.number(query).await
}

/// The ids of that, on Postgres.
async fn stored_ids(url: &str) -> HashSet<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let query = "select event_id from processed_events where topic = 'overload'";
    let ids = sqlx::query_scalar(query).fetch_all(&mut connection);
    ids.await.unwrap().into_iter().collect()
}

async fn gauge(app: &TestApp, name: &str) -> f64 {
    let metrics = app.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    Exposition::parse(&metrics.text).value(name, &[])
}

/// Lets this process have as many connections as are asked for, which a load at full size has to have; says how
/// many of them a smaller one may have.
fn connections_allowed(asked: usize, is_full_size: bool) -> usize {
    let found = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: found.maximum,
        maximum: found.maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = usize::try_from(limit.saturating_sub(OTHER_FILES)).unwrap();
    assert!(room >= asked || !is_full_size, "a limit of {limit} files");
    if room < asked {
        eprintln!("a limit of {limit} open files: {room} connections instead of {asked}");
    }
    room.min(asked)
}
