//! One round: a database in its first state, the service or its rival on it, load, and the check that
//! what was answered is what the database holds. Used by `main`; `subscribers` makes its rounds from the same parts.

use crate::{
    args::Args,
    events::Source,
    http::Connection,
    load::{self, Account, Clock, Measured, Shape},
    meters::{self, Meters},
    prefill,
    raw::{self, RawShape},
    servers::{Oncelog, Postgres, Redis},
};
use anyhow::{Context, Result, ensure};
use sqlx::{ConnectOptions, Row};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::time::{MissedTickBehavior, interval, sleep};

const CRASHES_PER_SECOND: u32 = 5;
/// Of the crashes asked for, how many have to find their actor up and crash it.
const CRASHED_SHARE_MIN: f64 = 0.5;
const STREAM_POLL: Duration = Duration::from_millis(10);
const STREAM_TIME_MAX: Duration = Duration::from_secs(120);

/// Rows a second that are built for the first raw round.
const RAW_RATE_FIRST: f64 = 150_000.0;

/// The stored and the counted, as the database has them. What retention has deleted was stored.
const TOTALS: &str = "select \
    (select count(*) from processed_events) + (select events_deleted from retention), \
    cast(coalesce(sum(received_count), 0) as bigint), \
    cast(coalesce(sum(unique_processed_count), 0) as bigint) from system_stats";

/// Everything that the rounds share.
pub(crate) struct Lab {
    // Ended in this order, and the directory last.
    pub(crate) redis: Option<Redis>,
    pub(crate) postgres: Postgres,
    pub(crate) dir: TempDir,
    pub(crate) args: Args,
    pub(crate) clock: Clock,
    /// What went wrong in rounds; none of their figures is worth anything then.
    pub(crate) failures: Vec<String>,
    pub(crate) ready_ms_max: f64,
    pub(crate) idle_mb_max: f64,
    pub(crate) raw_rate_max: f64,
    rounds: u64,
}

/// Where a round stores.
#[derive(Debug, Clone)]
pub(crate) enum Backend {
    Postgres(&'static str),
    Sqlite(PathBuf),
}

/// What happens to the service beside its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    None,
    Crashes,
}

/// A round of a service.
pub(crate) struct ServiceRound {
    pub(crate) measured: Measured,
    /// Before the load, where the server had none at its start.
    pub(crate) idle_mb: Option<f64>,
    pub(crate) peak_mb: f64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Totals {
    rows: i64,
    received: i64,
    unique: i64,
}

impl Lab {
    pub(crate) async fn open(args: Args) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("oncelog-bench-")
            // Another user than this one may run Postgres.
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(&args.dir)?;
        let postgres = Postgres::start(dir.path()).await?;
        let clock = Clock {
            warmup: args.warmup(),
            measured: args.seconds(),
        };
        let lab = Self {
            redis: None,
            postgres,
            dir,
            args,
            clock,
            failures: Vec::new(),
            ready_ms_max: 0.0,
            idle_mb_max: 0.0,
            raw_rate_max: 0.0,
            rounds: 0,
        };
        lab.postgres
            .execute("postgres", "create database blank")
            .await?;
        lab.migrate(&Backend::Postgres("blank")).await?;
        if lab.args.prefill > 0 {
            let rows = 0..lab.args.prefill;
            prefill::prefill(&lab.postgres.options("blank"), rows).await?;
        }
        for database in ["raw", "service"] {
            lab.make_blank(&Backend::Postgres(database)).await?;
        }
        Ok(lab)
    }

    /// The server brings the schema, for its rival as well.
    async fn migrate(&self, backend: &Backend) -> Result<()> {
        let binary = self.args.server();
        self.start(&binary, backend, None).await?.stop().await
    }

    pub(crate) async fn start(
        &self,
        binary: &Path,
        backend: &Backend,
        redis_url: Option<&str>,
    ) -> Result<Oncelog> {
        let url = match backend {
            Backend::Postgres(database) => self.postgres.url(database),
            Backend::Sqlite(file) => format!("sqlite://{}", file.display()),
        };
        Oncelog::start(
            binary,
            self.dir.path(),
            &url,
            redis_url,
            &self.args.settings,
        )
        .await
    }

    pub(crate) fn sqlite(&self, name: &str) -> Backend {
        Backend::Sqlite(self.dir.path().join(name))
    }

    /// Brings a database into its first state; every round does so for both sides, so that nothing
    /// of one is cleaned up at the cost of the other.
    pub(crate) async fn make_blank(&self, backend: &Backend) -> Result<()> {
        match backend {
            Backend::Postgres("raw") => {
                self.replace("drop database if exists raw", RAW_FROM_BLANK)
                    .await
            }
            Backend::Postgres(_) => {
                self.replace("drop database if exists service", SERVICE_FROM_BLANK)
                    .await
            }
            Backend::Sqlite(file) => {
                for end in ["", "-wal", "-shm"] {
                    let _ = std::fs::remove_file(format!("{}{end}", file.display()));
                }
                self.migrate(backend).await
            }
        }
    }

