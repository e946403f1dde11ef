//! One SQLite connection that appends groups. Driven by a persist actor through the seam.
//!
//! The write lock is taken first, so a look at what is stored under the group's keys is final: what
//! is not there is inserted, and no insert can conflict.

use super::{
    reader::{decode, stored_payload, stored_text},
    rows::RowStatement,
    within,
};
use crate::{
    domain::{Cursor, Event, EventBatch, Outcome, Payload, PayloadDigest, Receipt, Timestamp},
    store::{
        CommitSignal, Commits, EventWriter, GroupReceipts, StoreError, StoreFuture, StoreOptions,
        TopicMarks, TxnId,
        plan::{Deltas, GroupPlan, compared},
    },
};
use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteRow};
use std::{collections::HashSet, sync::Arc};

/// Topics that a writer remembers as counted. A forgotten one costs a look-up, nothing else.
const KNOWN_TOPICS_MAX: usize = 10_000;
/// After that long nobody can still ask for a writer's last transaction: a day.
const TRANSACTION_KEPT_US: i64 = 24 * 60 * 60 * 1_000_000;

pub(super) struct SqliteWriter {
    connection: SqliteConnection,
    /// Of this process and shard; each has one transaction at a time.
    name: String,
    options: StoreOptions,
    commits: CommitSignal,
    statements: Statements,
    /// Topics that are committed in table `topics`.
    known_topics: HashSet<String>,
    /// Topics that will be so with the staged group.
    staged_topics: Vec<String>,
    /// Topics in which the staged group stores something.
    stored_in: TopicMarks,
}

struct Statements {
    look_up: RowStatement,
    insert: RowStatement,
    add_topics: RowStatement,
    count_topics: RowStatement,
}

impl Statements {
    fn new() -> Self {
        Self {
            look_up: RowStatement::new(
                "select k.column1 as number, p.timestamp, p.source, p.payload, p.payload_digest, \
                        p.processed_at, p.txn \
                 from (values ",
                |row| format!("({row},?,?)"),
                ") as k cross join processed_events p \
                 on p.topic = k.column2 and p.event_id = k.column3",
            ),
            insert: RowStatement::new(
                // No parameter has a number: sqlx asks SQLite for the name of each, and those that
                // have one are searched one after the other.
                // Or rollback: a statement that may fail on its own keeps a copy of every page it
                // changes, in a file. Here the transaction ends with the statement in any case.
                "insert or rollback into processed_events \
                     (topic, event_id, timestamp, source, payload, processed_at, txn) values ",
                |_| "(?,?,?,?,?,?,?)".to_owned(),
                "",
            ),
            add_topics: RowStatement::new(
                "insert into topics (topic, first_stored_at) values ",
                |_| "(?,?)".to_owned(),
                " on conflict (topic) do nothing",
            ),
            count_topics: RowStatement::new(
                "insert into topic_stats as s \
                     (topic, unique_count, duplicate_count, last_stored_at) values ",
                |_| "(?,?,?,?)".to_owned(),
                " on conflict (topic) do update set \
                     unique_count = s.unique_count + excluded.unique_count, \
                     duplicate_count = s.duplicate_count + excluded.duplicate_count, \
                     last_stored_at = coalesce(excluded.last_stored_at, s.last_stored_at)",
            ),
        }
    }
}

impl SqliteWriter {
    /// Waits until an earlier writer's transaction has ended, and forgets those of long ago.
    pub(super) async fn begin_session(
        mut connection: SqliteConnection,
        name: String,
        options: StoreOptions,
        commits: CommitSignal,
    ) -> Result<Self, StoreError> {
        let oldest = Timestamp::now().unix_us() - TRANSACTION_KEPT_US;
        let session = sqlx::query("delete from writer_transactions where committed_at < ?")
            .bind(oldest)
            .execute(&mut connection);
        within(options, "begin session", session).await?;
        Ok(Self {
            connection,
            name,
            options,
            commits,
            statements: Statements::new(),
            known_topics: HashSet::new(),
            staged_topics: Vec::new(),
            stored_in: TopicMarks::none(),
        })
    }

