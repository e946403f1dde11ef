//! The seam between the service and its database, and its manual. Used by the actors (writing)
//! and by HTTP (reading); knows the domain and nothing of HTTP or actors.
//!
//! # Writing
//! A writer is one connection with one transaction at a time. Whoever drives it names each transaction
//! before it is sent, and so can ask after it whatever happens:
//!
//! ```text
//! append(txn, group) ──► Ok(receipts): durable, answer them
//!    │ Err(Contention or Refused): nothing of it is stored; again, or split
//!    │ any other Err, or dropped on the way: unknown
//!    ▼
//!  a new writer of the same shard: settle(txn, group)
//!    ├─ Some(receipts): it had committed, answer these
//!    └─ None: nothing of it is stored, and nothing ever will be: append it again
//! ```
//!
//! `append` may be dropped at any point. The writer is then used up, and the database decides alone
//! whether its transaction ends well. The number is stored in that very transaction: whether it is
//! there tells.
//!
//! A group is several requests in one transaction. Each request is stored whole or not at all, and
//! so is the group. Receipts come back per request, per event, in the order of the group. An event
//! whose key occurs earlier in the same group is a duplicate or a conflict of that one.
//!
//! Counters change in the same transaction as the rows they count: in every committed state
//! `received = unique + duplicates`, and `unique` is the number of rows and of those that retention deleted.
//!
//! # Reading
//! Readers share a small pool and see what is committed. An ascending walk stays below every
//! transaction that may still commit (see [`crate::domain::Order`]).
//!
//! Whoever follows the log starts at [`EventReader::end`], reads ascending pages, and waits for the
//! [`CommitSignal`] when there is nothing more. It says in which topics something was stored, and
//! from which end of the log on a walk meets it. The signal may be late or lost, so a slow poll
//! belongs beside it: [`EventReader::news`].
//!
//! # Errors
//! [`StoreError`] has one variant for each thing that a caller can do about it.

mod caution;
mod error;
mod hosts;
mod marks;
mod page;
mod plan;
mod postgres;
mod recent;
mod retention;
mod signal;
mod sqlite;

pub use error::StoreError;
pub use hosts::{PostgresHosts, Wanted};
pub use marks::{TopicMark, TopicMarks};
pub use retention::{Expired, ExpiredBatch};
pub use signal::{CommitSignal, CommitWaiter, Commits};

use crate::domain::{
    Cursor, DeadLetter, EventBatch, EventId, EventPage, EventQuery, NewDeadLetter, Receipt,
    RetentionRules, StoredEvent, Timestamp, Topic,
};
use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, time::Duration};

/// What every call of the seam returns: boxed once a transaction or once a page.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The receipts of a group: one list a request, one receipt an event, in the order sent.
pub type GroupReceipts = Vec<Vec<Receipt>>;

/// The number by which a transaction can be asked after, chosen before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxnId(i64);

impl TxnId {
    /// One that no other transaction of this shard has had lately.
    pub fn random() -> Self {
        Self(rand::random_range(1..=i64::MAX))
    }
}

/// One connection that writes. See the module's manual.
pub trait EventWriter: Send {
    /// Stores a group with its counters, in one transaction of this number. Returns when that has
    /// committed.
    fn append<'a>(
        &'a mut self,
        txn: TxnId,
        group: &'a [Arc<EventBatch>],
    ) -> StoreFuture<'a, GroupReceipts>;

    /// Says what became of an earlier writer's last transaction: the receipts where it committed, or
    /// `None` where nothing of it is stored and nothing ever will be.
    fn settle<'a>(
        &'a mut self,
        txn: TxnId,
        group: &'a [Arc<EventBatch>],
    ) -> StoreFuture<'a, Option<GroupReceipts>>;
}

/// Where writers come from.
pub trait WriterSource: Send + Sync {
    /// Connects the writer of a shard, on a migrated database. What an earlier writer of the same
    /// shard left open is ended, so that it holds no lock and commits nothing late.
    fn connect(&self, shard: usize) -> StoreFuture<'_, Box<dyn EventWriter>>;
}

/// What is read. Every call uses a connection of the pool for its own time only.
pub trait EventReader: Send + Sync {
    /// A page of events.
    fn page<'a>(&'a self, query: &'a EventQuery) -> StoreFuture<'a, EventPage>;

