//! pgbouncer in its transaction mode, before a Postgres of the test's own.

use super::{
    PostgresServer, eventually,
    process::{Process, free_port, unprivileged},
};
use rustix::process::Signal;
use sqlx::{ConnectOptions, postgres::PgConnectOptions};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

const START_MAX: Duration = Duration::from_secs(30);
/// Connections to the server: fewer than the service has of its own to the pooler.
const SERVER_CONNECTIONS: usize = 4;

/// A pooler, gone when dropped.
pub(crate) struct Pgbouncer {
    // Before the directory: fields are dropped in this order.
    process: Option<Process>,
    port: u16,
    settings: TempDir,
}

impl Pgbouncer {
    /// One that runs.
    pub(crate) async fn start(server: &PostgresServer) -> Self {
        let settings = tempfile::Builder::new()
            .prefix("oncelog-pgbouncer-")
            .tempdir()
            .unwrap();
        let (port, server_port) = (free_port(), server.address().port());
        let text = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={server_port} user=postgres\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             default_pool_size = {SERVER_CONNECTIONS}\n\
             server_login_retry = 1\n"
        );
        let file = settings.path().join("pgbouncer.ini");
        fs::write(&file, text).unwrap();
        // It runs as another user where this one is root.
        fs::set_permissions(settings.path(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let mut pooler = Self {
            process: None,
            port,
            settings,
        };
        pooler.start_again().await;
        pooler
    }

    /// The address of one of the server's databases, by way of this.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Starts it on the port that it had, and waits until it takes connections.
    pub(crate) async fn start_again(&mut self) {
        // Debian keeps it among the administrators' programs.
        let packaged = Path::new("/usr/sbin/pgbouncer");
        let mut pgbouncer = match packaged.exists() {
            true => Command::new(packaged),
            false => Command::new("pgbouncer"),
        };
        pgbouncer.arg(self.settings.path().join("pgbouncer.ini"));
        pgbouncer.current_dir("/");
        self.process = Some(Process::spawn(pgbouncer, unprivileged(), Signal::KILL));
        let url: PgConnectOptions = self.url("postgres").parse().unwrap();
        // Which it does not know.
        let options = url.extra_float_digits(None);
        eventually("pgbouncer takes connections", START_MAX, async || {
            options.connect().await.is_ok()
        })
        .await;
    }

    /// Ends it without a word.
    pub(crate) async fn kill(&mut self) {
        let mut process = self.process.take().expect("a running pgbouncer");
        process.signal(Signal::KILL);
        process.wait(START_MAX).await;
    }
}
