//! Retention on Postgres: reads what is due without a lock, hashes it here, and drops it in one statement.
//! Driven by the RetentionActor through the seam.
//!
//! While a transaction has a number, whoever follows the log waits for it. So nothing is changed before
//! all is known, and the one statement that changes something is a transaction of its own.
//!
//! Before a walk deletes anything it announces up to which time of storing it will, for those who remember
//! keys; it deletes nothing younger.

mod citus;

use super::{
    Database,
    answers::{decode, timestamp},
    session::end_predecessors,
    turn::Setup,
    within,
};
use crate::{
    domain::{Cursor, Payload, PayloadDigest, RetentionMode, RetentionRules, Timestamp},
    store::{
        Expired, ExpiredBatch, RetentionRun, RetentionStore, StoreFuture,
        retention::{BATCH_BYTES_MAX, ExpiredRow, MetRow, Walks},
    },
};
use futures_util::TryStreamExt;
use sqlx::{
    PgConnection, Row,
    postgres::{PgConnectOptions, PgRow},
};
use std::{sync::Arc, time::Duration};

/// The advisory lock of the process that is at it; the first half says "oncr" in ASCII.
const LOCK: (i32, i32) = (0x6f6e_6372, 0);

const ROLE: &str = "retention";

/// Rows whose payloads are read at first, before their size is known; of the largest that is a moment's work.
const DIGESTED_MIN: usize = 4;

pub(super) struct PostgresRetention(pub(super) Arc<Database>);

struct PostgresRun {
    connection: PgConnection,
    setup: Setup,
    database: Arc<Database>,
    rules: Arc<RetentionRules>,
    walks: Walks,
}

impl RetentionStore for PostgresRetention {
    fn begin_run(
        &self,
        rules: Arc<RetentionRules>,
    ) -> StoreFuture<'_, Option<Box<dyn RetentionRun>>> {
        Box::pin(async move {
            self.0.migrate().await?;
            let settings = [
                // As for writers and readers: what the planner believes must not matter.
                ("plan_cache_mode", self.0.plan_cache_mode()),
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                ("enable_sort", "off"),
            ];
            let set_up = |server: &PgConnectOptions| self.0.set_up(ROLE, server, &settings);
            let connection = self.0.servers.connect(|server| set_up(server).0);
            let (server, mut connection) = connection.await?;
            let (_, setup) = set_up(self.0.servers.options(server));
            // Once more where that is another one than before.
            self.0.migrate().await?;
            let mut walks = Walks::of(&rules);
            let name = self.0.name_of(ROLE);
            let begin = begin(&mut connection, &setup, &name, &mut walks);
            if !within(self.0.options, "begin retention", begin).await? {
                return Ok(None);
            }
            Ok(Some(Box::new(PostgresRun {
                connection,
                setup,
                database: Arc::clone(&self.0),
                rules,
                walks,
            }) as Box<dyn RetentionRun>))
        })
    }
}

/// Ends what an earlier run of this process left open, takes the lock, which goes with the connection, and
/// reads how far the walks have come.
///
/// Behind a pooler a session has no lock: two processes may be at it, and what one has changed the other one
/// leaves alone.
async fn begin(
    connection: &mut PgConnection,
    setup: &Setup,
    name: &str,
    walks: &mut Walks,
) -> Result<bool, sqlx::Error> {
    if setup.keeps_statements() {
        end_predecessors(connection, name).await?;
        let is_ours: bool = sqlx::query_scalar("select pg_try_advisory_lock($1, $2)")
            .bind(LOCK.0)
            .bind(LOCK.1)
            .fetch_one(&mut *connection)
            .await?;
        if !is_ours {
            return Ok(false);
        }
    }
    let mut turn = setup.turn(connection).await?;
    for walk in walks.all() {
        let place = sqlx::query_as("select txn, seq from retention_walks where walk = $1")
            .persistent(setup.keeps_statements())
            .bind(&walk.name)
            .fetch_optional(turn.connection())
            .await?;
        if let Some((txn, seq)) = place {
            walk.place = Cursor { txn, seq };
        }
    }
    turn.end().await?;
    Ok(true)
}

