//! The connections that readers share, to the server that is used now: when the database has moved to another
//! one, others take their place.

use super::{
    Database, call_max,
    connections::{Connections, Lent},
    servers::{Doubt, Servers},
    turn::Setup,
    within,
};
use crate::store::{StoreError, StoreOptions};
use sqlx::{
    FromRow, PgConnection, Postgres,
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::{Query, QueryScalar},
};
use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::time::timeout;

pub(super) struct Pools {
    /// In the name of the connections.
    role: &'static str,
    setup: Setup,
    latest: Mutex<Latest>,
}

struct Latest {
    server: usize,
    connections: Connections,
    is_closed: bool,
}

/// A connection for one call. Dropped before its end, it puts its server in doubt.
pub(super) struct Reading<'a> {
    lent: Lent,
    setup: &'a Setup,
    options: StoreOptions,
    doubt: Doubt<'a>,
}

impl Pools {
    pub(super) fn new(database: &Database, servers: &Servers, role: &'static str) -> Self {
        let server = servers.current();
        let (connect, setup) = options(database, servers.options(server), role);
        let connections = connections(database, connect);
        Self {
            role,
            setup,
            latest: Mutex::new(Latest {
                server,
                connections,
                is_closed: false,
            }),
        }
    }

    /// Takes a connection to the server that is used now.
    pub(super) async fn begin<'a>(
        &'a self,
        database: &Database,
        servers: &'a Servers,
        what: &'static str,
    ) -> Result<Reading<'a>, StoreError> {
        let options = database.options;
        let (mut lent, doubt) = loop {
            let server = servers.find().await?;
            let doubt = servers.doubt();
            let connections = self.on(database, servers, server);
            let lending = timeout(call_max(options), connections.lend()).await;
            if let Some(lent) = lending.map_err(|_| StoreError::TimedOut(what))?? {
                break (lent, doubt);
            }
            // They are gone: for others to another server, or for good.
            if self.latest().is_closed {
                return Err(StoreError::TimedOut(what));
            }
        };
        within(options, what, self.setup.begin(lent.connection())).await?;
        Ok(Reading {
            lent,
            setup: &self.setup,
            options,
            doubt,
        })
    }

    fn on(&self, database: &Database, servers: &Servers, server: usize) -> Connections {
        let mut latest = self.latest();
        if latest.server != server && !latest.is_closed {
            let (options, _) = options(database, servers.options(server), self.role);
            // Whoever waits for one of the old ones comes here again.
            mem::replace(&mut latest.connections, connections(database, options)).retire();
            latest.server = server;
        }
        latest.connections.clone()
    }

    /// Ends the connections.
    pub(super) async fn close(&self) {
        let connections = {
            let mut latest = self.latest();
            latest.is_closed = true;
            latest.connections.clone()
        };
        connections.close().await;
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        // Nothing is called while it is locked that could leave it half changed.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading<'_> {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.lent.connection()
    }

    /// A statement for this connection, prepared for as long as it can be kept.
    pub(super) fn query<'q>(&self, statement: &'static str) -> Query<'q, Postgres, PgArguments> {
        sqlx::query(statement).persistent(self.setup.keeps_statements())
    }

    /// A statement for this connection that answers with one value.
    pub(super) fn scalar<'q, T>(
        &self,
        statement: &'static str,
    ) -> QueryScalar<'q, Postgres, T, PgArguments>
    where
        (T,): for<'r> FromRow<'r, PgRow>,
    {
        sqlx::query_scalar(statement).persistent(self.setup.keeps_statements())
    }

    /// All has gone well so far: makes it last.
    pub(super) async fn end(mut self) -> Result<(), StoreError> {
        within(self.options, "end", self.setup.end(self.lent.connection())).await?;
        self.lent.give_back();
        self.doubt.dispel();
        Ok(())
    }

    /// Enough has been read, and not all: nobody else can use the connection.
    pub(super) fn break_off(self) {
        self.doubt.dispel();
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

fn connections(database: &Database, server: PgConnectOptions) -> Connections {
    let options = database.options;
    Connections::new(
        server,
        options.read_connections_max,
        options.connect_timeout,
    )
}