    async fn replace(&self, drop: &'static str, create: &'static str) -> Result<()> {
        self.postgres.execute("postgres", drop).await?;
        self.postgres.execute("postgres", create).await
    }

    /// Other events than in any other round.
    pub(crate) fn source(&mut self, repeats: f64) -> Arc<Source> {
        self.rounds += 1;
        Arc::new(Source::new(self.rounds, repeats))
    }

    pub(crate) async fn totals(&self, backend: &Backend) -> Result<Totals> {
        let (rows, received, unique) = match backend {
            Backend::Postgres(database) => {
                let mut connection = self.postgres.options(database).connect().await?;
                let row = sqlx::query(TOTALS).fetch_one(&mut connection).await?;
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)
            }
            Backend::Sqlite(file) => {
                let mut connection = raw::open_sqlite(file).await?;
                let row = sqlx::query(TOTALS).fetch_one(&mut connection).await?;
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)
            }
        };
        Ok(Totals {
            rows,
            received,
            unique,
        })
    }

    /// Inserts without the service; SQLite has one shape for them.
    pub(crate) async fn raw_round(
        &mut self,
        backend: &Backend,
        shape: RawShape,
        repeats: f64,
    ) -> Result<Measured> {
        let source = self.source(repeats);
        let meters = Meters {
            servers: Vec::new(),
            postgres: self.postgres.pid(),
            pooler: None,
        };
        // Enough for half as fast again as it ever was; or, at first, for what two cores can do.
        let rate = match self.raw_rate_max {
            0.0 => RAW_RATE_FIRST,
            known => known * 1.5,
        };
        let time = self.clock.warmup + self.clock.measured;
        let rows_max = Duration::from_secs_f64(time.as_secs_f64() * rate).as_secs();
        let measured = match backend {
            Backend::Postgres(database) => {
                let options = self.postgres.options(database);
                raw::postgres(&options, shape, &source, rows_max, self.clock, meters).await?
            }
            Backend::Sqlite(file) => {
                raw::sqlite(file, &source, rows_max, self.clock, meters).await?
            }
        };
        self.raw_rate_max = self.raw_rate_max.max(measured.rate());
        Ok(measured)
    }

    /// Starts a server, publishes, stops it and checks.
    pub(crate) async fn publish_round(
        &mut self,
        binary: &Path,
        backend: &Backend,
        shape: Shape,
        repeats: f64,
        faults: Faults,
    ) -> Result<ServiceRound> {
        let before = self.totals(backend).await?;
        let source = self.source(repeats);
        let server = self.start(binary, backend, None).await?;
        let (idle_mb, _) = meters::memory_mb(server.pid())?;
        self.idle_mb_max = self.idle_mb_max.max(idle_mb);
        self.ready_ms_max = self.ready_ms_max.max(server.ready_in.as_secs_f64() * 1e3);
        let meters = Meters {
            servers: vec![server.pid()],
            postgres: self.postgres.pid(),
            pooler: None,
        };
        let addresses = [server.address];
        let load = load::run(&addresses, shape, &source, self.clock, meters);
        let (account, measured) = match faults {
            Faults::None => load.await?,
            Faults::Crashes => {
                let crashes = AtomicU32::new(0);
                let outcome = tokio::select! {
                    outcome = load => outcome?,
                    error = crash_actors(&server, &crashes) => return Err(error),
                };
                let crashes = f64::from(crashes.into_inner());
                let seconds = (self.clock.warmup + self.clock.measured).as_secs_f64();
                ensure!(
                    crashes > f64::from(CRASHES_PER_SECOND) * seconds * CRASHED_SHARE_MIN,
                    "only {crashes} crashes in {seconds} s"
                );
                outcome
            }
        };
        let (_, peak_mb) = meters::memory_mb(server.pid())?;
        let log = server.log_text();
        server.stop().await?;
        let after = self.totals(backend).await?;
        self.check(before, after, &account, &log);
        Ok(ServiceRound {
            measured,
            idle_mb: Some(idle_mb),
            peak_mb,
        })
    }

    /// Figures of a round that answered wrongly are worthless, and it is said so.
    pub(crate) fn check(&mut self, before: Totals, after: Totals, account: &Account, log: &str) {
        let (answered, stored) = (account.answered.cast_signed(), account.stored.cast_signed());
        let rows = after.rows - before.rows;
        let received = after.received - before.received;
        let unique = after.unique - before.unique;
        let mut complaints = Vec::new();
        if account.failures > 0 {
            let first = account.first_failure.as_deref().unwrap_or_default();
            complaints.push(format!(
                "{} answers were not 200, first: {first}",
                account.failures
            ));
        }
        // An answer that is lost may have been stored; where none is, the counts have to agree.
        if received != answered {
            complaints.push(format!(
                "{answered} events were answered, {received} are counted"
            ));
        }
        if rows != stored || unique != stored {
            complaints.push(format!(
                "{stored} events were answered as stored, {rows} rows are there, {unique} are counted"
            ));
        }
        if !complaints.is_empty() {
            let log: String = log.lines().take(5).collect::<Vec<_>>().join("\n");
            self.failures
                .push(format!("{}\n{log}", complaints.join("; ")));
        }
    }

    /// Fills the broker's stream, and then lets a server empty it.
    pub(crate) async fn stream_round(&mut self, repeats: f64) -> Result<ServiceRound> {
        let backend = Backend::Postgres("service");
        let events = self.args.stream_events;
        let source = self.source(repeats);
        if self.redis.is_none() {
            self.redis = Some(Redis::start(self.dir.path(), "redis", "everysec").await?);
        }
        let redis_url = self.redis.as_ref().map(|redis| redis.url.clone());
        let redis_url = redis_url.context("no redis")?;
        fill_stream(&redis_url, &source, events).await?;

        let before = self.totals(&backend).await?;
        let server = self
            .start(&self.args.server(), &backend, Some(&redis_url))
            .await?;
        let meters = Meters {
            servers: vec![server.pid()],
            postgres: self.postgres.pid(),
            pooler: None,
        };
        let goal = before.received + events.cast_signed();
        let (first, started, cpu) = self
            .drained_to(&backend, before.received + 1, &meters)
            .await?;
        let (last, ended, cpu_at_end) = self.drained_to(&backend, goal, &meters).await?;
        let (_, peak_mb) = meters::memory_mb(server.pid())?;
        server.stop().await?;
        let after = self.totals(&backend).await?;
        ensure!(
            after.received == goal && after.rows - before.rows == after.unique - before.unique,
            "the stream's events are not what is stored: {before:?}, {after:?}"
        );
        let measured = Measured {
            events: (last - first).unsigned_abs(),
            elapsed: ended - started,
            cpu: cpu_at_end.since(cpu),
            latencies_us: Vec::new(),
        };
        Ok(ServiceRound {
            measured,
            idle_mb: None,
            peak_mb,
        })
    }

    async fn drained_to(
        &self,
        backend: &Backend,
        goal: i64,
        meters: &Meters,
    ) -> Result<(i64, Instant, meters::Cpu)> {
        let asked = Instant::now();
        let Backend::Postgres(database) = backend else {
            anyhow::bail!("streams are measured on postgres");
        };
        let mut connection = self.postgres.options(database).connect().await?;
        loop {
            let received: i64 = sqlx::query_scalar(
                "select coalesce(sum(received_count), 0)::bigint from system_stats",
            )
            .fetch_one(&mut connection)
            .await?;
            if received >= goal {
                return Ok((received, Instant::now(), meters.read()?));
            }
            ensure!(
                asked.elapsed() < STREAM_TIME_MAX,
                "the stream is not drained: {received}"
            );
            sleep(STREAM_POLL).await;
        }
    }
}

