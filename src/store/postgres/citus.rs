//! What is different where Citus has spread the events over workers. A function of a snapshot would be asked on
//! each worker there, of the worker's own transactions, so the end of the log is asked for first, on
//! the coordinator. Used by the reader; for the writer see `writer::citus`.

use super::pool::Reading;

/// Spreads the events, once.
pub(super) const DISTRIBUTE: &str = include_str!("../../../migrations/citus/distribute.sql");

pub(super) const OLDEST_FIRST: &str = "select topic, event_id, timestamp, source, \
        payload::text as payload, payload_digest is not null as is_payload_dropped, processed_at, txn, seq \
    from processed_events \
    where txn >= $1 and (txn, seq) > ($1, $2) and txn < $7 \
      and ($3::text is null or source = $3) \
      and ($4::timestamptz is null or timestamp >= $4) \
      and ($5::timestamptz is null or timestamp < $5) \
    order by txn, seq limit $6";

pub(super) const OLDEST_FIRST_OF_TOPIC: &str = "select topic, event_id, timestamp, source, \
        payload::text as payload, payload_digest is not null as is_payload_dropped, processed_at, txn, seq \
    from processed_events \
    where topic = $7 and txn >= $1 and (txn, seq) > ($1, $2) and txn < $8 \
      and ($3::text is null or source = $3) \
      and ($4::timestamptz is null or timestamp >= $4) \
      and ($5::timestamptz is null or timestamp < $5) \
    order by txn, seq limit $6";

const NEWS: &str = "select distinct topic from processed_events \
    where topic = any($1) and txn > $2 and txn < $3";

/// The number of the oldest transaction that is under way, on the coordinator.
pub(super) async fn oldest_running(reading: &mut Reading<'_>) -> Result<i64, sqlx::Error> {
    reading
        .scalar("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        .fetch_one(reading.connection())
        .await
}

/// The end of the log, as the reader says it elsewhere in one statement.
pub(super) async fn last(reading: &mut Reading<'_>) -> Result<Option<i64>, sqlx::Error> {
    let oldest = oldest_running(reading).await?;
    last_before(reading, oldest).await
}

async fn last_before(reading: &mut Reading<'_>, oldest: i64) -> Result<Option<i64>, sqlx::Error> {
    let stored: Option<i64> = reading
        .scalar("select max(txn) from processed_events where txn < $1")
        .bind(oldest)
        .fetch_one(reading.connection())
        .await?;
    let committed = reading
        .scalar("select max(xid) from writer_transactions where xid < $1")
        .bind(oldest)
        .fetch_one(reading.connection())
        .await?;
    Ok(stored.max(committed))
}

/// Which of these topics have something in transactions after this one, and the end of the log.
pub(super) async fn news(
    reading: &mut Reading<'_>,
    topics: &[&str],
    after: i64,
) -> Result<(Vec<usize>, Option<i64>), sqlx::Error> {
    let end = oldest_running(reading).await?;
    let found: Vec<String> = reading
        .scalar(NEWS)
        .bind(topics)
        .bind(after)
        .bind(end)
        .fetch_all(reading.connection())
        .await?;
    let numbers = (0..topics.len()).filter(|&number| found.iter().any(|it| it == topics[number]));
    Ok((numbers.collect(), last_before(reading, end).await?))
}
