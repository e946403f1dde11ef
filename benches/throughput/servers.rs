//! The processes of the benchmark: a private Postgres, the server under test, and the Redis and
//! NATS of some workloads, each on a free port and ended with its value. Used by `main` and the rounds.

use crate::http::Connection;
use anyhow::{Context, Result, bail, ensure};
use sqlx::{ConnectOptions, Connection as _, PgConnection, postgres::PgConnectOptions};
use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::time::sleep;

const START_TIME_MAX: Duration = Duration::from_secs(20);
const STOP_TIME_MAX: Duration = Duration::from_secs(12);
const POLL: Duration = Duration::from_millis(5);

/// A process that does not outlive this value.
struct Guard {
    child: Child,
    /// What makes it end at once and in order.
    signal: &'static str,
}

impl Guard {
    fn spawn(command: &mut Command, log: &Path, signal: &'static str) -> Result<Self> {
        let log = File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, signal })
    }

    fn send(&self, signal: &str) -> Result<()> {
        run(Command::new("kill").args(["-s", signal, &self.child.id().to_string()])).map(drop)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.send(self.signal).is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Postgres with what a machine that is measured should have: fsync, and room for its log.
pub(crate) struct Postgres {
    guard: Guard,
    port: u16,
    data: PathBuf,
    pub(crate) version: String,
}

impl Postgres {
    pub(crate) async fn start(dir: &Path) -> Result<Self> {
        let bin = postgres_bin()?;
        let data = dir.join("postgres");
        let as_user = PostgresUser::find()?;
        if as_user.is_other {
            run(Command::new("install")
                .args(["-d", "-m", "700", "-o", "postgres"])
                .arg(&data))?;
        }
        run(as_user
            .command(&bin.join("initdb"))
            .args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--no-locale",
            ])
            .arg("--pgdata")
            .arg(&data))?;
        let port = free_port()?;
        let mut command = as_user.command(&bin.join("postgres"));
        command.arg("-D").arg(&data);
        for setting in [
            &format!("port={port}"),
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=on",
            "synchronous_commit=on",
            "shared_buffers=1GB",
            "max_wal_size=16GB",
            "checkpoint_timeout=15min",
            "max_connections=300",
        ] {
            command.arg("-c").arg(setting);
        }
        let log = dir.join("postgres.log");
        let mut postgres = Self {
            guard: Guard::spawn(&mut command, &log, "QUIT")?,
            port,
            data,
            version: String::new(),
        };
        let started = Instant::now();
        let mut connection = loop {
            match postgres.options("postgres").connect().await {
                Ok(connection) => break connection,
                Err(error) if started.elapsed() > START_TIME_MAX => {
                    let log = fs::read_to_string(&log).unwrap_or_default();
                    return Err(error).context(format!("postgres did not start:\n{log}"));
                }
                Err(_) => sleep(POLL).await,
            }
        };
        // Behind it Debian says how it is packaged.
        postgres.version =
            sqlx::query_scalar("select split_part(current_setting('server_version'), ' ', 1)")
                .fetch_one(&mut connection)
                .await?;
        Ok(postgres)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.guard.child.id()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What Postgres's own tool says of the log between two of its places, by kind of record.
    pub(crate) fn wal_stats(&self, from: &str, to: &str) -> Result<String> {
        let dump = postgres_bin()?.join("pg_waldump");
        run(PostgresUser::find()?
            .command(&dump)
            .arg("--path")
            .arg(self.data.join("pg_wal"))
            .args(["--start", from, "--end", to, "--stats"]))
    }

    pub(crate) fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username("postgres")
            .database(database)
            .disable_statement_logging()
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) async fn execute(&self, database: &str, sql: &'static str) -> Result<()> {
        let mut connection: PgConnection = self.options(database).connect().await?;
        sqlx::raw_sql(sql).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }
}

/// Who may run Postgres: it refuses root.
struct PostgresUser {
    is_other: bool,
}

impl PostgresUser {
    fn find() -> Result<Self> {
        let is_other = fs::metadata("/proc/self")?.uid() == 0;
        Ok(Self { is_other })
    }

    fn command(&self, program: &Path) -> Command {
        if !self.is_other {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        command.arg(program).current_dir("/");
        command
    }
}

/// `PG_BIN`, or where Debian has it, or wherever `pg_config` says.
fn postgres_bin() -> Result<PathBuf> {
    if let Some(bin) = std::env::var_os("PG_BIN") {
        return Ok(bin.into());
    }
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    debian.sort();
    match debian.pop() {
        Some(bin) => Ok(bin),
        None => Ok(run(Command::new("pg_config").arg("--bindir"))?
            .trim()
            .into()),
    }
}

/// pgbouncer in its transaction mode, with its own defaults otherwise.
pub(crate) struct Pgbouncer {
    guard: Guard,
    port: u16,
    pub(crate) version: String,
}

impl Pgbouncer {
    pub(crate) async fn start(postgres: &Postgres, dir: &Path) -> Result<Self> {
        // Debian keeps it among the administrators' programs.
        let packaged = Path::new("/usr/sbin/pgbouncer");
        let program = match packaged.exists() {
            true => packaged,
            false => Path::new("pgbouncer"),
        };
        let port = free_port()?;
        let settings = dir.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={} user=postgres\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             admin_users = postgres\n\
             pool_mode = transaction\n",
            postgres.port
        );
        fs::write(&settings, text)?;
        // It refuses root, as Postgres does.
        let as_user = PostgresUser::find()?;
        let version = run(as_user.command(program).arg("--version"))?;
        let log = dir.join("pgbouncer.log");
        let guard = Guard::spawn(as_user.command(program).arg(&settings), &log, "KILL")?;
        let pooler = Self {
            guard,
            port,
            version: version.lines().next().unwrap_or_default().to_owned(),
        };
        let started = Instant::now();
        while let Err(error) = pooler.execute("show version").await {
            if started.elapsed() > START_TIME_MAX {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(error).context(format!("pgbouncer did not start:\n{log}"));
            }
            sleep(POLL).await;
        }
        Ok(pooler)
    }

