//! What transactions have done for their topics is summed up beside the writer.

use super::{append, batch, event, open};
use crate::support::{Database, Engine, eventually};
use sqlx::{Connection, Executor, PgConnection};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// Transactions: more than are left to be summed up, and fewer than a writer sums up itself.
const MANY: u64 = 600;
const LEFT_MAX: i64 = 256;

#[tokio::test]
async fn a_writer_goes_on_while_nothing_can_be_summed_up_and_nothing_is_counted_twice() {
    let database = Database::create(Engine::Postgres).await;
    let store = open(database.url());
    let mut writer = store.writers.connect(0).await.unwrap();
    let mut number = 0;
    let mut store_one = async || {
        number += 1;
        let group = [batch(vec![event("t", &number.to_string(), "x")])];
        append(&mut *writer, &group).await;
        number
    };
    let mut locking = PgConnection::connect(database.url()).await.unwrap();
    let mut lock = locking.begin().await.unwrap();
    lock.execute("lock table topic_stats in exclusive mode")
        .await
        .unwrap();
    // Each of these would wait for the lock, and fail after its time, if it summed up.
    while store_one().await < MANY {}
    let counted = async || {
        let topics = store.reader.topics(None, 10).await.unwrap();
        topics[0].unique
    };
    assert_eq!(counted().await, MANY);
    let left = "select count(*) from topic_deltas";
    assert_eq!(database.number(left).await, 600);

    lock.rollback().await.unwrap();
    let mut stored = MANY;
    eventually("most is summed up", PATIENCE, async || {
        // A writer looks after it when it stores something.
        stored = store_one().await;
        database.number(left).await <= LEFT_MAX
    })
    .await;
    assert_eq!(counted().await, stored);
}

/// What was deleted stays in the index until the table is vacuumed; summing up is not to take longer each time.
#[tokio::test]
async fn what_has_been_summed_up_is_not_read_again_and_again() {
    const SUMMED_UP: i64 = 2_500;
    let database = Database::create(Engine::Postgres).await;
    let store = open(database.url());
    let mut writer = store.writers.connect(0).await.unwrap();
    database
        .execute("alter table topic_deltas set (autovacuum_enabled = false)")
        .await;
    let mut stored = 0;
    let summed_up = "select n_tup_del from pg_stat_user_tables where relname = 'topic_deltas'";
    eventually("enough is summed up", PATIENCE, async || {
        for _ in 0..MANY {
            stored += 1;
            let group = [batch(vec![event("t", &stored.to_string(), "x")])];
            append(&mut *writer, &group).await;
        }
        database.number(summed_up).await >= SUMMED_UP
    })
    .await;
    // Both are told of at once. As a row, and once more to see that it is gone.
    let readings = "select idx_tup_read / n_tup_del from pg_stat_user_tables \
                    join pg_stat_user_indexes using (relid) \
                    where pg_stat_user_tables.relname = 'topic_deltas'";
    assert!(database.number(readings).await < 3);
}
