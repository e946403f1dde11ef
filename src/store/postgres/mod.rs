//! Postgres behind the seam. Private to the store; the only module that knows its settings.

mod answers;
mod citus;
mod connections;
mod dead_letters;
mod error;
mod fold;
mod pool;
mod reader;
mod replica;
mod retention;
mod rows;
mod servers;
mod session;
mod signals;
mod turn;
mod verdict;
mod writer;

use super::{
    Addresses, CommitSignal, Commits, DeadLetterStore, EventWriter, PostgresHosts, Store,
    StoreError, StoreFuture, StoreOptions, WriterSource, recent::RecentKeys,
};
use fold::Folder;
use reader::PostgresReader;
use replica::Replica;
use retention::PostgresRetention;
pub(super) use rows::encode;
use servers::Servers;
use sqlx::{
    ConnectOptions, Connection, PgConnection,
    migrate::{MigrateError, Migrator},
    postgres::PgConnectOptions,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::timeout};
use turn::Setup;
use writer::PostgresWriter;

/// A database that a newer version has migrated further still serves this one: migrations only add.
static MIGRATIONS: Migrator = Migrator {
    ignore_missing: true,
    ..sqlx::migrate!("migrations/postgres")
};

/// The same for a pooler, where a lock of a session is nobody's.
static POOLED_MIGRATIONS: Migrator = Migrator {
    ignore_missing: true,
    locking: false,
    ..sqlx::migrate!("migrations/postgres")
};

/// Migrations wait for each other's lock and may build an index.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);

/// What readers and writers of one database share.
struct Database {
    servers: Servers,
    options: StoreOptions,
    /// In the name of every connection of this process, so that a successor can find and end
    /// what a predecessor left behind.
    instance: u32,
    /// The server whose schema is ours for certain. A standby that was promoted may lack something.
    migrated_on: Mutex<Option<usize>>,
    folder: Folder,
    /// Keys that are in the database for certain.
    recent: RecentKeys,
    /// Fired for the commits of this process.
    own_commits: CommitSignal,
    /// Fired for those and, as far as they are heard of, for the commits of other processes.
    commits: CommitSignal,
}

pub(super) fn open(addresses: Addresses<'_>, options: StoreOptions) -> Result<Store, StoreError> {
    let hosts = PostgresHosts::for_writing(addresses.url).map_err(StoreError::misconfigured)?;
    let statement_timeout = format!("{}ms", options.statement_timeout.as_millis());
    let prepare = |connect: PgConnectOptions| {
        let connect = connect.disable_statement_logging();
        if options.is_pooled {
            // What a pooler does not know it refuses: the rest is set in each transaction, and
            // this is of use to those only who read floats.
            return connect.extra_float_digits(None);
        }
        connect.options([
            ("statement_timeout", statement_timeout.as_str()),
            // Writers rely on seeing, after a key was taken, the row that took it.
            ("default_transaction_isolation", "read committed"),
            // A connection that hangs in a transaction would hold its keys and its readers for ever.
            ("idle_in_transaction_session_timeout", "10s"),
            ("tcp_user_timeout", "10s"),
            // Nor need one whose client the network took away keep its place for hours.
            ("tcp_keepalives_idle", "30"),
            ("tcp_keepalives_interval", "10"),
            ("tcp_keepalives_count", "3"),
            ("client_connection_check_interval", "1s"),
            ("jit", "off"),
        ])
    };
    let servers = Servers::new(&hosts, options.connect_timeout, prepare)?;
    let database = Arc::new(Database {
        instance: rand::random(),
        servers,
        options,
        migrated_on: Mutex::default(),
        folder: Folder::default(),
        recent: RecentKeys::new(match options.is_citus {
            // Nobody counts deletions there.
            true => 0,
            false => options.recent_keys_max,
        }),
        own_commits: CommitSignal::default(),
        commits: CommitSignal::default(),
    });
    let replica = match addresses.read_url {
        Some(url) => {
            let hosts = PostgresHosts::for_reading(url).map_err(StoreError::misconfigured)?;
            let servers = Servers::new(&hosts, options.connect_timeout, prepare)?;
            Some(Replica::new(&database, servers))
        }
        None => None,
    };
    let reader = Arc::new(PostgresReader::new(Arc::clone(&database), replica));
    Ok(Store {
        writers: Arc::new(PostgresWriters(Arc::clone(&database))),
        retention: Arc::new(PostgresRetention(database)),
        dead_letters: Arc::clone(&reader) as Arc<dyn DeadLetterStore>,
        reader,
        engine: "postgres",
    })
}

impl Database {
    fn has_committed(&self, commits: &Commits) {
        self.own_commits.fire(commits);
        self.commits.fire(commits);
    }

