//! One Postgres connection that appends groups. Driven by a persist actor through the seam.

use super::{
    Database,
    reader::{decode, timestamp},
    within,
};
use crate::{
    domain::{EventBatch, Outcome, Receipt, Timestamp},
    store::{
        EventWriter, GroupReceipts, Staged, StoreError, StoreFuture, TxnId,
        plan::{Deltas, GroupPlan, compared},
    },
};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// First key of the advisory locks by which writers claim their slots: "once" in ASCII.
const SLOT_LOCK_CLASS: i32 = 0x6f6e_6365;
/// Slots beyond the writers that one database serves.
const SLOTS_MAX: i32 = 512;
/// Topics that a writer remembers as counted. A forgotten one costs a look-up, nothing else.
const KNOWN_TOPICS_MAX: usize = 10_000;
/// Transactions after which a writer folds what they have done for their topics.
const UNFOLDED_MAX: u32 = 256;
/// How often a predecessor's transaction is asked after while it is still running.
const SETTLE_POLL: Duration = Duration::from_millis(20);

pub(super) struct PostgresWriter {
    connection: PgConnection,
    database: Arc<Database>,
    slot: i32,
    /// Rows of this slot in `topic_deltas`, about.
    unfolded: u32,
    /// Topics that are committed in table `topics`.
    known_topics: HashSet<String>,
    /// Topics that will be so with the staged group.
    staged_topics: Vec<String>,
}

impl PostgresWriter {
    /// Ends what an earlier connection of the same name left open, and claims a counter slot.
    pub(super) async fn begin_session(
        mut connection: PgConnection,
        database: Arc<Database>,
    ) -> Result<Self, StoreError> {
        let session = async {
            sqlx::query(
                "select pg_terminate_backend(pid) from pg_stat_activity \
                 where application_name = current_setting('application_name') \
                 and datname = current_database() and pid <> pg_backend_pid()",
            )
            .execute(&mut connection)
            .await?;
            // Held as long as the connection lives. A slot is only there to keep writers from
            // waiting for one another: two in one slot would be slow, not wrong.
            sqlx::query_scalar::<_, i32>(
                "select slot from generate_series(1, $2) as slot \
                 where pg_try_advisory_lock($1, slot) limit 1",
            )
            .bind(SLOT_LOCK_CLASS)
            .bind(SLOTS_MAX)
            .fetch_optional(&mut connection)
            .await
        };
        let slot = within(database.options, "begin session", session).await?;
        Ok(Self {
            connection,
            database,
            slot: slot.unwrap_or(SLOTS_MAX),
            // Whoever had the slot before may have left some.
            unfolded: UNFOLDED_MAX,
            known_topics: HashSet::new(),
            staged_topics: Vec::new(),
        })
    }

    async fn stage_plan(&mut self, plan: &GroupPlan<'_>) -> Result<Staged, StoreError> {
        let options = self.database.options;
        within(options, "begin", self.execute("begin")).await?;
        match self.fill_transaction(plan).await {
            Ok(staged) => Ok(staged),
            Err(error) => {
                within(options, "rollback", self.execute("rollback")).await?;
                Err(error)
            }
        }
    }

    async fn fill_transaction(&mut self, plan: &GroupPlan<'_>) -> Result<Staged, StoreError> {
        let options = self.database.options;
        let stored = within(options, "insert", self.insert(plan)).await?;
        let known = places_to_compare(plan, &stored);
        let mut verdicts = own_verdicts(plan, &stored);
        if !known.is_empty() {
            for row in within(options, "compare", self.compare(plan, &known)).await? {
                verdicts[row.place] = Some(row.verdict());
            }
        }
        // A key that is taken but not to be seen: somebody deleted the row in between, and the
        // next attempt finds it free.
        let verdicts = verdicts
            .into_iter()
            .collect::<Option<Vec<Verdict>>>()
            .ok_or(StoreError::Contention(sqlx::Error::RowNotFound))?;
        let deltas = plan.deltas(verdicts.iter().map(|verdict| verdict.outcome));
        if self.unfolded >= UNFOLDED_MAX {
            within(options, "fold", self.fold()).await?;
        }
        let counted = within(options, "count", self.count(&deltas)).await?;
        let receipts = verdicts
            .into_iter()
            .map(|verdict| verdict.receipt(counted.now))
            .collect();
        Ok(Staged {
            txn: counted.txn,
            receipts: plan.by_request(receipts),
        })
    }

