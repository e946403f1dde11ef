//! More than the service can take, and clients that take their time: what is answered, how soon, what it
//! costs, and how soon all is well again. Each claim runs small here and large in `at_full_size`, which
//! `scripts/overload.sh` runs on a release build.

mod burst;
mod full;
mod idle;
mod open_loop;
mod pause;
mod slow;
mod stuck;
mod wire;

use crate::support::TestApp;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sqlx::{Connection, PgConnection};
use std::{collections::HashSet, time::Duration};

/// No answer may take longer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// After it, the service has to be as it was.
const RECOVERY_MAX: Duration = Duration::from_secs(5);
/// No load may take the service beyond that.
const RESIDENT_KIB_MAX: u64 = 300 << 10;
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
    /// How long Postgres stands still.
    pause: Duration,
    /// Clients that publish meanwhile.
    clients: usize,
    /// Whether the service's deadlines are shorter than an operator's, so that a run is short.
    is_impatient: bool,
}

const SMALL: Scale = Scale {
    publishers: 2_000,
    idle: 10_000,
    slow: 200,
    stuck: 200,
    pause: Duration::from_secs(4),
    clients: 50,
    is_impatient: true,
};

/// The most memory that it has ever held, which has to be below the bound.
fn assert_memory_is_bounded(app: &TestApp) -> u64 {
    let most = app.resident_kib_max();
    assert!(most < RESIDENT_KIB_MAX, "{most} KiB");
    most / 1024
}

/// The ids in the table itself.
async fn stored_ids(url: &str) -> HashSet<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let ids =
        sqlx::query_scalar("select event_id from processed_events").fetch_all(&mut connection);
    ids.await.unwrap().into_iter().collect()
}

/// Lets this process have as many connections as it may; says how many of those asked for that is.
fn connections_allowed(asked: usize) -> usize {
    let found = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: found.maximum,
        maximum: found.maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = usize::try_from(limit.saturating_sub(OTHER_FILES)).unwrap();
    if room < asked {
        eprintln!("a limit of {limit} open files: {room} connections instead of {asked}");
    }
    room.min(asked)
}
