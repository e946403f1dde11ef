//! One SQLite connection that appends groups. Driven by a persist actor through the seam.
//!
//! The write lock is taken first, so whatever is found out under it is final: what is remembered of
//! recent keys, as long as nothing was deleted, and what is stored under the others. Where look-ups have found
//! nothing for long, keys are inserted without one; should one be taken after all, the transaction ends
//! there and is made again with the look-up.

use super::{
    Database,
    reader::decode,
    rows::RowStatement,
    verdict::{Found, StoredRow, verdicts},
    within,
};
use crate::{
    domain::{Cursor, EventBatch, Outcome, Receipt, Timestamp},
    store::{
        Commits, EventWriter, GroupReceipts, StoreError, StoreFuture, TopicMarks, TxnId,
        caution::Caution,
        plan::{Deltas, GroupPlan},
        recent::{Epoch, Losses, Recollection},
    },
};
use sqlx::{AssertSqlSafe, Row, SqliteConnection, error::ErrorKind};
use std::{collections::HashSet, sync::Arc};

/// Topics that a writer remembers as counted. A forgotten one costs a look-up, nothing else.
const KNOWN_TOPICS_MAX: usize = 10_000;
/// After that long nobody can still ask for a writer's last transaction: a day.
const TRANSACTION_KEPT_US: i64 = 24 * 60 * 60 * 1_000_000;

