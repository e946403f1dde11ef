//! The pool of connections that readers share, on the server that is used now. A pool knows one server:
//! when the database has moved to another one, another pool takes its place.

use super::{
    Database,
    servers::{Doubt, Servers},
    turn::{PoolTurn, Setup},
    within,
};
use crate::store::{StoreError, StoreOptions};
use sqlx::{
    FromRow, PgConnection, PgPool, Postgres,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    query::{Query, QueryScalar},
};
use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// For what a call does beside its statements.
const MARGIN: Duration = Duration::from_secs(1);

pub(super) struct Pools {
    /// In the name of the connections.
    role: &'static str,
    setup: Setup,
    latest: Mutex<Latest>,
}

struct Latest {
    server: usize,
    pool: PgPool,
    /// When a connection was taken last.
    lent_at: Instant,
}

/// A connection of the pool, for one call. Dropped before its end, it puts its server in doubt.
pub(super) struct Reading<'a> {
    turn: PoolTurn,
    options: StoreOptions,
    doubt: Doubt<'a>,
}

impl Pools {
    pub(super) fn new(database: &Database, servers: &Servers, role: &'static str) -> Self {
        let server = servers.current();
        let (connect, setup) = options(database, servers.options(server), role);
        let pool = pool(database, connect);
        Self {
            role,
            setup,
            latest: Mutex::new(Latest {
                server,
                pool,
                lent_at: Instant::now(),
            }),
        }
    }

    /// Takes a connection to the server that is used now.
    pub(super) async fn begin<'a>(
        &self,
        database: &Database,
        servers: &'a Servers,
        what: &'static str,
    ) -> Result<Reading<'a>, StoreError> {
        let server = servers.find().await?;
        let doubt = servers.doubt();
        let pool = self.on(database, servers, server);
        let options = database.options;
        let turn = within(options, what, self.setup.turn_of(&pool)).await?;
        self.latest().lent_at = Instant::now();
        Ok(Reading {
            turn,
            options,
            doubt,
        })
    }

    fn on(&self, database: &Database, servers: &Servers, server: usize) -> PgPool {
        let mut latest = self.latest();
        if latest.server != server {
            let (options, _) = options(database, servers.options(server), self.role);
            // Whoever waits for a connection of the old one gets one to the new server.
            latest.pool.set_connect_options(options.clone());
            // What it has to the old server ends with its last user.
            let _old = mem::replace(&mut latest.pool, pool(database, options));
            latest.server = server;
            latest.lent_at = Instant::now();
        } else if latest.is_stuck(database.options) {
            tracing::warn!(
                role = self.role,
                "connections to the database do not come back, making others"
            );
            let (options, _) = options(database, servers.options(server), self.role);
            // Its connections end when the network gives them up.
            let _old = mem::replace(&mut latest.pool, pool(database, options));
            latest.lent_at = Instant::now();
        }
        latest.pool.clone()
    }

    /// Ends the connections.
    pub(super) async fn close(&self) {
        let pool = self.latest().pool.clone();
        pool.close().await;
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        // Nothing is called while it is locked that could leave it half changed.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latest {
    /// Whether all connections have been away for longer than any call takes: sqlx asks each that comes back
    /// whether it still answers, and waits for that for ever where the way to the server has swallowed it.
    fn is_stuck(&self, options: StoreOptions) -> bool {
        let call_max = 2 * (options.statement_timeout + options.connect_timeout) + MARGIN;
        self.pool.size() >= options.read_connections_max
            && self.pool.num_idle() == 0
            && self.lent_at.elapsed() > call_max
    }
}

impl Reading<'_> {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.turn.connection()
    }

    /// A statement for this connection.
    pub(super) fn query<'q>(&self, statement: &'static str) -> Query<'q, Postgres, PgArguments> {
        self.turn.query(statement)
    }

    /// A statement for this connection that answers with one value.
    pub(super) fn scalar<'q, T>(
        &self,
        statement: &'static str,
    ) -> QueryScalar<'q, Postgres, T, PgArguments>
    where
        (T,): for<'r> FromRow<'r, PgRow>,
    {
        self.turn.scalar(statement)
    }

    /// All has gone well so far: makes it last.
    pub(super) async fn end(self) -> Result<(), StoreError> {
        within(self.options, "end", self.turn.end()).await?;
        self.doubt.dispel();
        Ok(())
    }
}

fn options(
    database: &Database,
    server: &PgConnectOptions,
    role: &str,
) -> (PgConnectOptions, Setup) {
    let settings = [
        // A page follows an index, and sorts within a transaction at most. On a table that grew
        // since its last `analyze` the planner would rather sort all that is to come.
        ("enable_sort", "off"),
        ("plan_cache_mode", database.plan_cache_mode()),
    ];
    database.set_up(role, server, &settings)
}

fn pool(database: &Database, options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(database.options.read_connections_max)
        .acquire_timeout(database.options.connect_timeout)
        .test_before_acquire(true)
        .connect_lazy_with(options)
}
