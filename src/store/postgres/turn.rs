//! One statement's use of a connection. Straight to Postgres a statement is a transaction of its own. Behind
//! a pooler (pgbouncer's transaction mode) a session is no one's: the server changes between two
//! transactions, so each statement is prepared, set up and run within one. Used by writers and readers.

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions},
    query::{Query, QueryScalar},
};

/// How the connections of one role are set up.
#[derive(Clone)]
pub(super) enum Setup {
    /// Once, when they are made.
    Session,
    /// At the beginning of each transaction, with this statement.
    Transactions(String),
}

/// A writer's connection, for one statement.
pub(super) enum Turn<'c> {
    Session(&'c mut PgConnection),
    Transaction(Transaction<'c, Postgres>),
}

/// A connection of a pool, for one call.
pub(super) enum PoolTurn {
    Session(Lent),
    Transaction(Transaction<'static, Postgres>),
}

/// A connection that goes back to its pool only if its call has ended well. The pool would ask any other
/// whether it still answers, and wait for that without a limit.
pub(super) struct Lent {
    connection: PoolConnection<Postgres>,
    has_ended_well: bool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.has_ended_well {
            self.connection.close_on_drop();
        }
    }
}

impl Setup {
    /// `settings` go into the options of the connection, or are to be set in each transaction.
    pub(super) fn new(
        is_pooled: bool,
        connect: PgConnectOptions,
        settings: &[(&str, &str)],
    ) -> (PgConnectOptions, Self) {
        if !is_pooled {
            return (connect.options(settings.iter().copied()), Self::Session);
        }
        let mut begin = "begin isolation level read committed".to_owned();
        for (name, value) in settings {
            // Names and values are ours, none has a quote.
            begin.push_str(&format!("; set local {name} = '{value}'"));
        }
        (connect, Self::Transactions(begin))
    }

    pub(super) async fn turn<'c>(
        &self,
        connection: &'c mut PgConnection,
    ) -> Result<Turn<'c>, sqlx::Error> {
        match self {
            Self::Session => Ok(Turn::Session(connection)),
            Self::Transactions(begin) => {
                let begin = AssertSqlSafe(begin.clone());
                connection.begin_with(begin).await.map(Turn::Transaction)
            }
        }
    }

    /// Several statements as one, whatever stands between.
    pub(super) async fn transaction<'c>(
        &self,
        connection: &'c mut PgConnection,
    ) -> Result<Transaction<'c, Postgres>, sqlx::Error> {
        match self.turn(connection).await? {
            Turn::Session(connection) => connection.begin().await,
            Turn::Transaction(transaction) => Ok(transaction),
        }
    }

    pub(super) async fn turn_of(&self, pool: &PgPool) -> Result<PoolTurn, sqlx::Error> {
        match self {
            Self::Session => Ok(PoolTurn::Session(Lent {
                connection: pool.acquire().await?,
                has_ended_well: false,
            })),
            Self::Transactions(begin) => {
                let begin = AssertSqlSafe(begin.clone());
                pool.begin_with(begin).await.map(PoolTurn::Transaction)
            }
        }
    }

    /// Whether a statement that was prepared is still there the next time.
    pub(super) fn keeps_statements(&self) -> bool {
        matches!(self, Self::Session)
    }
}

impl Turn<'_> {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        match self {
            Self::Session(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }

    /// Makes what was done last.
    pub(super) async fn end(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Session(_) => Ok(()),
            Self::Transaction(transaction) => transaction.commit().await,
        }
    }
}

impl PoolTurn {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        match self {
            Self::Session(lent) => &mut lent.connection,
            Self::Transaction(transaction) => transaction,
        }
    }

    /// A statement, prepared for as long as it can be kept.
    pub(super) fn query<'q>(&self, statement: &'static str) -> Query<'q, Postgres, PgArguments> {
        sqlx::query(statement).persistent(matches!(self, Self::Session(_)))
    }

    /// A statement that answers with one value.
    pub(super) fn scalar<'q, T>(
        &self,
        statement: &'static str,
    ) -> QueryScalar<'q, Postgres, T, PgArguments>
    where
        (T,): for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
    {
        sqlx::query_scalar(statement).persistent(matches!(self, Self::Session(_)))
    }

    /// Makes what was done last.
    pub(super) async fn end(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Session(mut lent) => {
                lent.has_ended_well = true;
                Ok(())
            }
            Self::Transaction(transaction) => transaction.commit().await,
        }
    }
}
