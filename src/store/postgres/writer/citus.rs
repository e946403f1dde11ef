//! A group's transaction where Citus has spread the events over workers. The one statement of `INSERT` rests on
//! parts that all see the same moment and on tables of one server; Citus would run its parts one
//! after the other. So they are statements here, each on the workers or on the coordinator, and the
//! transaction has the coordinator's number.

use super::{Look, PostgresWriter, commits};
use crate::store::{
    TxnId,
    plan::GroupPlan,
    postgres::{
        answers::timestamp,
        rows::{Columns, TopicColumns, place_of},
        verdict::Verdict,
    },
    recent::Epoch,
};
use chrono::{DateTime, Utc};
use sqlx::Row;

const BEGIN: &str = "select pg_current_xact_id()::text::bigint as xid, statement_timestamp() as now, \
        d.statements as deletions, pg_postmaster_start_time() as server_started \
    from deletions d";

/// On the workers.
const TAKEN: &str = "select e.seq from unnest($1::text[], $2::text[], $3::int[]) \
        as e (topic, event_id, seq) \
    join processed_events p on p.topic = e.topic and p.event_id = e.event_id";

/// On the workers, by way of the coordinator.
const STORE: &str = "insert into processed_events \
        (topic, event_id, timestamp, source, payload, processed_at, txn, seq) \
    select e.topic, e.event_id, e.timestamp, e.source, e.payload::jsonb, $7::timestamptz, $8::bigint, e.seq \
    from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::int[]) \
        as e (topic, event_id, timestamp, source, payload, seq)";

/// On the coordinator.
const COUNT: &str = "\
    with seen_first as ( \
        insert into topics (topic, first_stored_at) select unnest($1::text[]), $14::timestamptz \
        on conflict (topic) do nothing \
        returning 1 \
    ), per_topic as ( \
        insert into topic_deltas (slot, topics, unique_counts, duplicate_counts, stored_at) \
        values ($5, $2, $3, $4, $14) \
    ), in_all as ( \
        insert into system_stats as s \
            (slot, received_count, unique_processed_count, duplicate_dropped_count, \
             conflict_count, topics_count, updated_at) \
        values ($5, $6, $7, $8, $9, (select count(*) from seen_first), $14) \
        on conflict (slot) do update set \
            received_count = s.received_count + excluded.received_count, \
            unique_processed_count = s.unique_processed_count + excluded.unique_processed_count, \
            duplicate_dropped_count = s.duplicate_dropped_count + excluded.duplicate_dropped_count, \
            conflict_count = s.conflict_count + excluded.conflict_count, \
            topics_count = s.topics_count + excluded.topics_count, \
            updated_at = excluded.updated_at \
    ) \
    insert into writer_transactions as w (writer, txn, xid, committed_at, fence) \
    values ($10, $11, $12, $14, coalesce($13::bigint, 0)) \
    on conflict (writer) do update set \
        txn = case when $13::bigint is null or w.fence = $13 then excluded.txn end, \
        xid = excluded.xid, committed_at = excluded.committed_at";

impl PostgresWriter {
    /// As `insert`.
    pub(super) async fn insert_on_citus(
        &mut self,
        txn: TxnId,
        plan: &GroupPlan<'_>,
        places: &[usize],
        verdicts: &[Verdict],
    ) -> Result<Look, sqlx::Error> {
        let deltas = plan.deltas(verdicts.iter().map(|verdict| verdict.outcome));
        let columns = Columns::new(plan, places);
        let topics = TopicColumns::new(&deltas);
        let maybe_new = topics.stored_in(|topic| !self.known_topics.contains(topic));
        let is_kept = self.setup.keeps_statements();
        let mut transaction = self.setup.transaction(&mut self.connection).await?;
        let row = sqlx::query(BEGIN)
            .persistent(is_kept)
            .fetch_one(&mut *transaction)
            .await?;
        let (xid, now): (i64, DateTime<Utc>) = (row.try_get("xid")?, row.try_get("now")?);
        let epoch = Epoch {
            server: self.server,
            deletions: row.try_get("deletions")?,
            server_started: timestamp(row.try_get("server_started")?)?.unix_us(),
            log_end: 0,
        };
        let taken: Vec<i32> = sqlx::query_scalar(TAKEN)
            .persistent(is_kept)
            .bind(&columns.topics)
            .bind(&columns.event_ids)
            .bind(&columns.places)
            .fetch_all(&mut *transaction)
            .await?;
        if !taken.is_empty() {
            transaction.rollback().await?;
            let places = taken.into_iter().map(place_of);
            let places = places.collect::<Result<_, _>>()?;
            return Ok(Look::Taken { places, epoch });
        }
        if !places.is_empty() {
            sqlx::query_with(STORE, columns.arguments()?)
                .persistent(is_kept)
                .bind(now)
                .bind(xid)
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query(COUNT)
            .persistent(is_kept)
            .bind(&maybe_new)
            .bind(&topics.names)
            .bind(&topics.unique_counts)
            .bind(&topics.duplicate_counts)
            .bind(self.slot)
            .bind(deltas.received)
            .bind(deltas.unique)
            .bind(deltas.duplicates)
            .bind(deltas.conflicts)
            .bind(&self.name)
            .bind(txn.0)
            .bind(xid)
            .bind(self.fence)
            .bind(now)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        self.has_stored(maybe_new);
        Ok(Look::Committed {
            now: timestamp(now)?,
            epoch,
            commits: commits(xid, deltas.stored_in()),
        })
    }
}
