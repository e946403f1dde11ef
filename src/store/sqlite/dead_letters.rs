//! Dead letters in SQLite, on the connection for notes: they are few.

use super::reader::{SqliteReader, timestamp};
use crate::{
    domain::{DeadLetter, NewDeadLetter, Timestamp},
    store::{DeadLetterStore, StoreFuture},
};
use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};

impl DeadLetterStore for SqliteReader {
    fn keep<'a>(&'a self, letters: &'a [NewDeadLetter]) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let kept = async {
                let mut transaction = self.notes.begin_with("begin immediate").await?;
                let now = Timestamp::now().unix_us();
                let mut kept = 0;
                for letter in letters {
                    let inserted = sqlx::query(
                        "insert into dead_letters \
                             (origin, reason, entry, is_truncated, received_at) \
                         values (?, ?, ?, ?, ?) on conflict (origin) do nothing",
                    )
                    .bind(letter.origin())
                    .bind(letter.reason())
                    .bind(letter.entry())
                    .bind(letter.is_truncated())
                    .bind(now)
                    .execute(&mut *transaction)
                    .await?;
                    kept += inserted.rows_affected();
                }
                add(&mut transaction, i64::try_from(kept).unwrap_or(i64::MAX)).await?;
                transaction.commit().await
            };
            self.within("keep dead letters", kept).await
        })
    }

    fn dead_letters(&self, before: Option<i64>, limit: u32) -> StoreFuture<'_, Vec<DeadLetter>> {
        Box::pin(async move {
            let letters = sqlx::query(
                "select id, origin, reason, entry, is_truncated, received_at from dead_letters \
                 where id < ? order by id desc limit ?",
            )
            .bind(before.unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .try_map(dead_letter)
            .fetch_all(&self.notes);
            self.within("dead letters", letters).await
        })
    }

    fn dead_letter(&self, id: i64) -> StoreFuture<'_, Option<DeadLetter>> {
        Box::pin(async move {
            let letter = sqlx::query(
                "select id, origin, reason, entry, is_truncated, received_at from dead_letters \
                 where id = ?",
            )
            .bind(id)
            .try_map(dead_letter)
            .fetch_optional(&self.notes);
            self.within("dead letter", letter).await
        })
    }

    fn delete(&self, id: i64) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let deleted = async {
                let mut transaction = self.notes.begin_with("begin immediate").await?;
                let deleted = sqlx::query("delete from dead_letters where id = ?")
                    .bind(id)
                    .execute(&mut *transaction)
                    .await?
                    .rows_affected();
                if deleted > 0 {
                    add(&mut transaction, -1).await?;
                }
                transaction.commit().await?;
                Ok(deleted > 0)
            };
            self.within("delete dead letter", deleted).await
        })
    }
}

/// Changes the number of letters that are kept.
async fn add(
    transaction: &mut Transaction<'static, Sqlite>,
    letters: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into system_stats as s (slot, dead_letter_count, updated_at) values (0, ?, ?) \
         on conflict (slot) do update set \
             dead_letter_count = s.dead_letter_count + excluded.dead_letter_count, \
             updated_at = excluded.updated_at",
    )
    .bind(letters)
    .bind(Timestamp::now().unix_us())
    .execute(&mut **transaction)
    .await
    .map(drop)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that try_map asks for"
)]
fn dead_letter(row: SqliteRow) -> Result<DeadLetter, sqlx::Error> {
    Ok(DeadLetter {
        id: row.try_get("id")?,
        letter: NewDeadLetter::kept(
            row.try_get("origin")?,
            row.try_get("reason")?,
            row.try_get("entry")?,
            row.try_get("is_truncated")?,
        ),
        received_at: timestamp(row.try_get("received_at")?)?,
    })
}