    async fn execute(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(statement)
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    /// Inserts the first event of each key; returns by place which of them were new.
    async fn insert(&mut self, plan: &GroupPlan<'_>) -> Result<Vec<bool>, sqlx::Error> {
        let columns = Columns::new(plan, plan.firsts());
        let inserted: Vec<i32> = sqlx::query_scalar(
            "insert into processed_events (topic, event_id, timestamp, source, payload, txn, seq) \
             select e.topic, e.event_id, e.timestamp, e.source, e.payload::jsonb, \
                    (select pg_current_xact_id()::text::bigint), e.seq \
             from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::int[]) \
                  as e (topic, event_id, timestamp, source, payload, seq) \
             on conflict (topic, event_id) do nothing \
             returning seq",
        )
        .bind(&columns.topics)
        .bind(&columns.event_ids)
        .bind(&columns.timestamps)
        .bind(&columns.sources)
        .bind(&columns.payloads)
        .bind(&columns.places)
        .fetch_all(&mut self.connection)
        .await?;
        let mut stored = vec![false; plan.len()];
        for seq in inserted {
            stored[place_of(seq)?] = true;
        }
        Ok(stored)
    }

    /// Looks at what is stored under the keys of these places.
    async fn compare(
        &mut self,
        plan: &GroupPlan<'_>,
        places: &[usize],
    ) -> Result<Vec<StoredRow>, sqlx::Error> {
        let columns = Columns::new(plan, places);
        sqlx::query(
            "select e.seq, p.processed_at, p.txn, p.seq as stored_seq, \
                    p.timestamp = e.timestamp and p.source = e.source \
                    and p.payload = e.payload::jsonb as says_the_same \
             from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::int[]) \
                  as e (topic, event_id, timestamp, source, payload, seq) \
             join processed_events p on p.topic = e.topic and p.event_id = e.event_id",
        )
        .bind(&columns.topics)
        .bind(&columns.event_ids)
        .bind(&columns.timestamps)
        .bind(&columns.sources)
        .bind(&columns.payloads)
        .bind(&columns.places)
        .try_map(StoredRow::read)
        .fetch_all(&mut self.connection)
        .await
    }

    /// Sums up what the latest transactions of this slot have done for their topics.
    async fn fold(&mut self) -> Result<(), sqlx::Error> {
        // Should it be rolled back, the rows are still there for the next time.
        self.unfolded = 0;
        sqlx::query(
            "with d as ( \
                 delete from topic_deltas where slot = $1 \
                 returning topics, unique_counts, duplicate_counts, stored_at \
             ) \
             insert into topic_stats as s \
                 (topic, slot, unique_count, duplicate_count, last_stored_at) \
             select t.topic, $1, sum(t.unique_count), sum(t.duplicate_count), \
                    max(d.stored_at) filter (where t.unique_count > 0) \
             from d cross join unnest(d.topics, d.unique_counts, d.duplicate_counts) \
                  as t (topic, unique_count, duplicate_count) \
             group by t.topic order by t.topic collate \"C\" \
             on conflict (topic, slot) do update set \
                 unique_count = s.unique_count + excluded.unique_count, \
                 duplicate_count = s.duplicate_count + excluded.duplicate_count, \
                 last_stored_at = coalesce(excluded.last_stored_at, s.last_stored_at)",
        )
        .bind(self.slot)
        .execute(&mut self.connection)
        .await
        .map(drop)
    }

    /// Adds to the counters; this is the last statement before the commit, and every transaction
    /// has it, so it is the one that says the transaction's number.
    async fn count(&mut self, deltas: &Deltas<'_>) -> Result<Counted, sqlx::Error> {
        let mut topics = Vec::with_capacity(deltas.topics.len());
        let mut unique = Vec::with_capacity(deltas.topics.len());
        let mut duplicates = Vec::with_capacity(deltas.topics.len());
        let mut maybe_new: Vec<&str> = Vec::new();
        for (topic, delta) in &deltas.topics {
            topics.push(*topic);
            unique.push(delta.unique);
            duplicates.push(delta.duplicates);
            if delta.unique > 0 && !self.known_topics.contains(*topic) {
                maybe_new.push(topic);
            }
        }
        let row: PgRow = sqlx::query(
            "with seen_first as ( \
                 insert into topics (topic) select unnest($1::text[]) \
                 on conflict (topic) do nothing returning 1 \
             ), per_topic as ( \
                 insert into topic_deltas (slot, topics, unique_counts, duplicate_counts) \
                 values ($5, $2, $3, $4) \
             ) \
             insert into system_stats as s \
                 (slot, received_count, unique_processed_count, duplicate_dropped_count, \
                  conflict_count, topics_count, updated_at) \
             values ($5, $6, $7, $8, $9, (select count(*) from seen_first), now()) \
             on conflict (slot) do update set \
                 received_count = s.received_count + excluded.received_count, \
                 unique_processed_count = s.unique_processed_count + excluded.unique_processed_count, \
                 duplicate_dropped_count = s.duplicate_dropped_count + excluded.duplicate_dropped_count, \
                 conflict_count = s.conflict_count + excluded.conflict_count, \
                 topics_count = s.topics_count + excluded.topics_count, \
                 updated_at = excluded.updated_at \
             returning pg_current_xact_id()::text::bigint as txn, now() as now",
        )
        .bind(&maybe_new)
        .bind(&topics)
        .bind(&unique)
        .bind(&duplicates)
        .bind(self.slot)
        .bind(deltas.received)
        .bind(deltas.unique)
        .bind(deltas.duplicates)
        .bind(deltas.conflicts)
        .fetch_one(&mut self.connection)
        .await?;
        self.unfolded = self.unfolded.saturating_add(1);
        self.staged_topics = maybe_new.into_iter().map(str::to_owned).collect();
        Ok(Counted {
            txn: TxnId(row.try_get("txn")?),
            now: timestamp(row.try_get("now")?)?,
        })
    }

    async fn settle_plan(
        &mut self,
        txn: TxnId,
        plan: &GroupPlan<'_>,
    ) -> Result<Option<GroupReceipts>, StoreError> {
        if !self.has_committed(txn).await? {
            return Ok(None);
        }
        self.database.has_committed();
        let every_place: Vec<usize> = (0..plan.len()).collect();
        let options = self.database.options;
        let found = within(options, "compare", self.compare(plan, &every_place)).await?;
        // What is missing was stored, and deleted by somebody since.
        let mut verdicts = vec![Verdict::stored(); plan.len()];
        for row in found {
            verdicts[row.place] = row.verdict_after(txn);
        }
        let now = Timestamp::now();
        let receipts = verdicts.into_iter().map(|verdict| verdict.receipt(now));
        Ok(Some(plan.by_request(receipts.collect())))
    }

    /// Waits until the transaction has ended, one way or the other.
    async fn has_committed(&mut self, txn: TxnId) -> Result<bool, StoreError> {
        let options = self.database.options;
        let deadline = Instant::now() + options.statement_timeout;
        while Instant::now() < deadline {
            let status = within(options, "settle", self.status(txn)).await?;
            match status.as_deref() {
                Some("committed") => return Ok(true),
                Some("in progress") => sleep(SETTLE_POLL).await,
                // None: so old that Postgres has forgotten it. It has ended long ago, and settling
                // follows within seconds, so this is another cluster than the one that ran it.
                _ => return Ok(false),
            }
        }
        Err(StoreError::TimedOut("settle"))
    }

    async fn status(&mut self, txn: TxnId) -> Result<Option<String>, sqlx::Error> {
        // A number from the future raises an error: after a failover the new primary may be behind,
        // and then the transaction never reached it.
        sqlx::query_scalar(
            "select case when $1 < pg_snapshot_xmax(pg_current_snapshot())::text::bigint \
             then pg_xact_status($1::text::xid8) end",
        )
        .bind(txn.0)
        .fetch_one(&mut self.connection)
        .await
    }
}

impl EventWriter for PostgresWriter {
    fn stage<'a>(&'a mut self, group: &'a [Arc<EventBatch>]) -> StoreFuture<'a, Staged> {
        Box::pin(async move { self.stage_plan(&GroupPlan::new(group)).await })
    }