    async fn append_plan(
        &mut self,
        txn: TxnId,
        plan: &GroupPlan<'_>,
    ) -> Result<GroupReceipts, StoreError> {
        let options = self.options;
        within(options, "begin", self.execute("begin immediate")).await?;
        let receipts = match within(options, "append", self.fill_transaction(txn, plan)).await {
            Ok(receipts) => receipts,
            Err(error) => {
                within(options, "rollback", self.roll_back()).await?;
                return Err(error);
            }
        };
        // Whatever goes wrong here, a new connection asks what became of it.
        within(options, "commit", self.execute("commit"))
            .await
            .map_err(as_unknown)?;
        if self.known_topics.len() + self.staged_topics.len() > KNOWN_TOPICS_MAX {
            self.known_topics.clear();
        }
        self.known_topics.extend(self.staged_topics.drain(..));
        self.commits.fire(&commits(self.stored_in.clone()));
        Ok(receipts)
    }

    async fn fill_transaction(
        &mut self,
        txn: TxnId,
        plan: &GroupPlan<'_>,
    ) -> Result<GroupReceipts, sqlx::Error> {
        let now = Timestamp::now();
        let found = self.look_up(plan).await?;
        let verdicts = verdicts(plan, &found, None);
        let mut new: Vec<usize> = (0..plan.firsts().len())
            .filter(|&number| found[number].is_none())
            .map(|number| plan.firsts()[number])
            .collect();
        // The order of keys is the lookup's; what is stored keeps the order in which it was sent.
        new.sort_unstable();
        self.insert(plan, &new, txn, now).await?;
        let deltas = plan.deltas(verdicts.iter().map(|verdict| verdict.outcome));
        self.count(&deltas, txn, now).await?;
        self.stored_in = deltas.stored_in();
        let receipts = verdicts.into_iter().map(|verdict| Receipt {
            outcome: verdict.outcome,
            processed_at: verdict.processed_at.unwrap_or(now),
        });
        Ok(plan.by_request(receipts.collect()))
    }

    async fn execute(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(statement)
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    /// After a full disk SQLite has rolled back by itself and says so; that is as good.
    async fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        match self.execute("rollback").await {
            Err(sqlx::Error::Database(error)) if error.message().contains("no transaction") => {
                Ok(())
            }
            other => other,
        }
    }

    /// What is stored under each key of the group, in the plan's order of keys.
    async fn look_up(
        &mut self,
        plan: &GroupPlan<'_>,
    ) -> Result<Vec<Option<StoredRow>>, sqlx::Error> {
        let mut found: Vec<Option<StoredRow>> = Vec::with_capacity(plan.firsts().len());
        for (sql, places) in self.statements.look_up.pieces(plan.firsts()) {
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for &place in places {
                let (topic, event_id) = plan.event(place).key();
                query = query.bind(topic).bind(event_id);
            }
            let before = found.len();
            found.resize_with(before + places.len(), || None);
            for row in query.fetch_all(&mut self.connection).await? {
                let number: i64 = row.try_get("number")?;
                let number = usize::try_from(number).map_err(decode)?;
                found[before + number] = Some(StoredRow::read(&row)?);
            }
        }
        Ok(found)
    }

    async fn insert(
        &mut self,
        plan: &GroupPlan<'_>,
        new: &[usize],
        txn: TxnId,
        now: Timestamp,
    ) -> Result<(), sqlx::Error> {
        for (sql, places) in self.statements.insert.pieces(new) {
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for &place in places {
                let event = plan.event(place);
                let (topic, event_id) = event.key();
                query = query
                    .bind(topic)
                    .bind(event_id)
                    .bind(event.timestamp().unix_us())
                    .bind(event.source().as_str())
                    .bind(event.payload().as_str())
                    .bind(now.unix_us())
                    .bind(txn.0);
            }
            query.execute(&mut self.connection).await?;
        }
        Ok(())
    }

