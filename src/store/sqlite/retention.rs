//! Retention on SQLite: reads what is due and hashes it while others write, and takes the write lock for
//! the change alone. Driven by the RetentionActor through the seam.
//!
//! Two processes on one file may both be at it: what one has dropped the other one does not find.

use super::{
    Database,
    reader::{stored_payload, stored_text},
    rows::RowStatement,
    within,
};
use crate::{
    domain::{Cursor, PayloadDigest, RetentionMode, RetentionRules, Timestamp},
    store::{
        Expired, ExpiredBatch, RetentionRun, RetentionStore, StoreFuture,
        retention::{BATCH_BYTES_MAX, MetRow, Walks},
    },
};
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteRow};
use std::{collections::HashMap, sync::Arc, time::Duration};

pub(super) struct SqliteRetention(pub(super) Arc<Database>);

struct SqliteRun {
    connection: SqliteConnection,
    database: Arc<Database>,
    rules: Arc<RetentionRules>,
    walks: Walks,
    drop: RowStatement,
    delete: RowStatement,
}

impl RetentionStore for SqliteRetention {
    fn begin_run(
        &self,
        rules: Arc<RetentionRules>,
    ) -> StoreFuture<'_, Option<Box<dyn RetentionRun>>> {
        Box::pin(async move {
            self.0.migrate().await?;
            let mut connection = self.0.connect_with(&self.0.connect).await?;
            let mut walks = Walks::of(&rules);
            let begin = begin(&mut connection, &mut walks);
            within(self.0.options, "begin retention", begin).await?;
            Ok(Some(Box::new(SqliteRun {
                connection,
                database: Arc::clone(&self.0),
                rules,
                walks,
                drop: RowStatement::new(
                    "with e (seq, digest) as (values ",
                    |_| "(?,?)".to_owned(),
                    ") update processed_events set payload = '{}', payload_digest = e.digest \
                     from e where processed_events.seq = e.seq and payload_digest is null",
                ),
                delete: RowStatement::new(
                    "delete from processed_events where seq in (",
                    |_| "?".to_owned(),
                    ")",
                ),
            }) as Box<dyn RetentionRun>))
        })
    }
}

/// Reads how far the walks have come.
async fn begin(connection: &mut SqliteConnection, walks: &mut Walks) -> Result<(), sqlx::Error> {
    for walk in walks.all() {
        let seq = sqlx::query_scalar("select seq from retention_walks where walk = ?")
            .bind(&walk.name)
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(seq) = seq {
            walk.place = Cursor { txn: 0, seq };
        }
    }
    Ok(())
}

impl SqliteRun {
    async fn look(&mut self, rows_max: u32) -> Result<Option<ExpiredBatch>, sqlx::Error> {
        let now = Timestamp::now().unix_us();
        let Some(walk) = self.walks.present() else {
            sqlx::query("update retention set last_run_at = ?")
                .bind(now)
                .execute(&mut self.connection)
                .await?;
            return Ok(None);
        };
        // Before the rows: what is changed after this is noticed.
        let changes = changes(&mut self.connection).await?;
        let rows = sqlx::query(
            "select seq, topic, event_id, payload_digest is not null as is_dropped, \
                    processed_at <= ? as is_due \
             from processed_events where seq > ? order by seq limit ?",
        )
        .bind(now.saturating_sub(age_us(walk.expiry.age)))
        .bind(walk.place.seq)
        .bind(i64::from(rows_max))
        .try_map(met_row)
        .fetch_all(&mut self.connection)
        .await?;
        let is_all = rows.len() < usize::try_from(rows_max).unwrap_or(usize::MAX);
        let (mut batch, is_over) = walk.choose(&self.rules, rows, is_all);
        walk.is_over = is_over;
        batch.changes = changes;
        if walk.expiry.mode == RetentionMode::DropPayload && !batch.is_empty() {
            let after = walk.place.seq;
            let count = self.digest(&mut batch, after).await?;
            self.walks.end_batch_after(count, &mut batch);
        }
        Ok(Some(batch))
    }

    /// Reads the payloads one by one, so that no more than one is held, until there are enough for one batch, and says
    /// of how many rows.
    async fn digest(&mut self, batch: &mut ExpiredBatch, after: i64) -> Result<usize, sqlx::Error> {
        let count = batch.rows.len();
        let rows = batch.rows.iter_mut();
        let mut chosen: HashMap<i64, &mut Option<PayloadDigest>> =
            rows.map(|row| (row.place.seq, &mut row.digest)).collect();
        let mut payloads = sqlx::query(
            "select seq, payload, octet_length(payload) as bytes from processed_events \
             where seq > ? and seq <= ? and payload_digest is null order by seq",
        )
        .bind(after)
        .bind(batch.place.seq)
        .fetch(&mut self.connection);
        let (mut digested, mut bytes) = (0, 0);
        while let Some(row) = payloads.try_next().await? {
            if let Some(digest) = chosen.get_mut(&row.try_get("seq")?) {
                bytes += usize::try_from(row.try_get::<i64, _>("bytes")?).unwrap_or(usize::MAX);
                **digest = Some(PayloadDigest::of_stored(&stored_payload(&row)?));
                digested += 1;
                if bytes >= BATCH_BYTES_MAX {
                    return Ok(digested);
                }
            }
        }
        Ok(count)
    }