    /// A command of its own console.
    pub(crate) async fn execute(&self, command: &'static str) -> Result<()> {
        let url: PgConnectOptions = self.url("pgbouncer").parse()?;
        // Which it does not know.
        let mut connection = url.extra_float_digits(None).connect().await?;
        sqlx::raw_sql(command).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.guard.child.id()
    }
}

/// Redis, with its log on the disk.
pub(crate) struct Redis {
    guard: Guard,
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
}

impl Redis {
    /// In a directory of this name. `appendfsync` is `everysec`, Redis's own default once it has a log, or `always`.
    pub(crate) async fn start(dir: &Path, name: &str, appendfsync: &str) -> Result<Self> {
        let data = dir.join(name);
        fs::create_dir(&data)?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let port = address.port().to_string();
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", appendfsync])
            // Rewriting the log in the middle of a round would cost only Redis.
            .args(["--auto-aof-rewrite-percentage", "0", "--dir"])
            .arg(&data);
        let guard = Guard::spawn(&mut command, &dir.join("redis.log"), "KILL")?;
        let url = format!("redis://{address}");
        let client = redis::Client::open(url.as_str())?;
        let started = Instant::now();
        while let Err(error) = client.get_multiplexed_async_connection().await {
            if started.elapsed() > START_TIME_MAX {
                return Err(error).context("redis did not start");
            }
            sleep(POLL).await;
        }
        Ok(Self {
            guard,
            address,
            url,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.guard.child.id()
    }
}

/// NATS with a JetStream that makes each message durable before it is acknowledged.
pub(crate) struct NatsServer {
    guard: Guard,
    pub(crate) address: SocketAddr,
}

impl NatsServer {
    pub(crate) async fn start(binary: &Path, dir: &Path, name: &str) -> Result<Self> {
        let data = dir.join(name);
        fs::create_dir(&data)?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let config = data.join("nats.conf");
        let text = format!(
            "listen: \"{address}\"\njetstream {{ store_dir: \"{}\", sync_interval: always }}\n",
            data.display()
        );
        fs::write(&config, text)?;
        let log = dir.join("nats.log");
        let mut guard = Guard::spawn(Command::new(binary).arg("-c").arg(&config), &log, "KILL")?;
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            let is_over = guard.child.try_wait()?.is_some();
            if is_over || started.elapsed() > START_TIME_MAX {
                let log = fs::read_to_string(&log).unwrap_or_default();
                bail!("nats-server did not start:\n{log}");
            }
            sleep(POLL).await;
        }
        Ok(Self { guard, address })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.guard.child.id()
    }
}

/// The server under test.
pub(crate) struct Oncelog {
    guard: Guard,
    log: PathBuf,
    pub(crate) address: SocketAddr,
    /// From the start of the process to the first 200 of /readyz.
    pub(crate) ready_in: Duration,
}

impl Oncelog {
    /// Nothing of this process's environment reaches it but `settings`.
    pub(crate) async fn start(
        binary: &Path,
        dir: &Path,
        database_url: &str,
        redis_url: Option<&str>,
        settings: &[String],
    ) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let log = dir.join(format!("oncelog-{}.log", address.port()));
        let mut command = Command::new(binary);
        command
            .env_clear()
            .env("RUST_LOG", "error")
            .env("BIND", address.to_string())
            .env("DATABASE_URL", database_url)
            .current_dir(dir);
        if let Some(url) = redis_url {
            command.env("REDIS_URL", url);
        }
        for setting in settings {
            let (name, value) = setting
                .split_once('=')
                .with_context(|| format!("--set {setting}: want VARIABLE=VALUE"))?;
            command.env(name, value);
        }
        let started = Instant::now();
        let mut server = Self {
            guard: Guard::spawn(&mut command, &log, "KILL")?,
            log,
            address,
            ready_in: Duration::ZERO,
        };
        while !server.is_ready().await {
            let is_over = server.guard.child.try_wait()?.is_some();
            if is_over || started.elapsed() > START_TIME_MAX {
                bail!("oncelog did not start:\n{}", server.log_text());
            }
            sleep(POLL).await;
        }
        server.ready_in = started.elapsed();
        Ok(server)
    }

    async fn is_ready(&self) -> bool {
        let Ok(mut connection) = Connection::open(self.address).await else {
            return false;
        };
        matches!(connection.get("/readyz").await, Ok(answer) if answer.status == 200)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.guard.child.id()
    }

    /// What it had to complain about.
    pub(crate) fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to end, and sees that it does so in order.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.guard.send("TERM")?;
        let asked = Instant::now();
        loop {
            if let Some(status) = self.guard.child.try_wait()? {
                ensure!(
                    status.success(),
                    "oncelog ended with {status}:\n{}",
                    self.log_text()
                );
                return Ok(());
            }
            ensure!(
                asked.elapsed() < STOP_TIME_MAX,
                "oncelog did not end on SIGTERM"
            );
            sleep(POLL).await;
        }
    }
}

/// Runs a short command to its end; its output, or an error with what it said.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