    fn commit(&mut self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let options = self.database.options;
            // Whatever goes wrong from here on, only the transaction's status tells what became of it.
            within(options, "commit", self.execute("commit"))
                .await
                .map_err(as_unknown)?;
            self.database.has_committed();
            if self.known_topics.len() + self.staged_topics.len() > KNOWN_TOPICS_MAX {
                self.known_topics.clear();
            }
            self.known_topics.extend(self.staged_topics.drain(..));
            Ok(())
        })
    }

    fn settle<'a>(
        &'a mut self,
        txn: TxnId,
        group: &'a [Arc<EventBatch>],
    ) -> StoreFuture<'a, Option<GroupReceipts>> {
        Box::pin(async move { self.settle_plan(txn, &GroupPlan::new(group)).await })
    }
}

fn as_unknown(error: StoreError) -> StoreError {
    match error {
        StoreError::Contention(source) | StoreError::Refused(source) => {
            StoreError::Unavailable(source)
        }
        other => other,
    }
}

/// Every place whose key was there before this group: to be compared with what is stored.
fn places_to_compare(plan: &GroupPlan<'_>, stored: &[bool]) -> Vec<usize> {
    let firsts = plan
        .firsts()
        .iter()
        .copied()
        .filter(|&place| !stored[place]);
    let repeats = plan
        .repeats()
        .iter()
        .filter(|repeat| !stored[repeat.first])
        .map(|repeat| repeat.place);
    firsts.chain(repeats).collect()
}