    /// How statements that are prepared are planned: once. Citus cannot plan those that go to several workers
    /// before it knows the parameters, and relies on Postgres to plan them anew each time.
    fn plan_cache_mode(&self) -> &'static str {
        match self.options.is_citus {
            true => "auto",
            false => "force_generic_plan",
        }
    }

    fn name_of(&self, role: &str) -> String {
        format!("oncelog-{:08x}-{role}", self.instance)
    }

    fn named(&self, role: &str, connect: &PgConnectOptions) -> PgConnectOptions {
        connect.clone().application_name(&self.name_of(role))
    }

    /// How to connect as this role with these settings beside those of all.
    fn set_up(
        &self,
        role: &str,
        server: &PgConnectOptions,
        settings: &[(&str, &str)],
    ) -> (PgConnectOptions, Setup) {
        let timeout = format!("{}ms", self.options.statement_timeout.as_millis());
        let mut settings = settings.to_vec();
        if self.options.is_pooled {
            settings.extend([
                ("statement_timeout", timeout.as_str()),
                ("idle_in_transaction_session_timeout", "10s"),
                ("jit", "off"),
            ]);
        }
        Setup::new(self.options.is_pooled, self.named(role, server), &settings)
    }

    /// Sees to it that the schema is ours on the server that is used now.
    async fn migrate(&self) -> Result<(), StoreError> {
        let mut migrated_on = self.migrated_on.lock().await;
        if *migrated_on == Some(self.servers.current()) {
            return Ok(());
        }
        let connection = self
            .servers
            .connect(|server| self.named("migration", server));
        let (server, mut connection) = connection.await?;
        let migrations = async {
            if self.options.is_pooled {
                return migrate_within_a_transaction(&mut connection).await;
            }
            sqlx::raw_sql("set statement_timeout = 0")
                .execute(&mut connection)
                .await?;
            MIGRATIONS.run_direct(None, &mut connection, false).await
        };
        timeout(MIGRATION_TIMEOUT, migrations)
            .await
            .map_err(|_| StoreError::TimedOut("migrations"))?
            .map_err(error::translate_migration)?;
        if self.options.is_citus {
            let distribute = sqlx::raw_sql(citus::DISTRIBUTE).execute(&mut connection);
            timeout(MIGRATION_TIMEOUT, distribute)
                .await
                .map_err(|_| StoreError::TimedOut("distribution"))?
                .map_err(error::translate)?;
        }
        // Its work is done; how it parts does not matter.
        let _ = connection.close().await;
        *migrated_on = Some(server);
        Ok(())
    }
}

/// Holds one connection of the pooler, and leaves nothing on it.
async fn migrate_within_a_transaction(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let begin = "begin; set local statement_timeout = 0; \
        select pg_advisory_xact_lock(hashtext('oncelog migrations')); deallocate all";
    let mut transaction = connection.begin_with(begin).await?;
    let migrations = POOLED_MIGRATIONS.run_direct(None, &mut *transaction, false);
    migrations.await?;
    sqlx::raw_sql("deallocate all")
        .execute(&mut *transaction)
        .await?;
    Ok(transaction.commit().await?)
}

struct PostgresWriters(Arc<Database>);

impl WriterSource for PostgresWriters {
    fn connect(&self, shard: usize) -> StoreFuture<'_, Box<dyn EventWriter>> {
        Box::pin(async move {
            self.0.migrate().await?;
            let role = format!("persist-{shard}");
            let settings = [
                // The statements are few and their plans must not depend on what the planner
                // believes of a table that grows from nothing to millions of rows.
                ("plan_cache_mode", self.0.plan_cache_mode()),
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                ("enable_sort", "off"),
            ];
            let set_up = |server: &PgConnectOptions| self.0.set_up(&role, server, &settings);
            let connection = self.0.servers.connect(|server| set_up(server).0);
            let (server, connection) = connection.await?;
            // Once more where that is another one than before.
            self.0.migrate().await?;
            let name = self.0.name_of(&role);
            let (_, setup) = set_up(self.0.servers.options(server));
            let writer =
                PostgresWriter::begin_session(connection, setup, name, server, Arc::clone(&self.0))
                    .await?;
            Ok(Box::new(writer) as Box<dyn EventWriter>)
        })
    }
}

/// Runs a call of a reader or writer within the time that a statement may take, and a little more,
/// for a server that does not even answer that it gave up.
async fn within<T>(
    options: StoreOptions,
    what: &'static str,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    timeout(call_max(options), call)
        .await
        .map_err(|_| StoreError::TimedOut(what))?
        .map_err(error::translate)
}

fn call_max(options: StoreOptions) -> Duration {
    options.statement_timeout + Duration::from_millis(500)
}