const RAW_FROM_BLANK: &str = "create database raw template blank strategy file_copy";
const SERVICE_FROM_BLANK: &str = "create database service template blank strategy file_copy";

async fn fill_stream(url: &str, source: &Source, events: u64) -> Result<()> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("FLUSHALL")
        .query_async::<()>(&mut connection)
        .await?;
    let mut left = events;
    while left > 0 {
        let step = left.min(1000);
        let mut pipeline = redis::pipe();
        for _ in 0..step {
            let mut event = Vec::new();
            source.draw().write_json(&mut event);
            let add = pipeline.cmd("XADD").arg("oncelog:events").arg("*");
            add.arg("event").arg(event).ignore();
        }
        pipeline.query_async::<()>(&mut connection).await?;
        left -= step;
    }
    Ok(())
}

/// Crashes one persist actor after the other, until it is dropped; returns only to say why not.
async fn crash_actors(server: &Oncelog, crashes: &AtomicU32) -> anyhow::Error {
    let crash = async {
        let mut connection = Connection::open(server.address).await?;
        let mut ticks = interval(Duration::from_secs(1) / CRASHES_PER_SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            for actor in ["persist-0", "persist-1"] {
                ticks.tick().await;
                let path = format!("/admin/actors/{actor}/crash");
                let status = connection
                    .post(&path, b"{\"mode\":\"panic\"}")
                    .await?
                    .status;
                // 409: it is down already.
                ensure!(matches!(status, 202 | 409), "a crash was answered {status}");
                crashes.fetch_add(u32::from(status == 202), Ordering::Relaxed);
            }
        }
    };
    let outcome: Result<()> = crash.await;
    match outcome {
        Ok(()) => anyhow::anyhow!("the crashes ended"),
        Err(error) => error.context("cannot crash an actor"),
    }
}
