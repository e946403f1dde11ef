//! What the database's backends are at while load runs: samples of `pg_stat_activity`. Used by `replicas`.

use crate::report::median;
use anyhow::Result;
use sqlx::{ConnectOptions, Row, postgres::PgConnectOptions};
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

/// Each costs Postgres about as much as one small transaction.
const PERIOD: Duration = Duration::from_millis(40);

/// A backend that waits for nothing is on a core, or wants one. One that waits for its client is not
/// active: it is the service that has nothing for it.
const SAMPLE: &str = "select coalesce(wait_event_type || ' ' || wait_event, 'running'), count(*) \
     from pg_stat_activity \
     where datname = current_database() and pid <> pg_backend_pid() and state = 'active' \
     group by 1";

/// Backends by what they were at, over all samples.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    samples: u32,
    backends: BTreeMap<String, f64>,
}

/// Takes samples until it is told to end.
pub(crate) struct Sampler {
    end: oneshot::Sender<()>,
    task: JoinHandle<Result<Waits>>,
}

impl Sampler {
    pub(crate) async fn start(options: PgConnectOptions) -> Result<Self> {
        let mut connection = options.connect().await?;
        let (end, mut ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut waits = Waits::default();
            let mut ticks = interval(PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    _ = &mut ended => return Ok(waits),
                }
                waits.samples += 1;
                for row in sqlx::query(SAMPLE).fetch_all(&mut connection).await? {
                    let count: i64 = row.try_get(1)?;
                    *waits.backends.entry(row.try_get(0)?).or_default() += count as f64;
                }
            }
        });
        Ok(Self { end, task })
    }

    pub(crate) async fn finish(self) -> Result<Waits> {
        // It has ended already where it failed, and says so.
        let _ = self.end.send(());
        self.task.await?
    }
}

impl Waits {
    fn mean(&self, event: &str) -> f64 {
        let backends = self.backends.get(event).copied().unwrap_or_default();
        backends / f64::from(self.samples.max(1))
    }
}

/// How many backends were at what, on average; the median of the rounds, the most frequent first.
pub(crate) fn show(rounds: &[&Waits]) -> String {
    let events = rounds.iter().flat_map(|waits| waits.backends.keys());
    let mut means: Vec<(f64, &str)> = events
        .map(|event| {
            let means = rounds.iter().map(|waits| waits.mean(event)).collect();
            (median(means), event.as_str())
        })
        .collect();
    means.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    means.dedup();
    let shown: Vec<String> = means
        .iter()
        .filter(|(mean, _)| *mean >= 0.05)
        .map(|(mean, event)| format!("{event} {mean:.2}"))
        .collect();
    shown.join(", ")
}