    /// One event by its key.
    fn find<'a>(
        &'a self,
        topic: &'a Topic,
        event_id: &'a EventId,
    ) -> StoreFuture<'a, Option<StoredEvent>>;

    /// Topics by name, after the given one, at most `limit` of them.
    fn topics<'a>(
        &'a self,
        after: Option<&'a Topic>,
        limit: u32,
    ) -> StoreFuture<'a, Vec<TopicSummary>>;

    /// Where the log ends now: an ascending walk from here meets every event whose commit follows
    /// this call. It may also meet some that were committed while an older transaction was running.
    fn end(&self) -> StoreFuture<'_, Cursor>;

    /// Which of these topics have events after a place, and before the log's end as it is now: a later
    /// call from that end goes on where this one stopped. From a place within a transaction it may name
    /// topics of that transaction again.
    fn news<'a>(&'a self, topics: &'a [Topic], after: Cursor) -> StoreFuture<'a, News>;

    /// Waits until every transaction that is under way now has ended, at most so long: from then on an
    /// ascending page holds what was committed before this call. At once where an engine has one
    /// writer.
    fn wait_for_running(&self, _patience: Duration) -> StoreFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// Fired after every commit of this process and, while [`Self::exchange_signals`] runs, for
    /// those of other processes.
    fn commits(&self) -> CommitSignal;

    /// Exchanges word of commits with the other processes on this database until that fails; to be
    /// called again after a pause. Never ends where one process has the database for itself.
    fn exchange_signals(&self) -> StoreFuture<'_, Infallible> {
        Box::pin(std::future::pending())
    }

    /// The counters over all writers of all replicas, as of one moment.
    fn totals(&self) -> StoreFuture<'_, Totals>;

    /// Adds events that validation has refused to their counter.
    fn add_rejected(&self, events: u64) -> StoreFuture<'_, ()>;

    /// Whether the database answers.
    fn ping(&self) -> StoreFuture<'_, ()>;

    /// What the server that answers is: `primary`, `standby`, or `read-only` for a primary that takes
    /// no writes. Always the first where the engine is within the process.
    fn role(&self) -> StoreFuture<'_, &'static str> {
        Box::pin(async { Ok("primary") })
    }

    /// Settings of the database with which it may lose what it has committed, by name; none where
    /// the engine is set up by us.
    fn durability_gaps(&self) -> StoreFuture<'_, Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Transactions begun since the oldest that still writes: what they and it commit is kept from
    /// those who follow the log until it has ended. 0 where an engine has one writer.
    fn held_back(&self) -> StoreFuture<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    /// Ends the pool's connections.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// What could not become an event. Calls may be repeated: they do the same once more.
pub trait DeadLetterStore: Send + Sync {
    /// Keeps letters whose origins are not kept yet.
    fn keep<'a>(&'a self, letters: &'a [NewDeadLetter]) -> StoreFuture<'a, ()>;

    /// Letters with smaller numbers than `before`, newest first, at most `limit` of them.
    fn dead_letters(&self, before: Option<i64>, limit: u32) -> StoreFuture<'_, Vec<DeadLetter>>;

    /// One letter.
    fn dead_letter(&self, id: i64) -> StoreFuture<'_, Option<DeadLetter>>;

    /// Throws a letter away; says whether it was there.
    fn delete(&self, id: i64) -> StoreFuture<'_, bool>;
}

/// Where retention works from.
pub trait RetentionStore: Send + Sync {
    /// Connects for a run through what has expired; `None` where another process is at it.
    fn begin_run(
        &self,
        rules: Arc<RetentionRules>,
    ) -> StoreFuture<'_, Option<Box<dyn RetentionRun>>>;
}

/// One run, on a connection of its own. It may be dropped at any point: a later one goes on from the last
/// batch that was committed, and does nothing twice.
pub trait RetentionRun: Send {
    /// Deletes dead letters of at least this age, the oldest first, in one transaction. It looks at so many;
    /// where it deletes fewer, the others are younger.
    fn expire_dead_letters(&mut self, age: Duration, letters_max: u32) -> StoreFuture<'_, Expired>;

    /// Looks at the next rows of the log, at most so many; `None` when the run is over. Changes no event.
    fn next(&mut self, rows_max: u32) -> StoreFuture<'_, Option<ExpiredBatch>>;

    /// Drops what the batch says, in one transaction. Does nothing where it is empty. Rows that somebody has
    /// changed meanwhile are left for the next look.
    fn expire<'a>(&'a mut self, batch: &'a ExpiredBatch) -> StoreFuture<'a, Expired>;
}