pub(super) struct SqliteWriter {
    connection: SqliteConnection,
    /// Of this process and shard; each has one transaction at a time.
    name: String,
    database: Arc<Database>,
    caution: Caution,
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
        database: Arc<Database>,
    ) -> Result<Self, StoreError> {
        let oldest = Timestamp::now().unix_us() - TRANSACTION_KEPT_US;
        let session = sqlx::query("delete from writer_transactions where committed_at < ?")
            .bind(oldest)
            .execute(&mut connection);
        within(database.options, "begin session", session).await?;
        // Whatever became of the connection before this one, and of its last transaction.
        database.recent.forget();
        Ok(Self {
            connection,
            name,
            database,
            caution: Caution::new(),
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
        let options = self.database.options;
        let filled = match self.fill_transaction(txn, plan, false).await {
            Err(error) if is_taken(&error) => {
                self.caution.missed_some();
                self.fill_transaction(txn, plan, true).await?
            }
            filled => filled?,
        };
        // Whatever goes wrong here, a new connection asks what became of it.
        within(options, "commit", self.execute("commit"))
            .await
            .map_err(as_unknown)?;
        if self.known_topics.len() + self.staged_topics.len() > KNOWN_TOPICS_MAX {
            self.known_topics.clear();
        }
        self.known_topics.extend(self.staged_topics.drain(..));
        self.database.commits.fire(&commits(self.stored_in.clone()));
        let Filled {
            receipts,
            recollection,
            epoch,
        } = filled;
        let stored_at = plan.firsts().iter().map(|&first| {
            let is_equal = receipts[first].outcome != Outcome::Conflict;
            is_equal.then_some(receipts[first].processed_at)
        });
        let recent = &self.database.recent;
        recent.remember(&recollection, epoch, stored_at);
        Ok(plan.by_request(receipts))
    }

    /// Begins a transaction and does everything in it but to commit. Where that fails nothing is left of it.
    async fn fill_transaction(
        &mut self,
        txn: TxnId,
        plan: &GroupPlan<'_>,
        must_look: bool,
    ) -> Result<Filled, StoreError> {
        let options = self.database.options;
        within(options, "begin", self.execute("begin immediate")).await?;
        let filled = within(options, "append", self.fill(txn, plan, must_look)).await;
        if filled.is_err() {
            within(options, "rollback", self.roll_back()).await?;
        }
        filled
    }

    async fn fill(
        &mut self,
        txn: TxnId,
        plan: &GroupPlan<'_>,
        must_look: bool,
    ) -> Result<Filled, sqlx::Error> {
        let now = Timestamp::now();
        let before = self.epoch().await?;
        let database = Arc::clone(&self.database);
        if !database.recent.is_of(before) {
            database.recent.learn(Losses {
                epoch: before,
                announcements: 0,
                expires_through: None,
            });
        }
        let recollection = database.recent.recall(plan, before.server);
        self.caution.relies_on(recollection.session());
        let mut found = Found::recalled(plan, &recollection);
        if must_look || self.caution.looks() || recollection.has_taken() {
            match self.look_up(plan, &mut found).await? {
                0 => self.caution.found_none(),
                _ => self.caution.found_some(),
            }
        }
        let verdicts = verdicts(plan, &found, None);
        let is_new = |&number: &usize| found[number].is_free();
        let new = (0..found.len()).filter(is_new);
        let mut new: Vec<usize> = new.map(|number| plan.firsts()[number]).collect();
        // The order of keys is the lookup's; what is stored keeps the order in which it was sent.
        new.sort_unstable();
        self.insert(plan, &new, txn, now).await?;
        let deltas = plan.deltas(verdicts.iter().map(|verdict| verdict.outcome));
        self.count(&deltas, txn, now).await?;
        self.stored_in = deltas.stored_in();
        let epoch = Epoch {
            log_end: before.log_end + deltas.unique,
            ..before
        };
        database.recent.advance(before, epoch);
        let receipts = verdicts.into_iter().map(|verdict| verdict.receipt(now));
        Ok(Filled {
            receipts: receipts.collect(),
            recollection,
            epoch,
        })
    }

    /// What has been deleted or changed so far, by anybody.
    async fn epoch(&mut self) -> Result<Epoch, sqlx::Error> {
        let row = sqlx::query(
            "select statements, coalesce( \
                 (select seq from sqlite_sequence where name = 'processed_events'), 0) as log_end \
             from deletions",
        )
        .fetch_one(&mut self.connection)
        .await?;
        Ok(Epoch {
            server: 0,
            deletions: row.try_get("statements")?,
            server_started: 0,
            log_end: row.try_get("log_end")?,
        })
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

    /// Looks for what is stored under the keys that nothing is known of. Gives the number of those found.
    async fn look_up(
        &mut self,
        plan: &GroupPlan<'_>,
        found: &mut [Found],
    ) -> Result<usize, sqlx::Error> {
        let open = (0..found.len()).filter(|&number| found[number].is_free());
        let open: Vec<usize> = open.collect();
        let mut rows = 0;
        for (sql, numbers) in self.statements.look_up.pieces(&open) {
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for &number in numbers {
                let (topic, event_id) = plan.event(plan.firsts()[number]).key();
                query = query.bind(topic).bind(event_id);
            }
            for row in query.fetch_all(&mut self.connection).await? {
                let index: i64 = row.try_get("number")?;
                let index = usize::try_from(index).map_err(decode)?;
                found[numbers[index]] = Found::Row(StoredRow::read(&row)?);
                rows += 1;
            }
        }
        Ok(rows)
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
        let options = self.database.options;
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
        let mut found = Vec::new();
        found.resize_with(plan.firsts().len(), || Found::Free);
        self.look_up(plan, &mut found).await?;
        let now = Timestamp::now();
        let receipts = verdicts(plan, &found, Some(txn)).into_iter();
        let receipts = receipts.map(|verdict| verdict.receipt(now));
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
                self.database.commits.fire(&commits(TopicMarks::all()));
            }
            Ok(settled)
        })
    }
}

/// A transaction that only has to be committed.
struct Filled {
    /// By place.
    receipts: Vec<Receipt>,
    recollection: Recollection,
    /// As it will be after the commit.
    epoch: Epoch,
}

/// What is committed is seen at once.
fn commits(topics: TopicMarks) -> Commits {
    let visible_at = Cursor::START;
    Commits { visible_at, topics }
}

/// Whether a key was taken that was not looked up.
fn is_taken(error: &StoreError) -> bool {
    let StoreError::Refused(error) = error else {
        return false;
    };
    let kind = error.as_database_error().map(|error| error.kind());
    kind == Some(ErrorKind::UniqueViolation)
}

fn as_unknown(error: StoreError) -> StoreError {
    match error {
        StoreError::Contention(source) | StoreError::Refused(source) => {
            StoreError::Unavailable(source)
        }
        other => other,
    }
}
