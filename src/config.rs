//! The settings of the process, from flags and environment variables to typed and bounded values.
//! Read by `main` and handed to `app`; no other module may see it.
//!
//! Every setting is a kebab-case flag and the environment variable of the same name in capitals.
//! The flag wins. An empty value is as unset, white space around a value is not part of it. What is
//! wrong ends the start with one line that names the setting; no secret is shown anywhere.

mod broker;
mod development;
mod files;
mod flags;
mod network;
mod retention;
mod setting;
mod tail;
mod values;

pub use broker::RedisUrl;
pub use network::Network;
pub use setting::ConfigError;
pub use tail::TailConfig;
pub use values::{ApiToken, DatabaseUrl, Engine, RateLimit, Scope, Secret};

use crate::{
    domain::{RetentionRules, Timestamp},
    telemetry::{LogFiles, LogFormat},
    tls::TlsFiles,
};
use flags::{Arguments, Flags, Subcommand};
use setting::{Environment, PGPASSWORD, Setting};
use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    thread::available_parallelism,
    time::Duration,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What the process is asked to do.
#[derive(Debug)]
pub enum Command {
    /// `oncelog serve`, or no subcommand.
    Serve(Box<Config>),
    /// `oncelog tail`.
    Tail(Box<TailConfig>),
    /// `oncelog healthcheck`.
    Healthcheck(HealthcheckConfig),
    /// `--help` or `--version`: print this text to stdout and exit with 0.
    Help(String),
}

