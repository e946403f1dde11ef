//! One statement's use of a connection. Straight to Postgres a statement is a transaction of its own. Behind
//! a pooler (pgbouncer's transaction mode) a session is no one's: the server changes between two
//! transactions, so each statement is prepared, set up and run within one. Used by writers and readers.

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Postgres, Transaction, postgres::PgConnectOptions,
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

    /// What comes before the statements of a call.
    pub(super) async fn begin(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if let Self::Transactions(begin) = self {
            let begin = sqlx::raw_sql(AssertSqlSafe(begin.clone()));
            begin.execute(connection).await?;
        }
        Ok(())
    }

    /// What comes after them, where all have gone well.
    pub(super) async fn end(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if let Self::Transactions(_) = self {
            sqlx::raw_sql("commit").execute(connection).await?;
        }
        Ok(())
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
