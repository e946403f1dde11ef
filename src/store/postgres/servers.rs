//! The servers of one database, of which one is used at a time: which that is, and connections to it.
//! Used by whoever connects. Where the URL names several, the one that takes writes is looked for at
//! each connection, beginning with the latest, so a failover is found by those who lose theirs.

use super::error::translate;
use crate::store::{PostgresHosts, StoreError, Wanted};
use sqlx::{ConnectOptions, Connection, PgConnection, Row, postgres::PgConnectOptions};
use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, timeout},
};

pub(super) struct Servers {
    servers: Vec<PgConnectOptions>,
    wanted: Wanted,
    /// The longest that a connection may take to be made, over all servers.
    connect_timeout: Duration,
    /// The number of the one that was the right one lately.
    current: watch::Sender<usize>,
    /// Whether it may be another one by now.
    is_in_doubt: AtomicBool,
    /// Held by whoever looks for the right one, so that not all do at the same time.
    search: Mutex<()>,
}

/// Says that a server is in doubt when it is dropped before it was told otherwise.
pub(super) struct Doubt<'a>(Option<&'a Servers>);

impl Servers {
    pub(super) fn new(
        hosts: &PostgresHosts,
        connect_timeout: Duration,
        prepare: impl Fn(PgConnectOptions) -> PgConnectOptions,
    ) -> Result<Self, StoreError> {
        let servers = hosts.urls().iter().map(|url| {
            let options = url.parse().map_err(|error: sqlx::Error| {
                StoreError::misconfigured(format!("cannot be read: {error}"))
            })?;
            Ok(prepare(options))
        });
        Ok(Self {
            servers: servers.collect::<Result<_, StoreError>>()?,
            wanted: hosts.wanted(),
            connect_timeout,
            current: watch::Sender::new(0),
            // One that is alone is the right one, whatever happens to it.
            is_in_doubt: AtomicBool::new(hosts.urls().len() > 1),
            search: Mutex::default(),
        })
    }

    /// The number of the server that was the right one lately.
    pub(super) fn current(&self) -> usize {
        *self.current.borrow()
    }

    /// How to connect to a server.
    pub(super) fn options(&self, server: usize) -> &PgConnectOptions {
        &self.servers[server]
    }

    /// Resolves when another server has become the right one.
    pub(super) async fn moved_from(&self, server: usize) {
        let mut current = self.current.subscribe();
        // The sender is in `self`.
        let _ = current.wait_for(|current| *current != server).await;
    }

    /// For the time of a call: if that fails or is given up, the server is in doubt.
    pub(super) fn doubt(&self) -> Doubt<'_> {
        Doubt((self.servers.len() > 1).then_some(self))
    }

    /// The number of the right server, looked for where it is in doubt.
    pub(super) async fn find(&self) -> Result<usize, StoreError> {
        if self.is_in_doubt.load(Ordering::Relaxed) {
            let _search = self.search.lock().await;
            if self.is_in_doubt.load(Ordering::Relaxed) {
                let (_, connection) = self.connect(PgConnectOptions::clone).await?;
                // How it parts does not matter.
                let _ = timeout(self.connect_timeout, connection.close()).await;
            }
        }
        Ok(self.current())
    }

    /// Connects to the right server; gives its number, too.
    pub(super) async fn connect(
        &self,
        tune: impl Fn(&PgConnectOptions) -> PgConnectOptions,
    ) -> Result<(usize, PgConnection), StoreError> {
        let deadline = Instant::now() + self.connect_timeout;
        let (count, first) = (self.servers.len(), self.current());
        let mut refusal = StoreError::TimedOut("connect");
        for attempt in 0..count {
            let server = (first + attempt) % count;
            // One that swallows everything must leave time for the others.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(count - attempt).unwrap_or(u32::MAX);
            let connection = self.connect_to(tune(&self.servers[server]));
            match timeout(share, connection).await {
                Ok(Ok(connection)) => {
                    self.is_the_right_one(server);
                    return Ok((server, connection));
                }
                // As libpq does: the others would say the same.
                Ok(Err(error @ StoreError::Misconfigured { .. })) => return Err(error),
                Ok(Err(error)) => refusal = error,
                Err(_) => refusal = StoreError::TimedOut("connect"),
            }
        }
        Err(refusal)
    }

    async fn connect_to(&self, options: PgConnectOptions) -> Result<PgConnection, StoreError> {
        let mut connection = options.connect().await.map_err(translate)?;
        if self.wanted == Wanted::Any {
            return Ok(connection);
        }
        let session = sqlx::raw_sql(
            "select pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'",
        );
        let session = session
            .fetch_one(&mut connection)
            .await
            .map_err(translate)?;
        let is_standby: bool = session.try_get(0).map_err(translate)?;
        let is_read_only: bool = session.try_get(1).map_err(translate)?;
        let (is_wanted, words) = match self.wanted {
            Wanted::Any => (true, ""),
            Wanted::ReadWrite => (!is_read_only, "takes no writes"),
            Wanted::ReadOnly => (is_read_only, "takes writes"),
            Wanted::Primary => (!is_standby, "is a standby"),
            Wanted::Standby => (is_standby, "is no standby"),
        };
        if is_wanted {
            return Ok(connection);
        }
        let name = name_of(&options);
        Err(StoreError::Unavailable(sqlx::Error::Io(io::Error::other(
            format!("{name} {words}"),
        ))))
    }

    fn is_the_right_one(&self, server: usize) {
        let has_moved = self.current.send_if_modified(|current| {
            let has_moved = *current != server;
            *current = server;
            has_moved
        });
        if has_moved {
            tracing::warn!(
                server = name_of(&self.servers[server]),
                "the database is on another server now"
            );
        }
        self.is_in_doubt.store(false, Ordering::Relaxed);
    }
}

impl Doubt<'_> {
    /// The server has answered.
    pub(super) fn dispel(mut self) {
        self.0 = None;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(servers) = self.0 {
            servers.is_in_doubt.store(true, Ordering::Relaxed);
        }
    }
}

/// As people write it; no secret is in it.
fn name_of(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}
