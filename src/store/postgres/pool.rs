//! The pool of connections that readers share, on the server that is used now. A pool knows one server:
//! when the database has moved to another one, another pool takes its place.

use super::{
    Database,
    servers::{Doubt, Servers},
    within,
};
use crate::store::StoreError;
use sqlx::{
    PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

pub(super) struct Pools {
    /// In the name of the connections.
    role: &'static str,
    latest: Mutex<Latest>,
}

struct Latest {
    server: usize,
    pool: PgPool,
}

/// A connection of the pool, for one call. Dropped before its end, it puts its server in doubt.
pub(super) struct Reading<'a> {
    connection: PoolConnection<Postgres>,
    doubt: Doubt<'a>,
}

impl Pools {
    pub(super) fn new(database: &Database, servers: &Servers, role: &'static str) -> Self {
        let server = servers.current();
        let pool = pool(database, options(database, servers.options(server), role));
        let latest = Mutex::new(Latest { server, pool });
        Self { role, latest }
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
        let connection = within(database.options, what, pool.acquire()).await?;
        Ok(Reading { connection, doubt })
    }

    fn on(&self, database: &Database, servers: &Servers, server: usize) -> PgPool {
        let mut latest = self.latest();
        if latest.server != server {
            let options = options(database, servers.options(server), self.role);
            // Whoever waits for a connection of the old one gets one to the new server.
            latest.pool.set_connect_options(options.clone());
            // What it has to the old server ends with its last user.
            let _old = mem::replace(&mut latest.pool, pool(database, options));
            latest.server = server;
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

impl Reading<'_> {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// All has gone well.
    pub(super) fn end(self) {
        self.doubt.dispel();
    }
}

fn options(database: &Database, server: &PgConnectOptions, role: &str) -> PgConnectOptions {
    let options = database.named(role, server);
    options.options([
        // A page follows an index, and sorts within a transaction at most. On a table that grew
        // since its last `analyze` the planner would rather sort all that is to come.
        ("enable_sort", "off"),
        ("plan_cache_mode", "force_generic_plan"),
    ])
}

fn pool(database: &Database, options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(database.options.read_connections_max)
        .acquire_timeout(database.options.connect_timeout)
        .test_before_acquire(true)
        .connect_lazy_with(options)
}
