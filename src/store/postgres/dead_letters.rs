//! Dead letters in Postgres. Beside the reader, on its pool: they are few.

use super::{
    answers::{decode, timestamp},
    reader::PostgresReader,
};
use crate::{
    domain::{DeadLetter, NewDeadLetter},
    store::{DeadLetterStore, StoreFuture},
};
use sqlx::{Row, postgres::PgRow};

impl DeadLetterStore for PostgresReader {
    fn keep<'a>(&'a self, letters: &'a [NewDeadLetter]) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let mut reading = self.begin("keep dead letters").await?;
            let origins: Vec<&str> = letters.iter().map(NewDeadLetter::origin).collect();
            let reasons: Vec<&str> = letters.iter().map(NewDeadLetter::reason).collect();
            let entries: Vec<&[u8]> = letters.iter().map(NewDeadLetter::entry).collect();
            let truncated: Vec<bool> = letters.iter().map(NewDeadLetter::is_truncated).collect();
            // In the order of origins: two bridges that keep the same letters must not deadlock.
            let statement = reading
                .query(
                    "with kept as ( \
                     insert into dead_letters (origin, reason, entry, is_truncated) \
                     select origin, reason, entry, is_truncated \
                     from unnest($1::text[], $2::text[], $3::bytea[], $4::boolean[]) \
                          as l (origin, reason, entry, is_truncated) \
                     order by origin collate \"C\" \
                     on conflict (origin) do nothing returning 1 \
                 ) \
                 insert into system_stats as s (slot, dead_letter_count) \
                 values (0, (select count(*) from kept)) \
                 on conflict (slot) do update set \
                     dead_letter_count = s.dead_letter_count + excluded.dead_letter_count, \
                     updated_at = now()",
                )
                .bind(origins)
                .bind(reasons)
                .bind(entries)
                .bind(truncated)
                .execute(reading.connection());
            self.within("keep dead letters", statement).await?;
            reading.end().await?;
            Ok(())
        })
    }

    fn dead_letters(&self, before: Option<i64>, limit: u32) -> StoreFuture<'_, Vec<DeadLetter>> {
        Box::pin(async move {
            let mut reading = self.begin("dead letters").await?;
            let letters = reading
                .query(
                    "select id, origin, reason, entry, is_truncated, received_at from dead_letters \
                 where id < $1 order by id desc limit $2",
                )
                .bind(before.unwrap_or(i64::MAX))
                .bind(i64::from(limit))
                .try_map(dead_letter)
                .fetch_all(reading.connection());
            let letters = self.within("dead letters", letters).await?;
            reading.end().await?;
            Ok(letters)
        })
    }

    fn dead_letter(&self, id: i64) -> StoreFuture<'_, Option<DeadLetter>> {
        Box::pin(async move {
            let mut reading = self.begin("dead letter").await?;
            let letter = reading
                .query(
                    "select id, origin, reason, entry, is_truncated, received_at from dead_letters \
                 where id = $1",
                )
                .bind(id)
                .try_map(dead_letter)
                .fetch_optional(reading.connection());
            let letter = self.within("dead letter", letter).await?;
            reading.end().await?;
            Ok(letter)
        })
    }

    fn delete(&self, id: i64) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let mut reading = self.begin("delete dead letter").await?;
            let deleted = reading
                .scalar::<i64>(
                    "with gone as (delete from dead_letters where id = $1 returning 1), \
                 counted as ( \
                     update system_stats set \
                         dead_letter_count = dead_letter_count - (select count(*) from gone), \
                         updated_at = now() \
                     where slot = 0 and exists (select from gone) \
                 ) \
                 select count(*) from gone",
                )
                .bind(id)
                .fetch_one(reading.connection());
            let deleted = self.within("delete dead letter", deleted).await?;
            reading.end().await?;
            Ok(deleted > 0)
        })
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that try_map asks for"
)]
fn dead_letter(row: PgRow) -> Result<DeadLetter, sqlx::Error> {
    Ok(DeadLetter {
        id: row.try_get("id")?,
        letter: NewDeadLetter::kept(
            row.try_get("origin")?,
            row.try_get("reason")?,
            row.try_get("entry")?,
            row.try_get("is_truncated")?,
        ),
        received_at: timestamp(row.try_get("received_at")?).map_err(decode)?,
    })
}