    /// As on Postgres: of the oldest letters those whose time is over.
    async fn delete_letters(
        &mut self,
        age: Duration,
        letters_max: u32,
    ) -> Result<Expired, sqlx::Error> {
        let now = Timestamp::now().unix_us();
        // Without the write lock: mostly there are none.
        let last_due: Option<i64> = sqlx::query_scalar(
            "select max(id) from ( \
                 select id, received_at from dead_letters order by id limit ? \
             ) where received_at <= ?",
        )
        .bind(i64::from(letters_max))
        .bind(now.saturating_sub(age_us(age)))
        .fetch_one(&mut self.connection)
        .await?;
        let Some(last_due) = last_due else {
            return Ok(Expired::default());
        };
        // Should this fail, the transaction is given up with the connection.
        sqlx::raw_sql("begin immediate")
            .execute(&mut self.connection)
            .await?;
        let deleted = sqlx::query("delete from dead_letters where id <= ? and received_at <= ?")
            .bind(last_due)
            .bind(now.saturating_sub(age_us(age)))
            .execute(&mut self.connection)
            .await?
            .rows_affected();
        let count = i64::try_from(deleted).unwrap_or(i64::MAX);
        sqlx::query(
            "update system_stats \
             set dead_letter_count = max(dead_letter_count - ?, 0), updated_at = ? \
             where slot = 0",
        )
        .bind(count)
        .bind(now)
        .execute(&mut self.connection)
        .await?;
        sqlx::query("update retention set dead_letters_deleted = dead_letters_deleted + ?")
            .bind(count)
            .execute(&mut self.connection)
            .await?;
        sqlx::raw_sql("commit")
            .execute(&mut self.connection)
            .await?;
        Ok(Expired {
            dead_letters_deleted: deleted,
            ..Expired::default()
        })
    }

    async fn change(&mut self, batch: &ExpiredBatch) -> Result<Expired, sqlx::Error> {
        let Some(walk) = self.walks.present() else {
            return Ok(Expired::default());
        };
        let mut changed = 0;
        // Looked at in vain: once at the end is often enough to note that.
        if !batch.is_empty() || (walk.is_over && walk.place != batch.place) {
            let (name, mode) = (walk.name.clone(), walk.expiry.mode);
            sqlx::raw_sql("begin immediate")
                .execute(&mut self.connection)
                .await?;
            // Should this fail, the connection is given up, and with it the transaction.
            changed = self.fill_transaction(&name, mode, batch).await?;
            sqlx::raw_sql("commit")
                .execute(&mut self.connection)
                .await?;
        }
        Ok(self.walks.has_changed(batch, changed))
    }

    async fn fill_transaction(
        &mut self,
        walk: &str,
        mode: RetentionMode,
        batch: &ExpiredBatch,
    ) -> Result<u64, sqlx::Error> {
        if changes(&mut self.connection).await? != batch.changes {
            return Ok(0);
        }
        let mut changed = 0;
        let count = match mode {
            RetentionMode::DropPayload => {
                for (sql, rows) in self.drop.pieces(&batch.rows) {
                    let mut query = sqlx::query(AssertSqlSafe(sql));
                    for row in rows {
                        let digest = row.digest.as_ref().map(PayloadDigest::as_bytes);
                        query = query.bind(row.place.seq).bind(digest);
                    }
                    changed += query.execute(&mut self.connection).await?.rows_affected();
                }
                "update retention set payloads_dropped = payloads_dropped + ?"
            }
            RetentionMode::Delete => {
                for (sql, rows) in self.delete.pieces(&batch.rows) {
                    let mut query = sqlx::query(AssertSqlSafe(sql));
                    for row in rows {
                        query = query.bind(row.place.seq);
                    }
                    changed += query.execute(&mut self.connection).await?.rows_affected();
                }
                "update retention set events_deleted = events_deleted + ?"
            }
        };
        sqlx::query(count)
            .bind(i64::try_from(changed).unwrap_or(i64::MAX))
            .execute(&mut self.connection)
            .await?;
        if changed == batch.rows.len() as u64 {
            sqlx::query(
                "insert into retention_walks (walk, seq, updated_at) values (?, ?, ?) \
                 on conflict (walk) do update set \
                     seq = excluded.seq, updated_at = excluded.updated_at",
            )
            .bind(walk)
            .bind(batch.place.seq)
            .bind(Timestamp::now().unix_us())
            .execute(&mut self.connection)
            .await?;
        }
        Ok(changed)
    }
}

fn age_us(age: Duration) -> i64 {
    i64::try_from(age.as_micros()).unwrap_or(i64::MAX)
}

/// Rows that were deleted or changed, but for payloads that were dropped.
async fn changes(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select statements from deletions")
        .fetch_one(connection)
        .await
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that try_map asks for"
)]
fn met_row(row: SqliteRow) -> Result<MetRow, sqlx::Error> {
    Ok(MetRow {
        topic: stored_text(&row, "topic")?.unwrap_or_else(|text| text),
        event_id: stored_text(&row, "event_id")?.unwrap_or_else(|text| text),
        place: Cursor {
            txn: 0,
            seq: row.try_get("seq")?,
        },
        // One count of changes stands for all rows.
        version: String::new(),
        is_due: row.try_get("is_due")?,
        is_dropped: row.try_get("is_dropped")?,
    })
}

impl RetentionRun for SqliteRun {
    fn expire_dead_letters(&mut self, age: Duration, letters_max: u32) -> StoreFuture<'_, Expired> {
        Box::pin(async move {
            let options = self.database.options;
            let deleted = self.delete_letters(age, letters_max);
            within(options, "expire dead letters", deleted).await
        })
    }

    fn next(&mut self, rows_max: u32) -> StoreFuture<'_, Option<ExpiredBatch>> {
        Box::pin(async move {
            let options = self.database.options;
            within(options, "look for what has expired", self.look(rows_max)).await
        })
    }

    fn expire<'a>(&'a mut self, batch: &'a ExpiredBatch) -> StoreFuture<'a, Expired> {
        Box::pin(async move {
            let options = self.database.options;
            within(options, "expire", self.change(batch)).await
        })
    }
}