/// What the service needs to know. Defaults stand with each field.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen. 127.0.0.1:8080.
    pub bind: SocketAddr,
    /// Threads that serve HTTP. Half of the cores, 1 to 8.
    pub http_workers: usize,
    /// The most HTTP connections at a time, over all workers. 10,000.
    pub connections_max: usize,
    /// What HTTPS is served with; `None` = HTTP.
    pub tls: Option<TlsFiles>,

    /// Where events are stored. `sqlite://data/oncelog.db`.
    pub database_url: DatabaseUrl,
    /// A replica that listings are read from; `None` = the primary.
    pub database_read_url: Option<DatabaseUrl>,
    /// Whether `PGPASSWORD`, which sqlx takes where a URL has no password, is the published secret.
    pub has_published_pgpassword: bool,
    /// Whether a pooler stands before Postgres that gives a connection to others after each
    /// transaction. No.
    pub database_is_pooled: bool,
    /// Whether Postgres is Citus, and is to spread the events over its workers. No.
    pub database_is_citus: bool,
    /// The longest that a database connection may take to be made. 3,000.
    pub database_connect_timeout_ms: u64,
    /// The longest that one statement may take. 4,000.
    pub database_statement_timeout_ms: u64,
    /// Connections for reading. 4.
    pub read_connections_max: u32,
    /// Keys remembered to know a repeat without asking the database. 400,000.
    pub recent_keys_max: usize,
    /// The broker; `None` = no broker.
    pub redis_url: Option<RedisUrl>,
    /// Shards, one database connection each. The cores, 2 to 8, on Postgres; 1 on SQLite.
    pub persist_actors: usize,
    /// Key of the broker's first stream. `oncelog:events`.
    pub broker_stream: String,
    /// How many streams the broker has. 1.
    pub broker_streams: usize,
    /// Replicas of the broker that must have what is answered as queued. 1 where it is a cluster, else 0.
    pub broker_replicas_ack: u32,
    /// Consumer group, shared by all replicas. `oncelog`.
    pub broker_group: String,
    /// Consumer name, the same after a restart and another one for each replica. The host's name
    /// and the port.
    pub broker_consumer: String,
    /// Entries that another consumer has held for that long are taken over. 30,000.
    pub broker_takeover_ms: u64,

    /// What is kept of old events, by topic; `None` = everything, for ever.
    pub retention: Option<RetentionRules>,
    /// Age at which dead letters are deleted; `None` = they are kept.
    pub dead_letter_retention: Option<Duration>,
    /// Time between two runs through what has expired. 60,000.
    pub retention_interval_ms: u64,
    /// The most rows that a run looks at, and changes in one transaction. 1,000.
    pub retention_batch: u32,

    /// What the admin calls ask for; `None` = open on a loopback bind, closed otherwise.
    pub admin_token: Option<Secret>,
    /// What publishing and reading ask for; empty = open to everybody.
    pub api_tokens: Vec<ApiToken>,

    /// The largest body, after decompression. 8 MiB.
    pub max_body_bytes: usize,
    /// Events that may wait for their commit, over all requests. 100,000.
    pub inflight_events_max: usize,
    /// Bytes of those events. 64 MiB, or `max_body_bytes` where that is more.
    pub inflight_bytes_max: usize,
    /// The most events in one transaction, where no single request has more. 2,000.
    pub group_events_max: usize,
    /// The most bytes in one transaction, where no single request has more. 8 MiB.
    pub group_bytes_max: usize,

    /// Names that the service answers to, in lower case; empty = every one.
    pub allowed_hosts: Vec<String>,
    /// Proxies that are believed when they say for whom they ask. None.
    pub trusted_proxies: Vec<Network>,
    /// How often each client may ask; `None` = as often as it likes.
    pub rate_limit: Option<RateLimit>,
    /// The most subscribers to the live feed at a time. 2,000.
    pub subscribers_max: usize,
    /// Time between two signs of life on a stream that has nothing else to say. 10,000.
    pub heartbeat_ms: u64,
    /// The longest that a new event waits for the feed's next look where no signal came. 500.
    pub feed_poll_ms: u64,

    /// The longest that a publish waits for its commit. 8,000.
    pub publish_timeout_ms: u64,
    /// The longest that a body may take to arrive. 5,000.
    pub body_timeout_ms: u64,
    /// The longest that a connection is kept on which nobody asks for anything: longer than common proxies keep
    /// theirs. 75,000.
    pub keep_alive_ms: u64,
    /// The longest that a client may take nothing of what it is sent. 30,000.
    pub send_timeout_ms: u64,
    /// The longest that a shutdown waits for what is in flight. 8,000.
    pub shutdown_timeout_ms: u64,
    /// Time between two looks at the counters. 100.
    pub stats_interval_ms: u64,

    /// The longest pause between two attempts to reach a lost database or broker. 1,000.
    pub reconnect_pause_ms_max: u64,
    /// The pause before the first restart of an actor. 10.
    pub restart_pause_ms_min: u64,
    /// The longest pause before a restart; each is twice the one before. 500.
    pub restart_pause_ms_max: u64,
    /// Health after which an actor's next pause is the shortest again. 100.
    pub restart_healthy_ms: u64,
    /// Restarts in a row, with no health between them, after which an actor counts as failed. 10.
    pub restarts_max: u32,

    /// How the log is written. Text.
    pub log_format: LogFormat,
    /// What is logged, in the syntax of `tracing_subscriber::EnvFilter`. `info`.
    pub log_filter: String,
    /// Where the log is kept besides; `None` = nowhere. 14 files are kept.
    pub log_files: Option<LogFiles>,
}

/// What the health check needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthcheckConfig {
    /// The address to ask: `BIND`, with loopback in the place of a wildcard.
    pub address: SocketAddr,
    /// Where the server's certificate stands; `None` = it speaks HTTP.
    pub certificate: Option<PathBuf>,
    /// The longest that the whole check may take. 8,000, so that it ends within 10 s.
    pub timeout_ms: u64,
}

/// The command line.
#[derive(Debug, Clone, Copy)]
pub struct Cli;

