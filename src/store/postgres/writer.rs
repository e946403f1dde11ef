//! One Postgres connection that appends groups. Driven by a persist actor through the seam.

mod citus;
mod statement;

use super::{
    Database,
    answers::timestamp,
    fold::{Backlog, fold},
    rows::{Columns, TopicColumns, place_of},
    session::{SLOTS_MAX, begin_fenced, claim_slot, end_predecessors, slot_of},
    turn::Setup,
    verdict::{StoredRow, Verdict, Verdicts},
    within,
};
use crate::{
    domain::{Cursor, EventBatch, Outcome, Receipt, Timestamp},
    store::{
        Commits, EventWriter, GroupReceipts, StoreError, StoreFuture, TopicMarks, TxnId,
        caution::Caution,
        plan::GroupPlan,
        recent::{Epoch, Losses},
    },
};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, error::ErrorKind, postgres::PgRow};
use std::{collections::HashSet, sync::Arc};

/// Topics that a writer remembers as counted. A forgotten one costs a look-up, nothing else.
const KNOWN_TOPICS_MAX: usize = 10_000;
/// Looks at the table that a group may take: one that says which keys are taken, one that stores the
/// others, and two for those who lose against other replicas; before them the insert that did not look.
const LOOKS_MAX: usize = 5;

pub(super) struct PostgresWriter {
    connection: PgConnection,
    setup: Setup,
    database: Arc<Database>,
    /// Of this process and shard: the connection's name, and that of its transactions.
    name: String,
    /// The number of its server.
    server: usize,
    slot: i32,
    /// Behind a pooler: the number of this session, which its transactions must find in the writer's row.
    fence: Option<i64>,
    backlog: Backlog,
    /// Topics that are committed in table `topics`.
    known_topics: HashSet<String>,
    /// Whether the database has lost, or will lose, what the memory of recent keys does not know of.
    has_losses: bool,
    caution: Caution,
}

impl PostgresWriter {
    /// Ends what an earlier connection of the same name left open, and claims a counter slot.
    pub(super) async fn begin_session(
        mut connection: PgConnection,
        setup: Setup,
        name: String,
        server: usize,
        database: Arc<Database>,
    ) -> Result<Self, StoreError> {
        let options = database.options;
        let (slot, fence) = if options.is_pooled {
            let session = begin_fenced(&mut connection, &setup, &name);
            let fence = within(options, "begin session", session).await?;
            (slot_of(&name), Some(fence))
        } else {
            let predecessors = end_predecessors(&mut connection, &name);
            within(options, "end predecessors", predecessors).await?;
            let slot = within(options, "begin session", claim_slot(&mut connection)).await?;
            (slot.unwrap_or(SLOTS_MAX), None)
        };
        // The connection before this one may have ended with its server and with what that knew.
        database.recent.forget();
        Ok(Self {
            connection,
            setup,
            database,
            name,
            server,
            slot,
            fence,
            backlog: Backlog::unknown(),
            known_topics: HashSet::new(),
            has_losses: true,
            caution: Caution::new(),
        })
    }

    async fn append_plan(
        &mut self,
        txn: TxnId,
        plan: &GroupPlan<'_>,
    ) -> Result<GroupReceipts, StoreError> {
        let options = self.database.options;
        let backlog = self.backlog.see_to(&self.database, self.server, self.slot);
        if backlog.await {
            let fold = fold(&mut self.connection, &self.setup, self.slot);
            within(options, "fold", fold).await?;
        }
        if self.has_losses && !options.is_citus {
            let losses = within(options, "look at losses", self.losses()).await?;
            self.database.recent.learn(losses);
            self.has_losses = false;
        }
        let recollection = self.database.recent.recall(plan, self.server);
        let mut verdicts = Verdicts::new(plan);
        verdicts.recall(&recollection);
        let mut relied_on = recollection.relied_on();
        self.caution.relies_on(recollection.session());
        let mut looks = self.caution.looks() || recollection.has_taken();
        for _ in 0..LOOKS_MAX {
            let hoped = verdicts.if_inserted();
            let places = verdicts.open_firsts();
            let look = self.insert(txn, plan, &places, &hoped, relied_on, looks);
            let look = match within(options, "append", look).await.map_err(as_race) {
                Err(StoreError::Contention(_)) if !looks => {
                    self.caution.missed_some();
                    looks = true;
                    continue;
                }
                look => look?,
            };
            match look {
                Look::Committed {
                    now,
                    epoch,
                    commits,
                } => {
                    self.database.has_committed(&commits);
                    if looks {
                        self.caution.found_none();
                    }
                    let receipts = hoped.into_iter().map(|verdict| verdict.receipt(now));
                    let receipts: Vec<Receipt> = receipts.collect();
                    let stored_at = plan.firsts().iter().map(|&first| {
                        let is_equal = receipts[first].outcome != Outcome::Conflict;
                        is_equal.then_some(receipts[first].processed_at)
                    });
                    let recent = &self.database.recent;
                    self.has_losses = !recent.is_of(epoch);
                    recent.remember(&recollection, epoch, stored_at);
                    return Ok(plan.by_request(receipts));
                }
                Look::Taken { places, epoch } => {
                    looks = true;
                    if !places.is_empty() {
                        self.caution.found_some();
                    }
                    if relied_on.is_some_and(|relied_on| relied_on != epoch) {
                        self.has_losses = true;
                        return Err(try_again());
                    }
                    // What is found now must still hold when the others are inserted.
                    relied_on = Some(epoch);
                    let places = verdicts.places_of(&places);
                    let compare = self.compare(plan, &places);
                    verdicts.compare(within(options, "compare", compare).await?);
                }
            }
        }
        Err(try_again())
    }