/// What has come in some topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The topics that have something, by their numbers in the list that was given.
    pub topics: Vec<usize>,
    /// Where the log ended.
    pub end: Cursor,
}

/// The counters of `/stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Events answered: the sum of the next two.
    pub received: u64,
    /// Rows in `processed_events`, and those that retention has deleted.
    pub unique_processed: u64,
    /// Events whose key was stored already, conflicts among them.
    pub duplicate_dropped: u64,
    /// Duplicates that said something else than what is stored.
    pub conflicts: u64,
    /// Events that validation refused.
    pub rejected: u64,
    /// Topics with at least one stored event.
    pub topics: u64,
    /// Dead letters that are kept.
    pub dead_letters: u64,
    /// Events that have lost their payload to retention.
    pub payloads_dropped: u64,
    /// Events that retention has deleted. They still count as unique.
    pub events_deleted: u64,
    /// Dead letters that retention has deleted.
    pub dead_letters_deleted: u64,
    /// When a run of retention last came to its end.
    pub retention_run_at: Option<Timestamp>,
    /// When a counter last changed; `None` before the first time.
    pub last_updated: Option<Timestamp>,
}

/// A topic and its counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSummary {
    /// Its name.
    pub topic: Topic,
    /// Events stored.
    pub unique: u64,
    /// Repeats dropped, conflicts among them.
    pub duplicates: u64,
    /// When its first event was stored.
    pub first_stored_at: Timestamp,
    /// When its latest event was stored.
    pub last_stored_at: Timestamp,
}

/// The numbers a store is opened with.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// Connections for reading.
    pub read_connections_max: u32,
    /// The longest a connection may take to be made.
    pub connect_timeout: Duration,
    /// The longest one statement may take.
    pub statement_timeout: Duration,
    /// On Postgres: behind a pooler that gives its servers' connections to others after each
    /// transaction.
    pub is_pooled: bool,
    /// On Postgres: whether Citus spreads the events over workers.
    pub is_citus: bool,
    /// Keys that are remembered, so that a repeat soon after costs the database nothing.
    pub recent_keys_max: usize,
}

/// Where a store is.
#[derive(Clone, Copy)]
pub struct Addresses<'a> {
    /// `postgres://…` or `sqlite://…`.
    pub url: &'a str,
    /// On Postgres: a replica that listings are read from.
    pub read_url: Option<&'a str>,
}

impl<'a> From<&'a str> for Addresses<'a> {
    fn from(url: &'a str) -> Self {
        Self {
            url,
            read_url: None,
        }
    }
}

/// An open store: cheap to clone, connected when first used.
#[derive(Clone)]
pub struct Store {
    /// For the persist actors.
    pub writers: Arc<dyn WriterSource>,
    /// For everybody who reads.
    pub reader: Arc<dyn EventReader>,
    /// For the bridge, and for those who look at what it could not store.
    pub dead_letters: Arc<dyn DeadLetterStore>,
    /// For the RetentionActor.
    pub retention: Arc<dyn RetentionStore>,
    /// Which engine it is, for logs: `postgres` or `sqlite`.
    pub engine: &'static str,
}

/// Opens the store that a URL names.
///
/// Nothing is connected yet. The first use connects and migrates, and does so again until it has
/// succeeded, so a database that is not there yet is no error here.
///
/// # Errors
/// [`StoreError::Misconfigured`] where the URL is none of the two or cannot be read.
pub fn open<'a>(
    addresses: impl Into<Addresses<'a>>,
    options: StoreOptions,
) -> Result<Store, StoreError> {
    let addresses = addresses.into();
    match addresses.url.split_once(':').map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => postgres::open(addresses, options),
        Some("sqlite") => sqlite::open(addresses.url, options),
        _ => Err(StoreError::misconfigured(
            "must start with postgres:// or sqlite://",
        )),
    }
}

/// Lays a group out and encodes it as the parameters of Postgres's statement, without a database; gives the
/// number of its rows. For `benches/ingest`, which measures what that costs.
///
/// # Errors
/// [`StoreError::Refused`] where a value has no such encoding, which no event has.
#[doc(hidden)]
pub fn encode_for_postgres(group: &[Arc<EventBatch>]) -> Result<usize, StoreError> {
    postgres::encode(group).map_err(StoreError::Refused)
}
