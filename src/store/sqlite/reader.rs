//! Reading from SQLite through a small pool. Used by HTTP through the seam. Readers see the last
//! commit and never wait for a writer.

use super::{Database, within};
use crate::{
    domain::{
        Cursor, Event, EventId, EventPage, EventQuery, ForeignPayload, Order, Payload, Source,
        StoredEvent, Timestamp, Topic,
    },
    store::{CommitSignal, EventReader, News, StoreError, StoreFuture, TopicSummary, Totals, page},
};
use sqlx::{Row, SqlitePool, sqlite::SqliteRow};
use std::{error::Error, pin::Pin, sync::Arc};

pub(super) struct SqliteReader {
    database: Arc<Database>,
    pool: SqlitePool,
    /// One connection that may write.
    pub(super) notes: SqlitePool,
}

impl SqliteReader {
    pub(super) fn new(database: Arc<Database>, pool: SqlitePool, notes: SqlitePool) -> Self {
        Self {
            database,
            pool,
            notes,
        }
    }

    pub(super) async fn within<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        self.database.migrate().await?;
        within(self.database.options, what, call).await
    }
}

// One statement for each index and direction, as on Postgres.

const NEWEST_FIRST: &str = "select seq, topic, event_id, timestamp, source, payload, \
        payload_digest is not null as is_payload_dropped, processed_at \
    from processed_events \
    where seq < ?1 and (?2 is null or source = ?2) \
      and (?3 is null or timestamp >= ?3) and (?4 is null or timestamp < ?4) \
    order by seq desc limit ?5";

const NEWEST_FIRST_OF_TOPIC: &str = "select seq, topic, event_id, timestamp, source, payload, \
        payload_digest is not null as is_payload_dropped, processed_at \
    from processed_events \
    where topic = ?6 and seq < ?1 and (?2 is null or source = ?2) \
      and (?3 is null or timestamp >= ?3) and (?4 is null or timestamp < ?4) \
    order by seq desc limit ?5";

const OLDEST_FIRST: &str = "select seq, topic, event_id, timestamp, source, payload, \
        payload_digest is not null as is_payload_dropped, processed_at \
    from processed_events \
    where seq > ?1 and (?2 is null or source = ?2) \
      and (?3 is null or timestamp >= ?3) and (?4 is null or timestamp < ?4) \
    order by seq limit ?5";

const OLDEST_FIRST_OF_TOPIC: &str = "select seq, topic, event_id, timestamp, source, payload, \
        payload_digest is not null as is_payload_dropped, processed_at \
    from processed_events \
    where topic = ?6 and seq > ?1 and (?2 is null or source = ?2) \
      and (?3 is null or timestamp >= ?3) and (?4 is null or timestamp < ?4) \
    order by seq limit ?5";

impl EventReader for SqliteReader {
    fn page<'a>(&'a self, query: &'a EventQuery) -> StoreFuture<'a, EventPage> {
        Box::pin(async move {
            let statement = match (query.order, &query.topic) {
                (Order::Descending, None) => NEWEST_FIRST,
                (Order::Descending, Some(_)) => NEWEST_FIRST_OF_TOPIC,
                (Order::Ascending, None) => OLDEST_FIRST,
                (Order::Ascending, Some(_)) => OLDEST_FIRST_OF_TOPIC,
            };
            let from = match (query.after, query.order) {
                // A cursor of Postgres lies behind everything that is here.
                (Some(Cursor { txn: 1.., .. }), _) | (None, Order::Descending) => i64::MAX,
                (Some(cursor), _) => cursor.seq,
                (None, Order::Ascending) => 0,
            };
            let mut statement = sqlx::query(statement)
                .bind(from)
                .bind(query.source.as_ref().map(Source::as_str))
                .bind(query.since.map(Timestamp::unix_us))
                .bind(query.until.map(Timestamp::unix_us))
                // One more than asked for tells whether there is another page.
                .bind(i64::from(query.limit) + 1);
            if let Some(topic) = &query.topic {
                statement = statement.bind(topic.as_str());
            }
            let page = page::collect(statement.try_map(stored_event).fetch(&self.pool));
            let found = self.within("page", page).await?;
            Ok(EventPage::new(query, found.events, found.is_cut))
        })
    }