impl Cli {
    /// Reads the arguments (the first is the program's name) and, for what they leave open, the
    /// environment: `Cli::parse_from(std::env::args_os(), |name| std::env::var_os(name))`.
    ///
    /// # Errors
    /// [`ConfigError`], whose text is one line without `oncelog: ` in front. The exit code is 2.
    pub fn parse_from<A: Into<OsString> + Clone>(
        args: impl IntoIterator<Item = A>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Command, ConfigError> {
        let arguments = match Arguments::parse(args) {
            Ok(arguments) => arguments,
            Err(error) if flags::is_help(&error) => {
                return Ok(Command::Help(error.render().to_string()));
            }
            Err(error) => return Err(flags::one_line(&error)),
        };
        let env: Environment<'_> = &env;
        match arguments.subcommand {
            None | Some(Subcommand::Serve) => {
                Config::resolve(arguments.flags, env).map(|config| Command::Serve(Box::new(config)))
            }
            Some(Subcommand::Tail(flags)) => TailConfig::resolve(flags, env, Timestamp::now())
                .map(|config| Command::Tail(Box::new(config))),
            Some(Subcommand::Healthcheck) => {
                HealthcheckConfig::resolve(arguments.flags, env).map(Command::Healthcheck)
            }
        }
    }
}

impl Config {
    fn resolve(flags: Flags, env: Environment<'_>) -> Result<Self, ConfigError> {
        let setting = |variable, flag| Setting::find(variable, flag, env);

        let database_url = setting("DATABASE_URL", flags.database_url)?.database_url()?;
        let max_body_bytes = setting("MAX_BODY_BYTES", flags.max_body_bytes)?
            .bytes(KIB..=128 * MIB)?
            .unwrap_or(8 * MIB);
        // A body that is allowed must find room, or it could be sent for ever and never be taken.
        let inflight_bytes_max = setting("INFLIGHT_BYTES_MAX", flags.inflight_bytes_max)?
            .bytes(max_body_bytes..=4096 * MIB)?
            .unwrap_or_else(|| max_body_bytes.max(64 * MIB));
        let restart_pause_ms_min = setting("RESTART_PAUSE_MS_MIN", flags.restart_pause_ms_min)?
            .number(1..=500)?
            .unwrap_or(10);

        let log_files_max = setting("LOG_FILES_MAX", flags.log_files_max)?
            .number(1..=10_000)?
            .unwrap_or(14);

        let is_development = setting("DEVELOPMENT", flags.development)?
            .boolean()?
            .unwrap_or(false);
        let bind = bind(flags.bind, env)?;
        let redis_url = setting("REDIS_URL", flags.redis_url)?.redis_url()?;
        let broker_streams = setting("BROKER_STREAMS", flags.broker_streams)?
            .number(1..=64)?
            .unwrap_or(1);
        let config = Self {
            bind,
            http_workers: setting("HTTP_WORKERS", flags.http_workers)?
                .number(1..=64)?
                .unwrap_or_else(|| (cores() / 2).clamp(1, 8)),
            connections_max: setting("CONNECTIONS_MAX", flags.connections_max)?
                .number(1..=1_000_000)?
                .unwrap_or(10_000),
            tls: tls_files(
                setting("TLS_CERT", flags.tls_cert)?,
                setting("TLS_KEY", flags.tls_key)?,
            )?,
            database_read_url: setting("DATABASE_READ_URL", flags.database_read_url)?
                .replica_url(database_url.engine())?,
            has_published_pgpassword: env(PGPASSWORD).is_some_and(development::is_published),
            database_is_pooled: setting("DATABASE_POOLER", flags.database_pooler)?
                .pooler()?
                .unwrap_or(false),
            database_is_citus: setting("DATABASE_CITUS", flags.database_citus)?
                .boolean()?
                .unwrap_or(false),
            database_connect_timeout_ms: setting(
                "DATABASE_CONNECT_TIMEOUT_MS",
                flags.database_connect_timeout_ms,
            )?
            .number(100..=60_000)?
            .unwrap_or(3_000),
            database_statement_timeout_ms: setting(
                "DATABASE_STATEMENT_TIMEOUT_MS",
                flags.database_statement_timeout_ms,
            )?
            .number(100..=60_000)?
            .unwrap_or(4_000),
            read_connections_max: setting("READ_CONNECTIONS_MAX", flags.read_connections_max)?
                .number(1..=64)?
                .unwrap_or(4),
            recent_keys_max: setting("RECENT_KEYS_MAX", flags.recent_keys_max)?
                .number(0..=100_000_000)?
                .unwrap_or(400_000),
            persist_actors: setting("PERSIST_ACTORS", flags.persist_actors)?
                .number(1..=64)?
                .unwrap_or_else(|| match database_url.engine() {
                    Engine::Postgres => cores().clamp(2, 8),
                    Engine::Sqlite => 1,
                }),
            broker_stream: broker::stream(
                setting("BROKER_STREAM", flags.broker_stream)?,
                broker_streams,
            )?,
            broker_streams,
            broker_replicas_ack: setting("BROKER_REPLICAS_ACK", flags.broker_replicas_ack)?
                .number(0..=5)?
                .unwrap_or_else(|| u32::from(redis_url.as_ref().is_some_and(RedisUrl::is_cluster))),
            broker_group: setting("BROKER_GROUP", flags.broker_group)?
                .name()?
                .unwrap_or_else(|| "oncelog".to_owned()),
            broker_consumer: setting("BROKER_CONSUMER", flags.broker_consumer)?
                .name()?
                .unwrap_or_else(|| default_consumer(bind)),
            broker_takeover_ms: setting("BROKER_TAKEOVER_MS", flags.broker_takeover_ms)?
                .number(1_000..=40_000)?
                .unwrap_or(30_000),
            retention: setting("RETENTION", flags.retention)?.retention()?,
            dead_letter_retention: setting("DEAD_LETTER_RETENTION", flags.dead_letter_retention)?
                .dead_letter_age()?,
            retention_interval_ms: setting("RETENTION_INTERVAL_MS", flags.retention_interval_ms)?
                .number(100..=86_400_000)?
                .unwrap_or(60_000),
            retention_batch: setting("RETENTION_BATCH", flags.retention_batch)?
                .number(1..=10_000)?
                .unwrap_or(1_000),
            admin_token: admin_token(
                setting("ADMIN_TOKEN", flags.admin_token)?,
                setting("ADMIN_TOKEN_FILE", flags.admin_token_file)?,
            )?,
            api_tokens: api_tokens(
                setting("API_TOKENS", flags.api_tokens)?,
                setting("API_TOKENS_FILE", flags.api_tokens_file)?,
            )?,
            inflight_events_max: setting("INFLIGHT_EVENTS_MAX", flags.inflight_events_max)?
                .number(1_000..=10_000_000)?
                .unwrap_or(100_000),
            group_events_max: setting("GROUP_EVENTS_MAX", flags.group_events_max)?
                .number(1..=100_000)?
                .unwrap_or(2_000),
            group_bytes_max: setting("GROUP_BYTES_MAX", flags.group_bytes_max)?
                .bytes(KIB..=1024 * MIB)?
                .unwrap_or(8 * MIB),
            allowed_hosts: setting("ALLOWED_HOSTS", flags.allowed_hosts)?
                .host_names()?
                .unwrap_or_default(),
            trusted_proxies: setting("TRUSTED_PROXIES", flags.trusted_proxies)?
                .networks()?
                .unwrap_or_default(),
            rate_limit: rate_limit(
                setting("RATE_LIMIT", flags.rate_limit)?,
                setting("RATE_LIMIT_BURST", flags.rate_limit_burst)?,
            )?,
            subscribers_max: setting("SUBSCRIBERS_MAX", flags.subscribers_max)?
                .number(1..=100_000)?
                .unwrap_or(2_000),
            heartbeat_ms: setting("HEARTBEAT_MS", flags.heartbeat_ms)?
                .number(100..=60_000)?
                .unwrap_or(10_000),
            feed_poll_ms: setting("FEED_POLL_MS", flags.feed_poll_ms)?
                .number(10..=10_000)?
                .unwrap_or(500),
            publish_timeout_ms: setting("PUBLISH_TIMEOUT_MS", flags.publish_timeout_ms)?
                .number(100..=10_000)?
                .unwrap_or(8_000),
            body_timeout_ms: setting("BODY_TIMEOUT_MS", flags.body_timeout_ms)?
                .number(100..=10_000)?
                .unwrap_or(5_000),
            keep_alive_ms: setting("KEEP_ALIVE_MS", flags.keep_alive_ms)?
                .number(1_000..=600_000)?
                .unwrap_or(75_000),
            send_timeout_ms: setting("SEND_TIMEOUT_MS", flags.send_timeout_ms)?
                .number(1_000..=600_000)?
                .unwrap_or(30_000),
            shutdown_timeout_ms: setting("SHUTDOWN_TIMEOUT_MS", flags.shutdown_timeout_ms)?
                .number(100..=9_500)?
                .unwrap_or(8_000),
            stats_interval_ms: setting("STATS_INTERVAL_MS", flags.stats_interval_ms)?
                .number(10..=3_000)?
                .unwrap_or(100),
            reconnect_pause_ms_max: setting(
                "RECONNECT_PAUSE_MS_MAX",
                flags.reconnect_pause_ms_max,
            )?
            .number(10..=4_000)?
            .unwrap_or(1_000),
            restart_pause_ms_min,
            restart_pause_ms_max: setting("RESTART_PAUSE_MS_MAX", flags.restart_pause_ms_max)?
                .number(restart_pause_ms_min..=10_000)?
                .unwrap_or(500),
            restart_healthy_ms: setting("RESTART_HEALTHY_MS", flags.restart_healthy_ms)?
                .number(1..=600_000)?
                .unwrap_or(100),
            restarts_max: setting("RESTARTS_MAX", flags.restarts_max)?
                .number(1..=1_000)?
                .unwrap_or(10),
            log_format: setting("LOG_FORMAT", flags.log_format)?
                .log_format()?
                .unwrap_or_default(),
            log_filter: setting("RUST_LOG", flags.rust_log)?
                .log_filter()?
                .unwrap_or_else(|| "info".to_owned()),
            log_files: setting("LOG_DIR", flags.log_dir)?
                .directory()?
                .map(|directory| LogFiles {
                    directory,
                    files_max: log_files_max,
                }),
            database_url,
            redis_url,
            max_body_bytes,
            inflight_bytes_max,
        };
        match config.development_secrets().first() {
            Some(&variable) if !is_development => Err(ConfigError::PublishedSecret { variable }),
            _ => Ok(config),
        }
    }
}

impl HealthcheckConfig {
    /// Reads `BIND` and `TLS_CERT` only: the check runs beside a service that has found the rest to be right.
    fn resolve(flags: Flags, env: Environment<'_>) -> Result<Self, ConfigError> {
        let mut address = bind(flags.bind, env)?;
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        Ok(Self {
            address,
            certificate: Setting::find("TLS_CERT", flags.tls_cert, env)?.path()?,
            timeout_ms: 8_000,
        })
    }
}

fn bind(flag: Option<String>, env: Environment<'_>) -> Result<SocketAddr, ConfigError> {
    let address = Setting::find("BIND", flag, env)?.address()?;
    Ok(address.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))))
}

