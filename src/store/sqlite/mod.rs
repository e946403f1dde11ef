//! SQLite behind the seam, so that a bare machine is enough. Private to the store; the only module
//! that knows its settings.
//!
//! One transaction writes at a time, whichever process or shard it is of: `begin immediate` takes
//! turns. So whoever holds the write lock sees everything that was ever committed.

mod dead_letters;
mod error;
mod reader;
mod retention;
mod rows;
mod verdict;
mod writer;

use super::{
    CommitSignal, DeadLetterStore, EventWriter, Store, StoreError, StoreFuture, StoreOptions,
    WriterSource, recent::RecentKeys,
};
use error::translate;
use reader::SqliteReader;
use retention::SqliteRetention;
use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{fs, io, path::Path, sync::Arc, time::Duration};
use tokio::{sync::OnceCell, time::timeout};
use writer::SqliteWriter;

/// A database that a newer version has migrated further still serves this one: migrations only add.
static MIGRATIONS: Migrator = Migrator {
    ignore_missing: true,
    ..sqlx::migrate!("migrations/sqlite")
};

/// How long a transaction waits for its turn.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);
/// Pages of the log after which a commit copies them into the database file: 16 MiB.
const CHECKPOINT_PAGES: &str = "4000";
/// Memory of a writer for pages, in KiB, written as SQLite wants it. With its 2 MB a transaction of a
/// thousand events writes pages before it is complete, and again when they change once more.
const WRITER_CACHE: &str = "-32768";
/// Rows go in statements of a few sizes; each connection keeps those prepared.
const STATEMENTS_CACHED: usize = 64;

/// What readers and writers of one database share.
struct Database {
    connect: SqliteConnectOptions,
    options: StoreOptions,
    /// Tells this process's writers from those of another on the same file.
    instance: u32,
    migrated: OnceCell<()>,
    /// Keys that are in the database for certain.
    recent: RecentKeys,
    commits: CommitSignal,
}

pub(super) fn open(url: &str, options: StoreOptions) -> Result<Store, StoreError> {
    let connect: SqliteConnectOptions = url.parse().map_err(|error: sqlx::Error| {
        StoreError::misconfigured(format!("cannot be read: {error}"))
    })?;
    let file = connect.get_filename().to_string_lossy();
    // Asked of the URL: sqlx gives a database in memory a file name of its own making.
    if file.is_empty() || url.contains(":memory:") || url.contains("mode=memory") {
        return Err(StoreError::misconfigured(
            "must name a file, as in sqlite://data/oncelog.db: what is in memory is not durable",
        ));
    }
    let connect = connect
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // Each commit reaches the disk before it is answered.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .statement_cache_capacity(STATEMENTS_CACHED)
        .disable_statement_logging();
    let database = Arc::new(Database {
        instance: rand::random(),
        options,
        migrated: OnceCell::new(),
        recent: RecentKeys::new(options.recent_keys_max),
        commits: CommitSignal::default(),
        connect,
    });
    let pool = |connections, connect| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(options.connect_timeout)
            .connect_lazy_with(connect)
    };
    let reading = database.connect.clone().pragma("query_only", "on");
    let reader = Arc::new(SqliteReader::new(
        Arc::clone(&database),
        pool(options.read_connections_max, reading),
        // What is refused and what is a dead letter is written beside the writers, seldom.
        pool(1, database.connect.clone()),
    ));
    Ok(Store {
        writers: Arc::new(SqliteWriters(Arc::clone(&database))),
        retention: Arc::new(SqliteRetention(database)),
        dead_letters: Arc::clone(&reader) as Arc<dyn DeadLetterStore>,
        reader,
        engine: "sqlite",
    })
}

impl Database {
    async fn migrate(&self) -> Result<(), StoreError> {
        self.migrated
            .get_or_try_init(|| async {
                make_directory(self.connect.get_filename())?;
                let connection = self.connect_with(&self.connect).await;
                let mut connection = connection.map_err(error::at_start)?;
                MIGRATIONS
                    .run_direct(None, &mut connection, false)
                    .await
                    .map_err(error::translate_migration)?;
                // Its work is done; how it parts does not matter.
                let _ = connection.close().await;
                Ok(())
            })
            .await
            .copied()
    }

    async fn connect_with(
        &self,
        options: &SqliteConnectOptions,
    ) -> Result<SqliteConnection, StoreError> {
        let wait = self.options.connect_timeout + BUSY_TIMEOUT;
        timeout(wait, options.connect())
            .await
            .map_err(|_| StoreError::TimedOut("connect"))?
            .map_err(translate)
    }
}

/// The first run on a machine has no `data` yet.
fn make_directory(file: &Path) -> Result<(), StoreError> {
    let Some(directory) = file.parent().filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(());
    };
    fs::create_dir_all(directory).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => StoreError::Unavailable(sqlx::Error::Io(error)),
        _ => StoreError::misconfigured(format!(
            "the directory {} cannot be made: {error}",
            directory.display()
        )),
    })
}

struct SqliteWriters(Arc<Database>);

impl WriterSource for SqliteWriters {
    fn connect(&self, shard: usize) -> StoreFuture<'_, Box<dyn EventWriter>> {
        Box::pin(async move {
            self.0.migrate().await?;
            let options = self.0.connect.clone().pragma("cache_size", WRITER_CACHE);
            let connection = self.0.connect_with(&options).await?;
            let name = format!("{:08x}-{shard}", self.0.instance);
            let writer = SqliteWriter::begin_session(connection, name, Arc::clone(&self.0));
            let writer = writer.await?;
            Ok(Box::new(writer) as Box<dyn EventWriter>)
        })
    }
}

/// Runs a call of a reader or writer within the time that a statement may take, and a little more
/// than it may wait for its turn.
async fn within<T>(
    options: StoreOptions,
    what: &'static str,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    timeout(
        options
            .statement_timeout
            .max(BUSY_TIMEOUT + Duration::from_millis(500)),
        call,
    )
    .await
    .map_err(|_| StoreError::TimedOut(what))?
    .map_err(translate)
}