    /// Adds to the counters, and leaves the transaction's number to be asked for.
    async fn count(
        &mut self,
        deltas: &Deltas<'_>,
        txn: TxnId,
        now: Timestamp,
    ) -> Result<(), sqlx::Error> {
        let topics: Vec<_> = deltas.topics.iter().collect();
        let maybe_new: Vec<&str> = topics
            .iter()
            .filter(|(topic, delta)| delta.unique > 0 && !self.known_topics.contains(**topic))
            .map(|(topic, _)| **topic)
            .collect();
        let mut new_topics = 0;
        for (sql, topics) in self.statements.add_topics.pieces(&maybe_new) {
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for topic in topics {
                query = query.bind(*topic).bind(now.unix_us());
            }
            new_topics += query.execute(&mut self.connection).await?.rows_affected();
        }
        for (sql, topics) in self.statements.count_topics.pieces(&topics) {
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for (topic, delta) in topics {
                query = query
                    .bind(**topic)
                    .bind(delta.unique)
                    .bind(delta.duplicates)
                    .bind((delta.unique > 0).then_some(now.unix_us()));
            }
            query.execute(&mut self.connection).await?;
        }
        sqlx::query(
            "insert into system_stats as s \
                 (slot, received_count, unique_processed_count, duplicate_dropped_count, \
                  conflict_count, topics_count, updated_at) \
             values (1, ?, ?, ?, ?, ?, ?) \
             on conflict (slot) do update set \
                 received_count = s.received_count + excluded.received_count, \
                 unique_processed_count = s.unique_processed_count + excluded.unique_processed_count, \
                 duplicate_dropped_count = s.duplicate_dropped_count + excluded.duplicate_dropped_count, \
                 conflict_count = s.conflict_count + excluded.conflict_count, \
                 topics_count = s.topics_count + excluded.topics_count, \
                 updated_at = excluded.updated_at",
        )
        .bind(deltas.received)
        .bind(deltas.unique)
        .bind(deltas.duplicates)
        .bind(deltas.conflicts)
        .bind(i64::try_from(new_topics).unwrap_or(i64::MAX))
        .bind(now.unix_us())
        .execute(&mut self.connection)
        .await?;
        sqlx::query(
            "insert into writer_transactions (writer, txn, committed_at) values (?, ?, ?) \
             on conflict (writer) do update set \
                 txn = excluded.txn, committed_at = excluded.committed_at",
        )
        .bind(&self.name)
        .bind(txn.0)
        .bind(now.unix_us())
        .execute(&mut self.connection)
        .await?;
        self.staged_topics = maybe_new.into_iter().map(str::to_owned).collect();
        Ok(())
    }

    /// The lock comes first here, too: while it is ours, no earlier transaction is on its way.
    async fn settle_plan(
        &mut self,
        txn: TxnId,
        plan: &GroupPlan<'_>,
    ) -> Result<Option<GroupReceipts>, StoreError> {
        let options = self.options;
        within(options, "begin", self.execute("begin immediate")).await?;
        let settled = within(options, "settle", self.look_for(txn, plan)).await;
        within(options, "rollback", self.roll_back()).await?;
        settled
    }

    async fn look_for(
        &mut self,
        txn: TxnId,
        plan: &GroupPlan<'_>,
    ) -> Result<Option<GroupReceipts>, sqlx::Error> {
        let last: Option<i64> =
            sqlx::query_scalar("select txn from writer_transactions where writer = ?")
                .bind(&self.name)
                .fetch_optional(&mut self.connection)
                .await?;
        if last != Some(txn.0) {
            return Ok(None);
        }
        let found = self.look_up(plan).await?;
        let now = Timestamp::now();
        let receipts = verdicts(plan, &found, Some(txn)).into_iter();
        let receipts = receipts.map(|verdict| Receipt {
            outcome: verdict.outcome,
            processed_at: verdict.processed_at.unwrap_or(now),
        });
        Ok(Some(plan.by_request(receipts.collect())))
    }
}