    /// Inserts the events at these places, with counters for all, provided that none of their keys is
    /// taken and that the table is as it was when the other verdicts were found. Without a look at the
    /// keys it fails where one is taken. One statement and its own transaction: when its answer is
    /// complete, it has committed.
    async fn insert(
        &mut self,
        txn: TxnId,
        plan: &GroupPlan<'_>,
        places: &[usize],
        verdicts: &[Verdict],
        relied_on: Option<Epoch>,
        looks: bool,
    ) -> Result<Look, sqlx::Error> {
        if self.database.options.is_citus {
            // Nothing is remembered there that could be relied on.
            return self.insert_on_citus(txn, plan, places, verdicts).await;
        }
        let deltas = plan.deltas(verdicts.iter().map(|verdict| verdict.outcome));
        let columns = Columns::new(plan, places);
        let topics = TopicColumns::new(&deltas);
        let maybe_new = topics.stored_in(|topic| !self.known_topics.contains(topic));
        let mut turn = self.setup.turn(&mut self.connection).await?;
        let statement = statement::insert(looks, !maybe_new.is_empty());
        let row: PgRow = sqlx::query_with(statement, columns.arguments()?)
            .persistent(self.setup.keeps_statements())
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
            .bind(relied_on.map(|epoch| epoch.deletions))
            .bind(relied_on.and_then(|epoch| DateTime::from_timestamp_micros(epoch.server_started)))
            .bind(self.fence)
            // Reads to the end of the answer, and so past the commit.
            .fetch_one(turn.connection())
            .await?;
        turn.end().await?;
        let epoch = Epoch {
            server: self.server,
            deletions: row.try_get("deletions")?,
            server_started: timestamp(row.try_get("server_started")?)?.unix_us(),
            log_end: 0,
        };
        let Some(xid) = row.try_get("xid")? else {
            let taken: Vec<i32> = row.try_get("taken")?;
            let places = taken.into_iter().map(place_of);
            let places = places.collect::<Result<_, _>>()?;
            return Ok(Look::Taken { places, epoch });
        };
        self.has_stored(maybe_new);
        Ok(Look::Committed {
            now: timestamp(row.try_get("now")?)?,
            epoch,
            commits: commits(xid, deltas.stored_in()),
        })
    }

    /// What has been deleted so far, and what will be.
    async fn losses(&mut self) -> Result<Losses, sqlx::Error> {
        let mut turn = self.setup.turn(&mut self.connection).await?;
        let row = sqlx::query(
            "select statements, announcements, expires_through, \
                    pg_postmaster_start_time() as server_started \
             from deletions",
        )
        .persistent(self.setup.keeps_statements())
        .fetch_one(turn.connection())
        .await?;
        turn.end().await?;
        let expires_through: Option<DateTime<Utc>> = row.try_get("expires_through")?;
        Ok(Losses {
            epoch: Epoch {
                server: self.server,
                deletions: row.try_get("statements")?,
                server_started: timestamp(row.try_get("server_started")?)?.unix_us(),
                log_end: 0,
            },
            announcements: row.try_get("announcements")?,
            expires_through: expires_through.map(timestamp).transpose()?,
        })
    }