impl PostgresRun {
    async fn look(&mut self, rows_max: u32) -> Result<Option<ExpiredBatch>, sqlx::Error> {
        let keeps_statements = self.setup.keeps_statements();
        let mut turn = self.setup.turn(&mut self.connection).await?;
        let Some(walk) = self.walks.present() else {
            sqlx::query("update retention set last_run_at = statement_timestamp()")
                .persistent(keeps_statements)
                .execute(turn.connection())
                .await?;
            turn.end().await?;
            return Ok(None);
        };
        let rows = if self.database.options.is_citus {
            turn.end().await?;
            let walk = walk.clone();
            self.rows_on_citus(&walk, rows_max).await?
        } else {
            let rows = sqlx::query(LOOK)
                .persistent(keeps_statements)
                .bind(walk.place.txn)
                .bind(walk.place.seq)
                .bind(age_us(walk.expiry.age))
                .bind(i64::from(rows_max))
                .bind(walk.announced_through.map(Timestamp::to_chrono))
                .try_map(met_row)
                .fetch_all(turn.connection())
                .await?;
            turn.end().await?;
            rows
        };
        let Some(walk) = self.walks.present() else {
            return Ok(None);
        };
        let is_all = rows.len() < usize::try_from(rows_max).unwrap_or(usize::MAX);
        let (mut batch, is_over) = walk.choose(&self.rules, rows, is_all);
        walk.is_over = is_over;
        let is_digested_now = !self.database.options.is_citus && !batch.is_empty();
        if walk.expiry.mode == RetentionMode::DropPayload && is_digested_now {
            let count = self.digest(&mut batch.rows).await?;
            self.walks.end_batch_after(count, &mut batch);
        }
        Ok(Some(batch))
    }

    /// Reads payloads until there are enough for one batch, and says of how many rows: few at a time, as only
    /// when these are there is it known how large they are.
    async fn digest(&mut self, rows: &mut [ExpiredRow]) -> Result<usize, sqlx::Error> {
        let (mut count, mut bytes, mut step) = (0, 0, DIGESTED_MIN);
        while count < rows.len() && bytes < BATCH_BYTES_MAX {
            let end = rows.len().min(count + step);
            let read_bytes = self.digest_all(&mut rows[count..end]).await?;
            (count, bytes) = (end, bytes + read_bytes);
            if read_bytes < BATCH_BYTES_MAX / 8 {
                step *= 4;
            }
        }
        Ok(count)
    }

    /// Reads the payloads one by one, so that no more than one is held, and says how many bytes they have. Rows that
    /// are gone or changed by now stay without a digest.
    async fn digest_all(&mut self, rows: &mut [ExpiredRow]) -> Result<usize, sqlx::Error> {
        let keys = Keys::of(rows);
        let mut turn = self.setup.turn(&mut self.connection).await?;
        let mut payloads = sqlx::query(
            "select e.number, p.payload::text as payload \
             from unnest($1::text[], $2::text[], $3::text[]) with ordinality \
                  as e (topic, event_id, version, number) \
             join processed_events p on p.topic = e.topic and p.event_id = e.event_id \
             where p.xmin = e.version::xid and p.payload_digest is null",
        )
        .persistent(self.setup.keeps_statements())
        .bind(&keys.topics)
        .bind(&keys.event_ids)
        .bind(&keys.versions)
        .fetch(turn.connection());
        let (mut digests, mut bytes) = (vec![None; rows.len()], 0);
        while let Some(row) = payloads.try_next().await? {
            // Postgres counts from 1.
            let number = usize::try_from(row.try_get::<i64, _>("number")? - 1).map_err(decode)?;
            let payload = row.try_get::<String, _>("payload")?;
            bytes += payload.len();
            if let Some(digest) = digests.get_mut(number) {
                *digest = Some(PayloadDigest::of_stored(&Payload::stored(payload)));
            }
        }
        drop(payloads);
        turn.end().await?;
        for (row, digest) in rows.iter_mut().zip(digests) {
            row.digest = digest;
        }
        Ok(bytes)
    }

