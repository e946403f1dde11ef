//! Actors, processes and servers die under load, and every event that was answered is stored
//! exactly once. The account is kept outside the process (`ledger`) and compared with the table.
//!
//! Each run prints its seed; `FAULT_SEED` repeats it as far as timing lets it.

mod actors;
mod appends;
mod balanced;
mod broker;
mod citus;
mod clients;
mod cluster;
mod database;
mod failover;
mod ledger;
mod load;
mod numbers;
mod pooler;
mod proxy;
mod replica;
mod rollout;
mod storm;
mod upgrade;

use crate::support::{TestApp, eventually, seed};
use futures_util::TryStreamExt;
use ledger::{Key, Ledger, Served};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// The longest that a service may need to be at rest after its last fault.
const REST_MAX: Duration = Duration::from_secs(60);

/// What a run's faults may have done to the account.
#[derive(Default)]
struct Allowance {
    /// How often the broker may have delivered something once more than it was sent.
    redelivered_max: u64,
    /// How often something was sent that may have been a conflict.
    conflicts_max: u64,
    /// Keys that a fault destroyed in the broker before they were stored.
    destroyed: HashSet<Key>,
}

/// Waits until all is quiet, and fails the test where the server's account differs from ours; gives it.
async fn assert_the_accounts_agree(app: &TestApp, ledger: &Ledger, allowance: Allowance) -> Served {
    let mut before = Value::Null;
    eventually("the service is at rest", REST_MAX, async || {
        let answer = app.get("/stats").await;
        if answer.status != 200 {
            return false;
        }
        let stats = answer.json();
        let is_same = before["received_count"] == stats["received_count"];
        let is_at_rest = stats["queue_length"] == 0 && is_same;
        before = stats;
        is_at_rest
    })
    .await;
    let count = |name: &str| before[name].as_u64().unwrap();
    let served = Served {
        received: count("received_count"),
        unique: count("unique_processed_count"),
        duplicates: count("duplicate_dropped_count"),
        conflicts: count("conflict_count"),
        rows: rows(app.database().url()).await,
        redelivered_max: allowance.redelivered_max,
        conflicts_max: allowance.conflicts_max,
        destroyed: allowance.destroyed,
    };
    let sums = ledger.sums();
    eprintln!(
        "{sums}; received {}, unique {}, duplicates {}",
        served.received, served.unique, served.duplicates
    );
    let differences = ledger.differences(&served);
    assert!(
        differences.is_empty(),
        "{} differences, the first: {:#?}",
        differences.len(),
        &differences[..differences.len().min(5)]
    );
    assert!(sums.keys > 0, "the load has sent nothing");
    served
}

/// The table itself.
async fn rows(url: &str) -> HashMap<Key, Value> {
    let query = "select topic, event_id, cast(payload as text) from processed_events";
    let entry = |topic: String, event_id: String, payload: String| {
        let payload = serde_json::from_str(&payload).unwrap();
        (Key { topic, event_id }, payload)
    };
    // One by one: after an hour there are millions.
    let query = AssertSqlSafe(query);
    if url.starts_with("postgres") {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let rows = sqlx::query(query).fetch(&mut connection);
        rows.map_ok(|row| entry(row.get(0), row.get(1), row.get(2)))
            .try_collect()
            .await
    } else {
        let mut connection = SqliteConnection::connect(url).await.unwrap();
        let rows = sqlx::query(query).fetch(&mut connection);
        rows.map_ok(|row| entry(row.get(0), row.get(1), row.get(2)))
            .try_collect()
            .await
    }
    .unwrap()
}

/// Starts of actors beyond the first, over all of them.
async fn restarts(app: &TestApp) -> u64 {
    let actors = app.actors().await;
    let restarts = actors.iter().map(|actor| actor["restarts"].as_u64());
    restarts.map(Option::unwrap).sum()
}