/// By place, what this group decides alone: its own rows, and the repeats of those.
fn own_verdicts(plan: &GroupPlan<'_>, stored: &[bool]) -> Vec<Option<Verdict>> {
    let mut verdicts = vec![None; plan.len()];
    for &place in plan.firsts() {
        verdicts[place] = stored[place].then(Verdict::stored);
    }
    for &repeat in plan.repeats() {
        verdicts[repeat.place] = stored[repeat.first].then(|| Verdict {
            outcome: plan.repeat_of_own(repeat),
            processed_at: None,
        });
    }
    verdicts
}

/// What will be answered for an event.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    outcome: Outcome,
    /// `None`: with this very transaction.
    processed_at: Option<Timestamp>,
}

impl Verdict {
    fn stored() -> Self {
        Self {
            outcome: Outcome::Stored,
            processed_at: None,
        }
    }

    fn receipt(self, now: Timestamp) -> Receipt {
        Receipt {
            outcome: self.outcome,
            processed_at: self.processed_at.unwrap_or(now),
        }
    }
}

struct Counted {
    txn: TxnId,
    now: Timestamp,
}

/// What is stored under an event's key, compared with the event.
struct StoredRow {
    place: usize,
    stored_txn: i64,
    stored_seq: i32,
    processed_at: Timestamp,
    says_the_same: bool,
}

impl StoredRow {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the shape that try_map asks for"
    )]
    fn read(row: PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            place: place_of(row.try_get("seq")?)?,
            stored_txn: row.try_get("txn")?,
            stored_seq: row.try_get("stored_seq")?,
            processed_at: timestamp(row.try_get("processed_at")?)?,
            says_the_same: row.try_get("says_the_same")?,
        })
    }

    fn verdict(&self) -> Verdict {
        Verdict {
            outcome: compared(self.says_the_same),
            processed_at: Some(self.processed_at),
        }
    }

    /// The verdict where `txn` is our own, committed transaction: what it inserted from this very
    /// place is stored, not a duplicate.
    fn verdict_after(&self, txn: TxnId) -> Verdict {
        let is_own = self.stored_txn == txn.0 && usize::try_from(self.stored_seq) == Ok(self.place);
        let mut verdict = self.verdict();
        if is_own {
            verdict.outcome = Outcome::Stored;
        }
        verdict
    }
}

/// Some events as the column arrays that `unnest` takes.
struct Columns<'a> {
    topics: Vec<&'a str>,
    event_ids: Vec<&'a str>,
    timestamps: Vec<DateTime<Utc>>,
    sources: Vec<&'a str>,
    payloads: Vec<&'a str>,
    places: Vec<i32>,
}

impl<'a> Columns<'a> {
    fn new(plan: &GroupPlan<'a>, places: &[usize]) -> Self {
        let mut columns = Self {
            topics: Vec::with_capacity(places.len()),
            event_ids: Vec::with_capacity(places.len()),
            timestamps: Vec::with_capacity(places.len()),
            sources: Vec::with_capacity(places.len()),
            payloads: Vec::with_capacity(places.len()),
            places: Vec::with_capacity(places.len()),
        };
        for &place in places {
            let event = plan.event(place);
            columns.topics.push(event.topic().as_str());
            columns.event_ids.push(event.event_id().as_str());
            columns.timestamps.push(event.timestamp().to_chrono());
            columns.sources.push(event.source().as_str());
            columns.payloads.push(event.payload().as_str());
            // A group is far smaller than 2^31 events: its cap is a setting with a bound.
            columns
                .places
                .push(i32::try_from(place).unwrap_or(i32::MAX));
        }
        columns
    }
}

fn place_of(seq: i32) -> Result<usize, sqlx::Error> {
    usize::try_from(seq).map_err(decode)
}