    async fn delete_letters(
        &mut self,
        age: Duration,
        letters_max: u32,
    ) -> Result<Expired, sqlx::Error> {
        let mut turn = self.setup.turn(&mut self.connection).await?;
        let deleted: i64 = sqlx::query_scalar(DELETE_LETTERS)
            .persistent(self.setup.keeps_statements())
            .bind(age_us(age))
            .bind(i64::from(letters_max))
            .fetch_one(turn.connection())
            .await?;
        turn.end().await?;
        Ok(Expired {
            dead_letters_deleted: u64::try_from(deleted).map_err(decode)?,
            ..Expired::default()
        })
    }

    async fn change(&mut self, batch: &ExpiredBatch) -> Result<Expired, sqlx::Error> {
        let Some(walk) = self.walks.present() else {
            return Ok(Expired::default());
        };
        if self.database.options.is_citus && !batch.is_empty() {
            let walk = walk.clone();
            let changed = self.change_on_citus(&walk, batch).await?;
            return Ok(self.walks.has_changed(batch, changed));
        }
        let keeps_statements = self.setup.keeps_statements();
        let statement = match walk.expiry.mode {
            RetentionMode::DropPayload => DROP,
            RetentionMode::Delete => DELETE,
        };
        if statement == DELETE && !batch.is_empty() && walk.announced_through.is_none() {
            let mut turn = self.setup.turn(&mut self.connection).await?;
            let through = sqlx::query_scalar(ANNOUNCE)
                .persistent(keeps_statements)
                .bind(age_us(walk.expiry.age))
                .fetch_one(turn.connection())
                .await?;
            turn.end().await?;
            walk.announced_through = Some(timestamp(through)?);
        }
        let keys = Keys::of(&batch.rows);
        let mut turn = self.setup.turn(&mut self.connection).await?;
        let changed = if !batch.is_empty() {
            let changed: i64 = sqlx::query_scalar(statement)
                .persistent(keeps_statements)
                .bind(&walk.name)
                .bind(batch.place.txn)
                .bind(batch.place.seq)
                .bind(&keys.topics)
                .bind(&keys.event_ids)
                .bind(&keys.versions)
                .bind(&keys.digests)
                .fetch_one(turn.connection())
                .await?;
            u64::try_from(changed).map_err(decode)?
        } else {
            // Looked at in vain: once at the end is often enough to note that.
            if walk.is_over && walk.place != batch.place {
                sqlx::query(NOTE)
                    .persistent(keeps_statements)
                    .bind(&walk.name)
                    .bind(batch.place.txn)
                    .bind(batch.place.seq)
                    .execute(turn.connection())
                    .await?;
            }
            0
        };
        turn.end().await?;
        Ok(self.walks.has_changed(batch, changed))
    }
}

impl RetentionRun for PostgresRun {
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

/// Some rows as the column arrays that `unnest` takes.
struct Keys<'a> {
    topics: Vec<&'a str>,
    event_ids: Vec<&'a str>,
    versions: Vec<&'a str>,
    digests: Vec<Option<&'a [u8]>>,
}

impl<'a> Keys<'a> {
    fn of(rows: &'a [ExpiredRow]) -> Self {
        Self {
            topics: rows.iter().map(|row| row.topic.as_str()).collect(),
            event_ids: rows.iter().map(|row| row.event_id.as_str()).collect(),
            versions: rows.iter().map(|row| row.version.as_str()).collect(),
            digests: rows
                .iter()
                .map(|row| row.digest.as_ref().map(PayloadDigest::as_bytes))
                .collect(),
        }
    }
}

fn age_us(age: Duration) -> i64 {
    i64::try_from(age.as_micros()).unwrap_or(i64::MAX)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that try_map asks for"
)]
fn met_row(row: PgRow) -> Result<MetRow, sqlx::Error> {
    Ok(MetRow {
        topic: row.try_get("topic")?,
        event_id: row.try_get("event_id")?,
        place: Cursor {
            txn: row.try_get("txn")?,
            seq: row.try_get::<i32, _>("seq")?.into(),
        },
        version: row.try_get("version")?,
        is_due: row.try_get("is_due")?,
        is_dropped: row.try_get("is_dropped")?,
    })
}