    /// Keeps in mind what a transaction has left in the tables of counters.
    fn has_stored(&mut self, new_topics: Vec<&str>) {
        self.backlog.add();
        let new_topics = new_topics.into_iter().map(str::to_owned);
        if self.known_topics.len() + new_topics.len() > KNOWN_TOPICS_MAX {
            self.known_topics.clear();
        }
        self.known_topics.extend(new_topics);
    }

    /// Looks at what is stored under the keys of these places.
    async fn compare(
        &mut self,
        plan: &GroupPlan<'_>,
        places: &[usize],
    ) -> Result<Vec<StoredRow>, sqlx::Error> {
        let columns = Columns::new(plan, places);
        let mut turn = self.setup.turn(&mut self.connection).await?;
        let rows = sqlx::query_with(
            concat!(
                "select e.seq, p.processed_at, p.txn, p.seq as stored_seq, \
                        p.payload_digest, p.timestamp = e.timestamp and p.source = e.source \
                        and (p.payload_digest is not null or p.payload = e.payload::jsonb) \
                            as says_the_same \
                 from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], \
                             $6::int[]) as e (topic, event_id, timestamp, source, payload, seq) \
                 cross join ",
                statement::row_of_key!()
            ),
            columns.arguments()?,
        )
        .persistent(self.setup.keeps_statements())
        .try_map(|row| StoredRow::read(&row, plan))
        .fetch_all(turn.connection())
        .await?;
        turn.end().await?;
        Ok(rows)
    }

    async fn settle_plan(
        &mut self,
        txn: TxnId,
        plan: &GroupPlan<'_>,
    ) -> Result<Option<GroupReceipts>, StoreError> {
        let options = self.database.options;
        let number = within(options, "settle", self.number_of(txn)).await?;
        let Some(number) = number else {
            return Ok(None);
        };
        let commits = commits(number, TopicMarks::all());
        self.database.has_committed(&commits);
        let every_place: Vec<usize> = (0..plan.len()).collect();
        let found = within(options, "compare", self.compare(plan, &every_place)).await?;
        // What is missing was stored, and deleted by somebody since.
        let mut verdicts = vec![Verdict::stored(); plan.len()];
        for row in found {
            verdicts[row.place] = row.verdict_after(number);
        }
        let now = Timestamp::now();
        let receipts = verdicts.into_iter().map(|verdict| verdict.receipt(now));
        Ok(Some(plan.by_request(receipts.collect())))
    }

    /// Postgres's own number of a predecessor's last transaction, where it is this one and committed.
    async fn number_of(&mut self, txn: TxnId) -> Result<Option<i64>, sqlx::Error> {
        let mut turn = self.setup.turn(&mut self.connection).await?;
        let number = sqlx::query_scalar(
            "select xid from writer_transactions where writer = $1 and txn = $2",
        )
        .persistent(self.setup.keeps_statements())
        .bind(&self.name)
        .bind(txn.0)
        .fetch_optional(turn.connection())
        .await?;
        turn.end().await?;
        Ok(number)
    }
}

impl EventWriter for PostgresWriter {
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
        Box::pin(async move { self.settle_plan(txn, &GroupPlan::new(group)).await })
    }
}

/// What the transaction with this number of Postgres's has committed.
fn commits(xid: i64, topics: TopicMarks) -> Commits {
    let visible_at = Cursor { txn: xid, seq: 0 };
    Commits { visible_at, topics }
}

/// Nothing is stored, and the same group is to be tried once more.
fn try_again() -> StoreError {
    StoreError::Contention(sqlx::Error::RowNotFound)
}

/// A key was free when the statement looked, and another replica's when it inserted. Or the writer has
/// had a session since this one, and everything of this one is to fail.
fn as_race(error: StoreError) -> StoreError {
    match error {
        StoreError::Refused(source) => match source.as_database_error().map(|error| error.kind()) {
            Some(ErrorKind::UniqueViolation) => StoreError::Contention(source),
            // No value of an event is null: this is the fence.
            Some(ErrorKind::NotNullViolation) => StoreError::Unavailable(source),
            _ => StoreError::Refused(source),
        },
        other => other,
    }
}

/// What the statement that inserts found.
enum Look {
    /// All was as hoped, and is committed.
    Committed {
        now: Timestamp,
        epoch: Epoch,
        commits: Commits,
    },
    /// It was not, and nothing is stored: these places' keys are taken, or the epoch is another one.
    Taken { places: Vec<usize>, epoch: Epoch },
}