impl EventWriter for SqliteWriter {
    fn append<'a>(
        &'a mut self,
        txn: TxnId,
        group: &'a [Arc<EventBatch>],
    ) -> StoreFuture<'a, GroupReceipts> {
        Box::pin(async move { self.append_plan(txn, &GroupPlan::new(group)).await })
    }

    fn settle<'a>(
        &'a mut self,
        txn: TxnId,
        group: &'a [Arc<EventBatch>],
    ) -> StoreFuture<'a, Option<GroupReceipts>> {
        Box::pin(async move {
            let settled = self.settle_plan(txn, &GroupPlan::new(group)).await?;
            if settled.is_some() {
                self.commits.fire(&commits(TopicMarks::all()));
            }
            Ok(settled)
        })
    }
}

/// What is committed is seen at once.
fn commits(topics: TopicMarks) -> Commits {
    let visible_at = Cursor::START;
    Commits { visible_at, topics }
}

fn as_unknown(error: StoreError) -> StoreError {
    match error {
        StoreError::Contention(source) | StoreError::Refused(source) => {
            StoreError::Unavailable(source)
        }
        other => other,
    }
}

/// What will be answered for an event.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    outcome: Outcome,
    /// `None`: with this very transaction.
    processed_at: Option<Timestamp>,
}

/// By place, from what is stored under each key. `own`: the transaction whose rows are not found
/// but our own.
fn verdicts(plan: &GroupPlan<'_>, found: &[Option<StoredRow>], own: Option<TxnId>) -> Vec<Verdict> {
    let stored = Verdict {
        outcome: Outcome::Stored,
        processed_at: None,
    };
    let mut verdicts = vec![stored; plan.len()];
    // By the first place of each key, to find a repeat's row.
    let mut row_of = vec![None; plan.len()];
    for (&place, row) in plan.firsts().iter().zip(found) {
        let Some(row) = row else { continue };
        row_of[place] = Some(row);
        verdicts[place] = Verdict {
            outcome: match own {
                Some(txn) if row.txn == txn.0 => Outcome::Stored,
                _ => row.compared_with(plan.event(place)),
            },
            processed_at: Some(row.processed_at),
        };
    }
    for &repeat in plan.repeats() {
        let row = row_of[repeat.first];
        verdicts[repeat.place] = Verdict {
            outcome: match row {
                Some(row) => row.compared_with(plan.event(repeat.place)),
                None => plan.repeat_of_own(repeat),
            },
            processed_at: row.map(|row| row.processed_at),
        };
    }
    verdicts
}

/// What is stored under an event's key.
struct StoredRow {
    timestamp_us: i64,
    /// An error: by hand, and no text.
    source: Result<String, String>,
    payload: StoredPayload,
    processed_at: Timestamp,
    txn: i64,
}

enum StoredPayload {
    Kept(Payload),
    /// By hand: no event is the same.
    Foreign,
    /// By retention; what is left is its digest.
    Dropped(Vec<u8>),
}

impl StoredRow {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            timestamp_us: row.try_get("timestamp")?,
            source: stored_text(row, "source")?,
            payload: match row.try_get("payload_digest")? {
                Some(digest) => StoredPayload::Dropped(digest),
                None => stored_payload(row)?.map_or(StoredPayload::Foreign, StoredPayload::Kept),
            },
            processed_at: Timestamp::nearest_to_unix_us(row.try_get("processed_at")?),
            txn: row.try_get("txn")?,
        })
    }

    fn compared_with(&self, event: &Event) -> Outcome {
        compared(
            self.timestamp_us == event.timestamp().unix_us()
                && self.source.as_deref() == Ok(event.source().as_str())
                && match &self.payload {
                    StoredPayload::Kept(payload) => payload.is_same_value_as(event.payload()),
                    StoredPayload::Foreign => false,
                    StoredPayload::Dropped(digest) => PayloadDigest::of(event.payload()).is(digest),
                },
        )
    }
}