/// The next rows of the log. Below every transaction that may still commit, as whoever follows the log:
/// what a walk has passed is final. A version of a row is named by the transaction that made it.
const LOOK: &str = "select topic, event_id, txn, seq, xmin::text as version, \
        payload_digest is not null as is_dropped, \
        processed_at <= least( \
            statement_timestamp() - $3::bigint * interval '1 microsecond', $5::timestamptz \
        ) as is_due \
    from processed_events \
    where txn >= $1 and (txn, seq) > ($1, $2) \
      and txn < pg_snapshot_xmin(pg_current_snapshot())::text::bigint \
    order by txn, seq limit $4";

/// The trigger that counts changes by hand is told, for this transaction, that none of them is made here.
const DROP: &str = "\
    with dropped as ( \
        update processed_events p set payload = '{}', payload_digest = e.digest \
        from unnest($4::text[], $5::text[], $6::text[], $7::bytea[]) \
             as e (topic, event_id, version, digest) \
        where p.topic = e.topic and p.event_id = e.event_id and p.xmin = e.version::xid \
          and p.payload_digest is null and e.digest is not null \
        returning 1 \
    ), counted as ( \
        update retention set payloads_dropped = payloads_dropped + (select count(*) from dropped) \
    ), noted as ( \
        insert into retention_walks (walk, txn, seq) \
        select $1, $2, $3 where (select count(*) from dropped) = cardinality($4) \
        on conflict (walk) do update set \
            txn = excluded.txn, seq = excluded.seq, updated_at = excluded.updated_at \
    ) \
    select (select count(*) from dropped) \
    from set_config('oncelog.drops_payloads', 'on', true)";

/// Counted like a deletion, so that whoever remembers keys looks at this before relying on one again.
const ANNOUNCE: &str = "\
    update deletions set \
        statements = statements + 1, announcements = announcements + 1, \
        expires_through = greatest( \
            expires_through, statement_timestamp() - $1::bigint * interval '1 microsecond' \
        ) \
    returning statement_timestamp() - $1::bigint * interval '1 microsecond'";

/// What was not announced stays. The trigger is told that it need not count.
const DELETE: &str = "\
    with deleted as ( \
        delete from processed_events p \
        using unnest($4::text[], $5::text[], $6::text[], $7::bytea[]) \
              as e (topic, event_id, version, digest) \
        where p.topic = e.topic and p.event_id = e.event_id and p.xmin = e.version::xid \
          and p.processed_at <= (select expires_through from deletions) \
        returning 1 \
    ), counted as ( \
        update retention set events_deleted = events_deleted + (select count(*) from deleted) \
    ), noted as ( \
        insert into retention_walks (walk, txn, seq) \
        select $1, $2, $3 where (select count(*) from deleted) = cardinality($4) \
        on conflict (walk) do update set \
            txn = excluded.txn, seq = excluded.seq, updated_at = excluded.updated_at \
    ) \
    select (select count(*) from deleted) \
    from set_config('oncelog.deletes_announced', 'on', true)";

/// Letters are numbered in the order in which they came, nearly: the oldest ones are looked at, and those of
/// them deleted whose time is over. One that was put in by hand was never counted as kept.
const DELETE_LETTERS: &str = "\
    with deleted as ( \
        delete from dead_letters where id = any(array( \
            select id from ( \
                select id, received_at from dead_letters order by id limit $2 \
            ) as oldest \
            where received_at <= statement_timestamp() - $1::bigint * interval '1 microsecond' \
        )) \
        returning 1 \
    ), kept as ( \
        update system_stats set \
            dead_letter_count = greatest(dead_letter_count - (select count(*) from deleted), 0), \
            updated_at = now() \
        where slot = 0 and exists (select from deleted) \
    ), counted as ( \
        update retention set \
            dead_letters_deleted = dead_letters_deleted + (select count(*) from deleted) \
        where exists (select from deleted) \
    ) \
    select count(*) from deleted";

const NOTE: &str = "insert into retention_walks (walk, txn, seq) values ($1, $2, $3) \
    on conflict (walk) do update set \
        txn = excluded.txn, seq = excluded.seq, updated_at = excluded.updated_at";
