//! One Postgres connection that appends groups. Driven by a persist actor through the seam.

use super::{
    Database,
    reader::timestamp,
    rows::{Columns, TopicColumns, place_of},
    verdict::{StoredRow, Verdict, Verdicts},
    within,
};
use crate::{
    domain::{Cursor, EventBatch, Outcome, Receipt, Timestamp},
    store::{
        Commits, EventWriter, GroupReceipts, Staged, StoreError, StoreFuture, TopicMarks, TxnId,
        plan::{Deltas, GroupPlan},
        recent::{Epoch, Recollection},
    },
};
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
/// For so long a transaction that was opened with the commit before it is good for the next group. Far
/// less than `idle_in_transaction_session_timeout`: where those who waited have all given up and nobody
/// comes for that long, the connection is lost to it, and made again for the next group.
const OPENED_AHEAD_MAX: Duration = Duration::from_secs(1);
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
    /// What is known once the staged group is committed.
    staged: Option<StagedKnowledge>,
    /// When a transaction was opened, together with the commit before it, that holds nothing yet.
    opened_ahead: Option<Instant>,
}

/// What a commit makes certain.
struct StagedKnowledge {
    commits: Commits,
    topics: Vec<String>,
    recollection: Recollection,
    /// Of the first event of each key: when an equal one was stored.
    stored_at: Vec<Option<Timestamp>>,
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
        // The connection before this one may have ended with its server and with what that knew.
        database.recent.forget();
        Ok(Self {
            connection,
            database,
            slot: slot.unwrap_or(SLOTS_MAX),
            // Whoever had the slot before may have left some.
            unfolded: UNFOLDED_MAX,
            known_topics: HashSet::new(),
            staged: None,
            opened_ahead: None,
        })
    }

    async fn stage_plan(&mut self, plan: &GroupPlan<'_>) -> Result<Staged, StoreError> {
        let options = self.database.options;
        match self.opened_ahead.take() {
            Some(opened) if opened.elapsed() < OPENED_AHEAD_MAX => {}
            Some(_) => within(options, "begin", self.execute("rollback; begin")).await?,
            None => within(options, "begin", self.execute("begin")).await?,
        }
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
        let mut recollection = self.database.recent.recall(plan);
        let mut verdicts = Verdicts::new(plan);
        verdicts.recall(&recollection);
        if self.unfolded >= UNFOLDED_MAX {
            within(options, "fold", self.fold()).await?;
        }
        let unknown = verdicts.open_firsts();
        let hoped = verdicts.if_inserted(&unknown);
        let deltas = plan.deltas(hoped.iter().map(|verdict| verdict.outcome));
        let stored_in = deltas.stored_in();
        let append = self.append(plan, &unknown, &deltas);
        let (verdicts, counted) = match within(options, "append", append).await? {
            Appended::AndCounted(counted) => (hoped, counted),
            Appended::Only { inserted, now } => {
                verdicts.insert(&inserted);
                let (verdicts, counted) = self.count_others(plan, verdicts).await?;
                // The rows carry the time of the statement that inserted them.
                (verdicts, Counted { now, ..counted })
            }
        };
        if !self.database.recent.holds(&mut recollection, counted.epoch) {
            return Err(try_again());
        }
        let receipts: Vec<Receipt> = verdicts
            .into_iter()
            .map(|verdict| verdict.receipt(counted.now))
            .collect();
        let stored_at = plan.firsts().iter().map(|&first| {
            let is_equal = receipts[first].outcome != Outcome::Conflict;
            is_equal.then_some(receipts[first].processed_at)
        });
        self.staged = Some(StagedKnowledge {
            commits: commits(counted.txn, stored_in),
            topics: counted.new_topics,
            recollection,
            stored_at: stored_at.collect(),
        });
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

    async fn commit_by(&mut self, statements: &'static str) -> Result<(), StoreError> {
        let options = self.database.options;
        // Whatever goes wrong from here on, only the transaction's status tells what became of it.
        within(options, "commit", self.execute(statements))
            .await
            .map_err(as_unknown)?;
        if let Some(staged) = self.staged.take() {
            self.database.has_committed(&staged.commits);
            self.learn(staged);
        }
        Ok(())
    }

    /// Some of the events were not new: looks at what is stored instead, and counts all of them.
    async fn count_others(
        &mut self,
        plan: &GroupPlan<'_>,
        mut verdicts: Verdicts<'_>,
    ) -> Result<(Vec<Verdict>, Counted), StoreError> {
        let options = self.database.options;
        let open = verdicts.open();
        verdicts.compare(within(options, "compare", self.compare(plan, &open)).await?);
        // A key that is taken but not to be seen: somebody deleted the row in between, and the
        // next attempt finds it free.
        let verdicts = verdicts.complete().ok_or_else(try_again)?;
        let deltas = plan.deltas(verdicts.iter().map(|verdict| verdict.outcome));
        let count = self.append(plan, &[], &deltas);
        match within(options, "count", count).await? {
            Appended::AndCounted(counted) => Ok((verdicts, counted)),
            Appended::Only { .. } => Err(try_again()),
        }
    }

    /// Inserts the events at these places and adds to the counters; the latter only where every
    /// event was new, because the counts suppose that. The last statement before each commit, so
    /// it is the one that says the transaction's number.
    async fn append(
        &mut self,
        plan: &GroupPlan<'_>,
        places: &[usize],
        deltas: &Deltas<'_>,
    ) -> Result<Appended, sqlx::Error> {
        let columns = Columns::new(plan, places);
        let topics = TopicColumns::new(deltas);
        let maybe_new = topics.stored_in(|topic| !self.known_topics.contains(topic));
        let row: PgRow = sqlx::query_with(
            "with inserted as ( \
                 insert into processed_events \
                     (topic, event_id, timestamp, source, payload, processed_at, txn, seq) \
                 select e.topic, e.event_id, e.timestamp, e.source, e.payload::jsonb, \
                        statement_timestamp(), (select pg_current_xact_id()::text::bigint), e.seq \
                 from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::int[]) \
                      as e (topic, event_id, timestamp, source, payload, seq) \
                 on conflict (topic, event_id) do nothing \
                 returning seq \
             ), every_one as ( \
                 select count(*) = cardinality($6::int[]) as is_new from inserted \
             ), seen_first as ( \
                 insert into topics (topic, first_stored_at) \
                 select unnest($7::text[]), statement_timestamp() from every_one where is_new \
                 on conflict (topic) do nothing \
                 returning 1 \
             ), per_topic as ( \
                 insert into topic_deltas (slot, topics, unique_counts, duplicate_counts, stored_at) \
                 select $11, $8, $9, $10, statement_timestamp() from every_one where is_new \
             ), in_all as ( \
                 insert into system_stats as s \
                     (slot, received_count, unique_processed_count, duplicate_dropped_count, \
                      conflict_count, topics_count, updated_at) \
                 select $11, $12, $13, $14, $15, (select count(*) from seen_first), \
                        statement_timestamp() \
                 from every_one where is_new \
                 on conflict (slot) do update set \
                     received_count = s.received_count + excluded.received_count, \
                     unique_processed_count = s.unique_processed_count + excluded.unique_processed_count, \
                     duplicate_dropped_count = s.duplicate_dropped_count + excluded.duplicate_dropped_count, \
                     conflict_count = s.conflict_count + excluded.conflict_count, \
                     topics_count = s.topics_count + excluded.topics_count, \
                     updated_at = excluded.updated_at \
             ) \
             select case when not is_new then array(select seq from inserted) end as inserted, \
                    pg_current_xact_id()::text::bigint as txn, statement_timestamp() as now, \
                    (select statements from deletions) as deletions, \
                    pg_postmaster_start_time() as server_started \
             from every_one",
            columns.arguments()?,
        )
        .bind(&maybe_new)
        .bind(&topics.names)
        .bind(&topics.unique_counts)
        .bind(&topics.duplicate_counts)
        .bind(self.slot)
        .bind(deltas.received)
        .bind(deltas.unique)
        .bind(deltas.duplicates)
        .bind(deltas.conflicts)
        .fetch_one(&mut self.connection)
        .await?;
        let now = timestamp(row.try_get("now")?)?;
        if let Some(inserted) = row.try_get::<Option<Vec<i32>>, _>("inserted")? {
            let places = inserted.into_iter().map(place_of);
            let inserted = places.collect::<Result<_, _>>()?;
            return Ok(Appended::Only { inserted, now });
        }
        self.unfolded = self.unfolded.saturating_add(1);
        Ok(Appended::AndCounted(Counted {
            txn: TxnId(row.try_get("txn")?),
            now,
            new_topics: maybe_new.into_iter().map(str::to_owned).collect(),
            epoch: Epoch {
                deletions: row.try_get("deletions")?,
                server_started: timestamp(row.try_get("server_started")?)?.unix_us(),
            },
        }))
    }

    /// Looks at what is stored under the keys of these places.
    async fn compare(
        &mut self,
        plan: &GroupPlan<'_>,
        places: &[usize],
    ) -> Result<Vec<StoredRow>, sqlx::Error> {
        let columns = Columns::new(plan, places);
        sqlx::query_with(
            "select e.seq, p.processed_at, p.txn, p.seq as stored_seq, \
                    p.timestamp = e.timestamp and p.source = e.source \
                    and p.payload = e.payload::jsonb as says_the_same \
             from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::int[]) \
                  as e (topic, event_id, timestamp, source, payload, seq) \
             join processed_events p on p.topic = e.topic and p.event_id = e.event_id",
            columns.arguments()?,
        )
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

    fn learn(&mut self, staged: StagedKnowledge) {
        if self.known_topics.len() + staged.topics.len() > KNOWN_TOPICS_MAX {
            self.known_topics.clear();
        }
        self.known_topics.extend(staged.topics);
        let recent = &self.database.recent;
        recent.remember(&staged.recollection, staged.stored_at);
    }

    async fn settle_plan(
        &mut self,
        txn: TxnId,
        plan: &GroupPlan<'_>,
    ) -> Result<Option<GroupReceipts>, StoreError> {
        if !self.has_committed(txn).await? {
            return Ok(None);
        }
        self.database
            .has_committed(&commits(txn, TopicMarks::all()));
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
        Box::pin(self.commit_by("commit"))
    }

    fn commit_and_go_on(&mut self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.commit_by("commit; begin").await?;
            self.opened_ahead = Some(Instant::now());
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

/// What a transaction is about to commit.
fn commits(txn: TxnId, topics: TopicMarks) -> Commits {
    let visible_at = Cursor { txn: txn.0, seq: 0 };
    Commits { visible_at, topics }
}

/// The transaction is rolled back and its group tried once more.
fn try_again() -> StoreError {
    StoreError::Contention(sqlx::Error::RowNotFound)
}

fn as_unknown(error: StoreError) -> StoreError {
    match error {
        StoreError::Contention(source) | StoreError::Refused(source) => {
            StoreError::Unavailable(source)
        }
        other => other,
    }
}

/// What became of the events that were hoped to be new.
enum Appended {
    /// They were.
    AndCounted(Counted),
    /// Only those at these places were, at that time, and nothing is counted yet.
    Only {
        inserted: Vec<usize>,
        now: Timestamp,
    },
}

struct Counted {
    txn: TxnId,
    now: Timestamp,
    new_topics: Vec<String>,
    epoch: Epoch,
}
