//! What the benchmark is asked to do. Read by `main`; knows no workload but by name.

use clap::Parser;
use std::{path::PathBuf, time::Duration};

/// Measures oncelog against the database it stands on, in alternating rounds of one run.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench.sh")]
#[command(
    after_help = "Workloads: batch1000 batch100 single256 single64 latency repeats90 crashes \
    stream sqlite subscribers. Exit code 1: an answer was not 200, or the table disagrees with the answers."
)]
pub(crate) struct Args {
    /// The three main workloads in under a minute: shorter and fewer rounds
    #[arg(long)]
    pub(crate) quick: bool,
    /// Workloads to run, comma separated [default: all of them]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) only: Vec<String>,
    /// Pairs of rounds of each workload [default: 5, quick 3]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Measured time of each round [default: 3, quick 1.5]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Time before it, in which load runs and nothing is measured [default: 1, quick 0.5]
    #[arg(long, value_name = "SECONDS")]
    warmup: Option<f64>,
    /// Share of events that were sent before, except where the workload says its own
    #[arg(long, default_value_t = 0.3, value_name = "0 TO 0.99")]
    pub(crate) repeats: f64,
    /// Singles to oncelog, Redis and NATS JetStream in turns; other workloads only with --only
    #[arg(long)]
    pub(crate) peers: bool,
    /// So many servers on one Postgres in turns, and what an event costs: 1, 2 and 4 without a value. With
    /// --only batch1000, batch100, single256 or single64, otherwise all of these
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', num_args = 0..=1)]
    #[arg(default_missing_value = "1,2,4", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) replicas: Vec<u8>,
    /// The server straight on Postgres and through pgbouncer in turns. With --only batch1000, batch100, single256
    /// or single64, otherwise all of these
    #[arg(long, conflicts_with = "replicas")]
    pub(crate) pooler: bool,
    /// Draw throughput against these: connections, batches, rows; without a value all of them
    #[arg(long, value_name = "NAMES", value_delimiter = ',', num_args = 0..=1)]
    #[arg(default_missing_value = "connections,batches,rows")]
    pub(crate) plots: Vec<String>,
    /// Where the plots go
    #[arg(long, default_value = "docs/plots", value_name = "DIR")]
    pub(crate) plots_dir: PathBuf,
    /// Rows that are in both tables before the first round; the tables then only grow
    #[arg(long, default_value_t = 0, value_name = "ROWS")]
    pub(crate) prefill: u64,
    /// Let the tables grow from round to round instead of emptying them before each
    #[arg(long)]
    keep: bool,
    /// Events in the broker's stream in each round of workload stream
    #[arg(long, default_value_t = 150_000, value_name = "EVENTS")]
    pub(crate) stream_events: u64,
    /// A setting of the server under test, such as PERSIST_ACTORS=2; may be given again
    #[arg(long = "set", value_name = "VARIABLE=VALUE")]
    pub(crate) settings: Vec<String>,
    /// The server under test [default: the one built with this benchmark]
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Compare with this other build of the server instead of with raw inserts
    #[arg(long, value_name = "PATH")]
    pub(crate) versus: Option<PathBuf>,
    /// Where the databases live while the benchmark runs: on a disk, not in memory
    #[arg(long, default_value = "/var/tmp", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// What `cargo bench` adds to every call
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 }).max(1)
    }

    pub(crate) fn seconds(&self) -> Duration {
        let default = if self.quick { 1.5 } else { 3.0 };
        duration(self.seconds.unwrap_or(default))
    }

    pub(crate) fn warmup(&self) -> Duration {
        let default = if self.quick { 0.5 } else { 1.0 };
        duration(self.warmup.unwrap_or(default))
    }

    pub(crate) fn empties_tables(&self) -> bool {
        !self.keep && self.prefill == 0
    }

    /// Absolute: the server is started in another directory.
    pub(crate) fn server(&self) -> PathBuf {
        let path = self.server.as_deref();
        let path = path.unwrap_or_else(|| env!("CARGO_BIN_EXE_oncelog").as_ref());
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
    }

    /// Whether `--replicas` asks for this workload.
    pub(crate) fn wants_replicas(&self, workload: &str) -> bool {
        let is_named = self.only.is_empty() || self.only.iter().any(|name| name == workload);
        is_named && !self.replicas.is_empty()
    }

    /// Whether `--pooler` asks for this workload.
    pub(crate) fn wants_pooler(&self, workload: &str) -> bool {
        let is_named = self.only.is_empty() || self.only.iter().any(|name| name == workload);
        is_named && self.pooler
    }

    pub(crate) fn wants(&self, workload: &str, is_main: bool) -> bool {
        if !self.replicas.is_empty() || self.pooler {
            return false;
        }
        if self.only.is_empty() {
            !self.peers && self.plots.is_empty() && (is_main || !self.quick)
        } else {
            self.only.iter().any(|name| name == workload)
        }
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