    fn find<'a>(
        &'a self,
        topic: &'a Topic,
        event_id: &'a EventId,
    ) -> StoreFuture<'a, Option<StoredEvent>> {
        Box::pin(async move {
            let row = sqlx::query(
                "select seq, topic, event_id, timestamp, source, payload, \
        payload_digest is not null as is_payload_dropped, processed_at \
                 from processed_events where topic = ? and event_id = ?",
            )
            .bind(topic.as_str())
            .bind(event_id.as_str())
            .try_map(stored_event)
            .fetch_optional(&self.pool);
            self.within("find", row).await
        })
    }

    fn topics<'a>(
        &'a self,
        after: Option<&'a Topic>,
        limit: u32,
    ) -> StoreFuture<'a, Vec<TopicSummary>> {
        Box::pin(async move {
            let rows = sqlx::query(
                "select t.topic, t.first_stored_at, coalesce(s.unique_count, 0) as unique_count, \
                        coalesce(s.duplicate_count, 0) as duplicate_count, \
                        coalesce(s.last_stored_at, t.first_stored_at) as last_stored_at \
                 from topics t left join topic_stats s on s.topic = t.topic \
                 where t.topic > ? order by t.topic limit ?",
            )
            .bind(after.map_or("", Topic::as_str))
            .bind(i64::from(limit))
            .try_map(topic_summary)
            .fetch_all(&self.pool);
            self.within("topics", rows).await
        })
    }

    fn end(&self) -> StoreFuture<'_, Cursor> {
        Box::pin(async move {
            // Not the last row: retention may have deleted it, and the end never goes back.
            let last = sqlx::query_scalar(
                "select coalesce( \
                     (select seq from sqlite_sequence where name = 'processed_events'), 0)",
            )
            .fetch_one(&self.pool);
            let seq = self.within("end", last).await?;
            Ok(Cursor { txn: 0, seq })
        })
    }

    fn news<'a>(&'a self, topics: &'a [Topic], after: Cursor) -> StoreFuture<'a, News> {
        Box::pin(async move {
            let end = self.end().await?;
            let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
            // What comes between the two statements is news of the next call.
            let numbers = sqlx::query(
                "select t.key from json_each(?) as t where exists ( \
                     select 1 from processed_events p \
                     where p.topic = t.value and p.seq > ? and p.seq <= ? \
                 )",
            )
            .bind(serde_json::json!(names).to_string())
            .bind(after.seq)
            .bind(end.seq)
            .try_map(|row: SqliteRow| usize::try_from(row.try_get::<i64, _>(0)?).map_err(decode))
            .fetch_all(&self.pool);
            let topics = self.within("news", numbers).await?;
            Ok(News { topics, end })
        })
    }

    fn commits(&self) -> CommitSignal {
        self.database.commits.clone()
    }

    fn totals(&self) -> StoreFuture<'_, Totals> {
        Box::pin(async move {
            let totals = sqlx::query(
                "select coalesce(sum(received_count), 0) as received, \
                        coalesce(sum(unique_processed_count), 0) as unique_processed, \
                        coalesce(sum(duplicate_dropped_count), 0) as duplicate_dropped, \
                        coalesce(sum(conflict_count), 0) as conflicts, \
                        coalesce(sum(rejected_count), 0) as rejected, \
                        coalesce(sum(topics_count), 0) as topics, \
                        coalesce(sum(dead_letter_count), 0) as dead_letters, \
                        max(updated_at) as last_updated, \
                        (select payloads_dropped from retention) as payloads_dropped, \
                        (select events_deleted from retention) as events_deleted, \
                        (select dead_letters_deleted from retention) as dead_letters_deleted, \
                        (select last_run_at from retention) as retention_run_at \
                 from system_stats",
            )
            .try_map(totals)
            .fetch_one(&self.pool);
            self.within("totals", totals).await
        })
    }

    fn add_rejected(&self, events: u64) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let statement = sqlx::query(
                "insert into system_stats as s (slot, rejected_count, updated_at) values (0, ?, ?) \
                 on conflict (slot) do update set \
                     rejected_count = s.rejected_count + excluded.rejected_count, \
                     updated_at = excluded.updated_at",
            )
            .bind(i64::try_from(events).unwrap_or(i64::MAX))
            .bind(Timestamp::now().unix_us())
            .execute(&self.notes);
            self.within("add rejected", statement).await.map(drop)
        })
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            // A table, not a constant: the file itself has to answer.
            let one = sqlx::query("select slot from system_stats limit 1").execute(&self.pool);
            self.within("ping", one).await.map(drop)
        })
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            self.notes.close().await;
            self.pool.close().await;
        })
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that try_map asks for"
)]
fn stored_event(row: SqliteRow) -> Result<StoredEvent, sqlx::Error> {
    let text =
        |column| Ok::<_, sqlx::Error>(stored_text(&row, column)?.unwrap_or_else(|text| text));
    let stored = stored_payload(&row)?;
    Ok(StoredEvent {
        event: Event::new(
            Topic::stored(text("topic")?),
            EventId::stored(text("event_id")?),
            Timestamp::nearest_to_unix_us(row.try_get("timestamp")?),
            Source::stored(text("source")?),
            stored.clone().unwrap_or_else(|_| Payload::empty()),
        ),
        foreign_payload: stored.err(),
        is_payload_dropped: row.try_get("is_payload_dropped")?,
        processed_at: Timestamp::nearest_to_unix_us(row.try_get("processed_at")?),
        cursor: Cursor {
            txn: 0,
            seq: row.try_get("seq")?,
        },
    })
}

pub(super) fn stored_payload(
    row: &SqliteRow,
) -> Result<Result<Payload, ForeignPayload>, sqlx::Error> {
    Ok(match stored_text(row, "payload")? {
        Ok(text) => Payload::stored(text),
        Err(text) => Err(ForeignPayload::Text(text.into())),
    })
}

/// A text by its declaration, which SQLite does not check for being one; as an error with something else in
/// the place of what is none.
pub(super) fn stored_text(
    row: &SqliteRow,
    column: &str,
) -> Result<Result<String, String>, sqlx::Error> {
    let text = String::from_utf8(row.try_get(column)?);
    Ok(text.map_err(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that try_map asks for"
)]
fn topic_summary(row: SqliteRow) -> Result<TopicSummary, sqlx::Error> {
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
fn totals(row: SqliteRow) -> Result<Totals, sqlx::Error> {
    let time = |column: &str| {
        let time: Option<i64> = row.try_get(column)?;
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

fn count(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(decode)
}

pub(super) fn timestamp(unix_us: i64) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_unix_us(unix_us).ok_or_else(|| decode("a time outside the years 0000 to 9999"))
}

pub(super) fn decode(error: impl Into<Box<dyn Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}