fn tls_files(certificate: Setting, key: Setting) -> Result<Option<TlsFiles>, ConfigError> {
    let missing = |variable, beside| Err(ConfigError::Missing { variable, beside });
    match (certificate.path()?, key.path()?) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key })),
        (Some(_), None) => missing("TLS_KEY", "TLS_CERT"),
        (None, Some(_)) => missing("TLS_CERT", "TLS_KEY"),
        (None, None) => Ok(None),
    }
}

fn admin_token(value: Setting, file: Setting) -> Result<Option<Secret>, ConfigError> {
    file.excludes(&value)?;
    Ok(value.secret()?.or(file.secret_file()?))
}

fn api_tokens(value: Setting, file: Setting) -> Result<Vec<ApiToken>, ConfigError> {
    file.excludes(&value)?;
    let tokens = value.api_tokens()?.or(file.api_tokens_file()?);
    Ok(tokens.unwrap_or_default())
}

fn rate_limit(per_s: Setting, burst: Setting) -> Result<Option<RateLimit>, ConfigError> {
    match (per_s.number(1..=1_000_000)?, burst.number(1..=1_000_000)?) {
        (Some(per_s), burst) => Ok(Some(RateLimit {
            per_s,
            burst: burst.unwrap_or(per_s),
        })),
        (None, Some(_)) => Err(ConfigError::Missing {
            variable: "RATE_LIMIT",
            beside: "RATE_LIMIT_BURST",
        }),
        (None, None) => Ok(None),
    }
}

/// The same after a restart of the process, so that it finds what it left pending.
fn default_consumer(bind: SocketAddr) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => format!("oncelog-{}", bind.port()),
        host => format!("{host}-{}", bind.port()),
    }
}

fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests;
