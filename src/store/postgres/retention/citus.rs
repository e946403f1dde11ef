//! Retention where Citus has spread the events over workers. A row has no version there that could be named, so the rows
//! of a batch are locked, hashed and changed topic by topic, each statement on the one worker that has the
//! topic, and all of them with the count and the place on the coordinator in one transaction. Used by the
//! run beside it.
//!
//! Nobody who follows the log waits for it: the coordinator gives the transaction no number before the
//! first change on the coordinator itself, which is the last statement.

use super::{NOTE, PostgresRun, age_us, met_row};
use crate::{
    domain::{Payload, PayloadDigest, RetentionMode},
    store::{
        ExpiredBatch,
        retention::{MetRow, Walk},
    },
};
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::{PgConnection, Row};
use std::collections::BTreeMap;

/// On the coordinator, whose numbers the rows carry.
const END: &str = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest_running, \
        statement_timestamp() - $1::bigint * interval '1 microsecond' as due_through";

/// On all workers.
const LOOK: &str = "select topic, event_id, txn, seq, '' as version, \
        payload_digest is not null as is_dropped, processed_at <= $3::timestamptz as is_due \
    from processed_events \
    where txn >= $1 and (txn, seq) > ($1, $2) and txn < $4 \
    order by txn, seq limit $5";

/// On the topic's worker, as the two after it.
const LOCK: &str = "select event_id, payload::text as payload from processed_events \
    where topic = $1 and event_id = any($2::text[]) and payload_digest is null \
      and processed_at <= $3::timestamptz \
    for update";

const DROP: &str = "update processed_events set payload = '{}', \
        payload_digest = ($3::bytea[])[array_position($2::text[], event_id)] \
    where topic = $1 and event_id = any($2::text[]) and payload_digest is null";

const DELETE: &str = "delete from processed_events \
    where topic = $1 and event_id = any($2::text[]) and processed_at <= $3::timestamptz";

const COUNT: &str = "update retention set payloads_dropped = payloads_dropped + $1, \
    events_deleted = events_deleted + $2";

impl PostgresRun {
    /// The next rows of the log, below every transaction of the coordinator that may still commit.
    pub(super) async fn rows_on_citus(
        &mut self,
        walk: &Walk,
        rows_max: u32,
    ) -> Result<Vec<MetRow>, sqlx::Error> {
        let is_kept = self.setup.keeps_statements();
        let mut turn = self.setup.turn(&mut self.connection).await?;
        let (oldest_running, due_through) =
            end(turn.connection(), age_us(walk.expiry.age), is_kept).await?;
        let rows = sqlx::query(LOOK)
            .persistent(is_kept)
            .bind(walk.place.txn)
            .bind(walk.place.seq)
            .bind(due_through)
            .bind(oldest_running)
            .bind(i64::from(rows_max))
            .try_map(met_row)
            .fetch_all(turn.connection())
            .await?;
        turn.end().await?;
        Ok(rows)
    }

    /// How many rows were changed. Those that are gone, or are no longer due, stay as they are.
    pub(super) async fn change_on_citus(
        &mut self,
        walk: &Walk,
        batch: &ExpiredBatch,
    ) -> Result<u64, sqlx::Error> {
        let is_kept = self.setup.keeps_statements();
        // In the order of their names: who is at it at the same time locks them in the same one.
        let mut topics: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in &batch.rows {
            topics.entry(&row.topic).or_default().push(&row.event_id);
        }
        let mut transaction = self.setup.transaction(&mut self.connection).await?;
        let (_, due_through) = end(&mut transaction, age_us(walk.expiry.age), is_kept).await?;
        let mut changed = 0;
        for (topic, event_ids) in topics {
            changed += match walk.expiry.mode {
                RetentionMode::DropPayload => {
                    drop_payloads(&mut transaction, topic, &event_ids, due_through, is_kept).await?
                }
                RetentionMode::Delete => sqlx::query(DELETE)
                    .persistent(is_kept)
                    .bind(topic)
                    .bind(&event_ids)
                    .bind(due_through)
                    .execute(&mut *transaction)
                    .await?
                    .rows_affected(),
            };
        }
        let count = i64::try_from(changed).unwrap_or(i64::MAX);
        let (dropped, deleted) = match walk.expiry.mode {
            RetentionMode::DropPayload => (count, 0),
            RetentionMode::Delete => (0, count),
        };
        sqlx::query(COUNT)
            .persistent(is_kept)
            .bind(dropped)
            .bind(deleted)
            .execute(&mut *transaction)
            .await?;
        if changed == batch.rows.len() as u64 {
            sqlx::query(NOTE)
                .persistent(is_kept)
                .bind(&walk.name)
                .bind(batch.place.txn)
                .bind(batch.place.seq)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(changed)
    }
}

/// The oldest transaction that is under way, and up to when something must have been stored to be due.
async fn end(
    connection: &mut PgConnection,
    age_us: i64,
    is_kept: bool,
) -> Result<(i64, DateTime<Utc>), sqlx::Error> {
    let end = sqlx::query_as(END).persistent(is_kept).bind(age_us);
    end.fetch_one(connection).await
}

async fn drop_payloads(
    connection: &mut PgConnection,
    topic: &str,
    event_ids: &[&str],
    due_through: DateTime<Utc>,
    is_kept: bool,
) -> Result<u64, sqlx::Error> {
    let (mut found, mut digests) = (Vec::new(), Vec::new());
    // One by one, so that no more than one payload is held.
    let mut rows = sqlx::query(LOCK)
        .persistent(is_kept)
        .bind(topic)
        .bind(event_ids)
        .bind(due_through)
        .fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        let payload = Payload::stored(row.try_get::<String, _>("payload")?);
        found.push(row.try_get::<String, _>("event_id")?);
        digests.push(PayloadDigest::of_stored(&payload));
    }
    drop(rows);
    let digests: Vec<&[u8]> = digests.iter().map(PayloadDigest::as_bytes).collect();
    let dropped = sqlx::query(DROP)
        .persistent(is_kept)
        .bind(topic)
        .bind(&found)
        .bind(digests)
        .execute(connection)
        .await?;
    Ok(dropped.rows_affected())
}
