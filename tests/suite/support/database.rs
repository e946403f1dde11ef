//! An empty database for each test, on either engine, and a look into it past the service.

use super::postgres;
use sqlx::{Connection, PgConnection, SqliteConnection};
use std::{path::Path, thread};
use tempfile::TempDir;

/// What the service stores its events in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    Sqlite,
}

/// A database, gone when dropped.
pub(crate) struct Database {
    url: String,
    engine: Engine,
    place: Place,
}

enum Place {
    /// In the shared server; its name.
    Shared(String),
    /// A file of this directory.
    File { _directory: TempDir },
    /// In a server or a directory of the test's own, with which it goes.
    Elsewhere,
}

impl Database {
    pub(crate) async fn create(engine: Engine) -> Self {
        match engine {
            Engine::Postgres => {
                let name = format!("test_{:016x}", rand::random::<u64>());
                run(postgres::shared_url(), &format!("create database {name}")).await;
                let (server, _) = postgres::shared_url().rsplit_once('/').unwrap();
                Self {
                    url: format!("{server}/{name}"),
                    engine,
                    place: Place::Shared(name),
                }
            }
            Engine::Sqlite => {
                let directory = tempfile::Builder::new()
                    .prefix("oncelog-sqlite-")
                    .tempdir()
                    .unwrap();
                Self {
                    url: format!("sqlite://{}/events.db", directory.path().display()),
                    engine,
                    place: Place::File {
                        _directory: directory,
                    },
                }
            }
        }
    }

    /// One that the test keeps itself, on Postgres.
    pub(crate) fn at(url: String) -> Self {
        Self {
            url,
            engine: Engine::Postgres,
            place: Place::Elsewhere,
        }
    }

    /// A file below a directory that the test keeps itself, on SQLite.
    pub(crate) fn below(directory: &Path) -> Self {
        Self {
            url: format!("sqlite://{}/events.db", directory.display()),
            engine: Engine::Sqlite,
            place: Place::Elsewhere,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Rows of `processed_events`, counted in the database itself.
    pub(crate) async fn rows(&self) -> i64 {
        self.number("select count(*) from processed_events").await
    }

    /// The one number that a query asks the database itself for.
    pub(crate) async fn number(&self, query: &'static str) -> i64 {
        match self.engine {
            Engine::Postgres => {
                let mut connection = PgConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(query).fetch_one(&mut connection).await
            }
            Engine::Sqlite => {
                let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(query).fetch_one(&mut connection).await
            }
        }
        .unwrap()
    }

    /// Has every event that is stored now be stored two days earlier.
    pub(crate) async fn age_two_days(&self) {
        let statement = match self.engine {
            Engine::Postgres => {
                "update processed_events set processed_at = processed_at - interval '2 days'"
            }
            Engine::Sqlite => {
                "update processed_events set processed_at = processed_at - 172800000000"
            }
        };
        self.execute(statement).await;
    }

    /// Does something to the database that the service knows nothing of.
    pub(crate) async fn execute(&self, statement: &'static str) {
        match self.engine {
            Engine::Postgres => run(&self.url, statement).await,
            Engine::Sqlite => {
                let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
                let done = sqlx::query(statement).execute(&mut connection).await;
                done.map(drop).unwrap();
            }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Place::Shared(name) = &self.place else {
            return;
        };
        let statement = format!("drop database if exists {name} with (force)");
        // A drop cannot wait, and may be within a runtime already: another thread has its own.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(run(postgres::shared_url(), &statement));
        });
        let _ = dropped.join();
    }
}

async fn run(url: &str, statement: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let statement = sqlx::AssertSqlSafe(statement.to_owned());
    sqlx::query(statement)
        .execute(&mut connection)
        .await
        .unwrap();
}
