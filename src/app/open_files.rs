//! How many files and sockets the process may have open, and how many connections that leaves. `app` asks
//! once, before it opens anything.

use crate::config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For the listener, the threads' pollers, the log, the broker's connections to nodes that it finds, and what
/// libraries open for a moment.
const RESERVE: u64 = 128;
/// A connection of SQLite has the database, the log and its index open.
const FILES_A_DATABASE_CONNECTION: u64 = 4;
/// A stream of the broker is read on one connection, settled on another, and both may be replaced.
const FILES_A_BROKER_STREAM: u64 = 4;

/// Raises the soft limit of open files to the hard one; shells and systemd start programs with 1,024, for
/// the sake of those that use `select`, which nothing here does. Gives the connections that fit under it,
/// `CONNECTIONS_MAX` at most: one too many would take the files that the database is connected to again with.
pub(super) fn connections_that_fit(config: &Config) -> usize {
    let limit = raised();
    let (connections, needed) = within(limit, config);
    if connections < config.connections_max {
        tracing::warn!(
            limit,
            needed,
            connections,
            "fewer connections than CONNECTIONS_MAX are taken at a time, as the limit of open files is too low: \
            raise it (ulimit -Hn, LimitNOFILE= of systemd, ulimits.nofile of Compose) or lower CONNECTIONS_MAX"
        );
    }
    connections
}

/// The limit as it is now; `None` = there is none.
fn raised() -> Option<u64> {
    let found = getrlimit(Resource::Nofile);
    if found.current == found.maximum {
        return found.current;
    }
    let raised = Rlimit {
        current: found.maximum,
        maximum: found.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => found.maximum,
        // Some kernels have a limit of their own below the hard one.
        Err(error) => {
            tracing::debug!(%error, "cannot raise the limit of open files");
            found.current
        }
    }
}

/// The connections that fit, and the limit that all of them would need.
fn within(limit: Option<u64>, config: &Config) -> (usize, u64) {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let database = count(config.persist_actors) + u64::from(config.read_connections_max);
    let broker = match config.redis_url {
        Some(_) => count(config.broker_streams) * FILES_A_BROKER_STREAM,
        None => 0,
    };
    let own = RESERVE + database * FILES_A_DATABASE_CONNECTION + broker;
    let needed = own + count(config.connections_max);
    let fit = limit.map_or(config.connections_max, |limit| {
        usize::try_from(limit.saturating_sub(own)).unwrap_or(usize::MAX)
    });
    (fit.clamp(1, config.connections_max), needed)
}
