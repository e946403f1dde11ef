//! The rows of Postgres' answers as what the seam speaks of. Used by whoever asks.

use crate::{
    domain::{Cursor, Event, EventId, Payload, Source, StoredEvent, Timestamp, Topic},
    store::{News, TopicSummary, Totals},
};
use chrono::{DateTime, Utc};
use sqlx::{Row, postgres::PgRow};
use std::error::Error;

/// 2000-01-01T00:00:00Z, from which Postgres counts, in microseconds since 1970.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that try_map asks for"
)]
pub(super) fn stored_event(row: PgRow) -> Result<StoredEvent, sqlx::Error> {
    let text = |column: &str| row.try_get::<String, _>(column);
    let stored = Payload::stored(text("payload")?);
    Ok(StoredEvent {
        event: Event::new(
            Topic::stored(text("topic")?),
            EventId::stored(text("event_id")?),
            stored_time(&row, "timestamp")?,
            Source::stored(text("source")?),
            stored.clone().unwrap_or_else(|_| Payload::empty()),
        ),
        foreign_payload: stored.err(),
        is_payload_dropped: row.try_get("is_payload_dropped")?,
        processed_at: stored_time(&row, "processed_at")?,
        cursor: Cursor {
            txn: row.try_get("txn")?,
            seq: row.try_get::<i32, _>("seq")?.into(),
        },
    })
}

/// Behind a transaction, or before the first.
pub(super) fn after_all_of(txn: Option<i64>) -> Cursor {
    txn.map_or(Cursor::START, |txn| Cursor { txn, seq: i64::MAX })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that try_map asks for"
)]
pub(super) fn news(row: PgRow) -> Result<News, sqlx::Error> {
    let numbers: Vec<i64> = row.try_get("numbers")?;
    // Postgres counts from 1.
    let topics = numbers
        .into_iter()
        .map(|number| usize::try_from(number - 1).map_err(decode));
    Ok(News {
        topics: topics.collect::<Result<_, _>>()?,
        end: after_all_of(row.try_get("end_txn")?),
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that try_map asks for"
)]
pub(super) fn topic_summary(row: PgRow) -> Result<TopicSummary, sqlx::Error> {
    Ok(TopicSummary {
        topic: Topic::stored(row.try_get::<String, _>("topic")?),
        unique: count(&row, "unique_count")?,
        duplicates: count(&row, "duplicate_count")?,
        first_stored_at: timestamp(row.try_get("first_stored_at")?)?,
        last_stored_at: timestamp(row.try_get("last_stored_at")?)?,
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that try_map asks for"
)]
pub(super) fn totals(row: PgRow) -> Result<Totals, sqlx::Error> {
    let time = |column: &str| {
        let time: Option<DateTime<Utc>> = row.try_get(column)?;
        time.map(timestamp).transpose()
    };
    Ok(Totals {
        received: count(&row, "received")?,
        unique_processed: count(&row, "unique_processed")?,
        duplicate_dropped: count(&row, "duplicate_dropped")?,
        conflicts: count(&row, "conflicts")?,
        rejected: count(&row, "rejected")?,
        topics: count(&row, "topics")?,
        dead_letters: count(&row, "dead_letters")?,
        payloads_dropped: count(&row, "payloads_dropped")?,
        events_deleted: count(&row, "events_deleted")?,
        dead_letters_deleted: count(&row, "dead_letters_deleted")?,
        retention_run_at: time("retention_run_at")?,
        last_updated: time("last_updated")?,
    })
}

pub(super) fn count(row: &PgRow, column: &str) -> Result<u64, sqlx::Error> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(decode)
}

/// A time of the log, where somebody may have put one by hand that no publisher can send, infinity among
/// them. sqlx panics of some of those.
pub(super) fn stored_time(row: &PgRow, column: &str) -> Result<Timestamp, sqlx::Error> {
    let value = row.try_get_raw(column)?;
    let bytes = value.as_bytes().map_err(decode)?;
    let since_2000_us = i64::from_be_bytes(bytes.try_into().map_err(decode)?);
    Ok(Timestamp::nearest_to_unix_us(
        since_2000_us.saturating_add(POSTGRES_EPOCH_US),
    ))
}

pub(super) fn timestamp(time: DateTime<Utc>) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_unix_us(time.timestamp_micros())
        .ok_or_else(|| decode("a time outside the years 0000 to 9999"))
}

pub(super) fn decode(error: impl Into<Box<dyn Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}
