//! The command line as clap reads it: texts only. Used by `config`, which gives them types; knows
//! what each setting is for and nothing of its values.

use super::{ConfigError, setting};
use clap::{
    Args, CommandFactory, FromArgMatches, Parser,
    error::{ContextKind, ErrorKind},
};
use std::ffi::OsString;

/// Stores every event exactly once, and says so.
#[derive(Debug, Parser)]
#[command(
    name = "oncelog",
    version,
    args_override_self = true,
    flatten_help = false
)]
#[command(
    after_help = "Every flag can be given as the environment variable beside it; the flag \
    wins, and an empty value is as unset. Sizes are bytes, or carry KiB or MiB: 8MiB."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) subcommand: Option<Subcommand>,
    #[command(flatten)]
    pub(super) flags: Flags,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Take, store and show events [the default]
    Serve,
    /// Print what a server has stored, and with --follow what it stores
    #[command(args_override_self = true)]
    Tail(TailFlags),
    /// Ask /health of the service on BIND; exit 0 where it is healthy, else 1
    Healthcheck,
}

/// The flags that only `tail` has.
#[derive(Debug, Args)]
pub(super) struct TailFlags {
    /// Where the server is [default: http://127.0.0.1:8080] [env: ONCELOG_URL]
    #[arg(long, value_name = "URL", help_heading = "Following")]
    pub(super) url: Option<String>,
    /// Only this topic
    #[arg(long, value_name = "NAME", help_heading = "Following")]
    pub(super) topic: Option<String>,
    /// Only this source
    #[arg(long, value_name = "NAME", help_heading = "Following")]
    pub(super) source: Option<String>,
    /// Only what happened then or later: an RFC 3339 timestamp, or a duration such as 10m, 2h or 1d
    /// [default: everything; with --follow, what is stored from now on]
    #[arg(long, value_name = "TIME", help_heading = "Following")]
    pub(super) since: Option<String>,
    /// Go on with what is stored later
    #[arg(long, short, help_heading = "Following")]
    pub(super) follow: bool,
    /// An event a line, as JSON; otherwise time, topic, id, source and payload with tabs between
    #[arg(long, help_heading = "Following")]
    pub(super) json: bool,
    /// Certificates to trust for https, a PEM file [default: the system's] [env: ONCELOG_CA_FILE]
    #[arg(long, value_name = "PATH", help_heading = "Following")]
    pub(super) ca_file: Option<String>,
    /// Token, where the server asks for one [env: ONCELOG_TOKEN]
    #[arg(long, value_name = "TOKEN", help_heading = "Following")]
    pub(super) token: Option<String>,
}

/// Each field is the flag of its name, and [`Arguments::command`] shows the variable beside it.
#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Listen address, such as 0.0.0.0:8080 or localhost:8080 [default: 127.0.0.1:8080]
    #[arg(long, value_name = "IP:PORT", help_heading = "Serving")]
    pub(super) bind: Option<String>,
    /// Threads that serve HTTP, 1 to 64 [default: half of the cores, 1 to 8]
    #[arg(long, value_name = "N", help_heading = "Serving")]
    pub(super) http_workers: Option<String>,
    /// HTTP connections at a time [default: 10000]
    #[arg(long, value_name = "N", help_heading = "Serving")]
    pub(super) connections_max: Option<String>,

    /// Certificate for HTTPS, a PEM file; without it HTTP is served
    #[arg(long, value_name = "PATH", help_heading = "Serving")]
    pub(super) tls_cert: Option<String>,
    /// Its private key, a PEM file
    #[arg(long, value_name = "PATH", help_heading = "Serving")]
    pub(super) tls_key: Option<String>,

    /// postgres://… or sqlite://… [default: sqlite://data/oncelog.db]
    #[arg(long, value_name = "URL", help_heading = "Storing")]
    pub(super) database_url: Option<String>,
    /// Postgres replica that listings are read from; unset, the primary
    #[arg(long, value_name = "URL", help_heading = "Storing")]
    pub(super) database_read_url: Option<String>,
    /// true where Postgres is Citus and is to spread the events over its workers [default: false]
    #[arg(long, value_name = "BOOL", help_heading = "Storing")]
    pub(super) database_citus: Option<String>,
    /// transaction where a pooler like pgbouncer in that mode stands before Postgres [default: none]
    #[arg(long, value_name = "MODE", help_heading = "Storing")]
    pub(super) database_pooler: Option<String>,
    /// Redis whose stream brings events, redis://…, or nodes of a Redis Cluster with commas between
    /// them; without it there is no broker
    #[arg(long, value_name = "URL", help_heading = "Storing")]
    pub(super) redis_url: Option<String>,
    /// Key of the broker's stream, the first where there are several [default: oncelog:events]
    #[arg(long, value_name = "KEY", help_heading = "Storing")]
    pub(super) broker_stream: Option<String>,
    /// Streams, 1 to 64, which a cluster spreads over its nodes [default: 1]
    #[arg(long, value_name = "N", help_heading = "Storing")]
    pub(super) broker_streams: Option<String>,
    /// Replicas of Redis that must have what is answered 202, 0 to 5 [default: 1 in a cluster, else 0]
    #[arg(long, value_name = "N", help_heading = "Storing")]
    pub(super) broker_replicas_ack: Option<String>,
    /// Consumer group, the same for all replicas [default: oncelog]
    #[arg(long, value_name = "NAME", help_heading = "Storing")]
    pub(super) broker_group: Option<String>,
    /// Consumer name, another one for each replica [default: the host's name and the port]
    #[arg(long, value_name = "NAME", help_heading = "Storing")]
    pub(super) broker_consumer: Option<String>,
    /// Time after which entries that a dead consumer holds are taken over [default: 30000]
    #[arg(long, value_name = "MS", help_heading = "Storing")]
    pub(super) broker_takeover_ms: Option<String>,
    /// Shards, one connection each, 1 to 64 [default: the cores, 2 to 8; 1 on SQLite]
    #[arg(long, value_name = "N", help_heading = "Storing")]
    pub(super) persist_actors: Option<String>,
    /// Database connections for reading, 1 to 64 [default: 4]
    #[arg(long, value_name = "N", help_heading = "Storing")]
    pub(super) read_connections_max: Option<String>,
    /// Keys remembered to know a repeat without asking the database, 0 to 100000000
    /// [default: 400000]
    #[arg(long, value_name = "N", help_heading = "Storing")]
    pub(super) recent_keys_max: Option<String>,
    /// Longest time to connect to the database [default: 3000]
    #[arg(long, value_name = "MS", help_heading = "Storing")]
    pub(super) database_connect_timeout_ms: Option<String>,
    /// Longest time of one statement [default: 4000]
    #[arg(long, value_name = "MS", help_heading = "Storing")]
    pub(super) database_statement_timeout_ms: Option<String>,
    /// Longest pause before the database or the broker is tried again [default: 1000]
    #[arg(long, value_name = "MS", help_heading = "Storing")]
    pub(super) reconnect_pause_ms_max: Option<String>,

    /// Age at which payloads are dropped, such as 90d, or rules by topic: *=90d,audit.*=keep,debug=7d:delete;
    /// delete takes the key, too, so that a repeat is stored anew; without it everything is kept
    #[arg(long, value_name = "RULES", help_heading = "Retention")]
    pub(super) retention: Option<String>,
    /// Age at which dead letters are deleted, such as 30d; without it they are kept
    #[arg(long, value_name = "AGE", help_heading = "Retention")]
    pub(super) dead_letter_retention: Option<String>,
    /// Time between two runs [default: 60000]
    #[arg(long, value_name = "MS", help_heading = "Retention")]
    pub(super) retention_interval_ms: Option<String>,
    /// Rows of a transaction, 1 to 10000 [default: 1000]
    #[arg(long, value_name = "N", help_heading = "Retention")]
    pub(super) retention_batch: Option<String>,

    /// Names in Host that are answered to beside addresses and localhost, comma separated, without a
    /// port [default: every name]
    #[arg(long, value_name = "NAMES", help_heading = "Access")]
    pub(super) allowed_hosts: Option<String>,
    /// Token of the admin calls; without it they are open on loopback, closed elsewhere
    #[arg(long, value_name = "TOKEN", help_heading = "Access")]
    pub(super) admin_token: Option<String>,
    /// File that holds it instead
    #[arg(long, value_name = "PATH", help_heading = "Access")]
    pub(super) admin_token_file: Option<String>,
    /// Tokens of publishers and readers, comma separated: TOKEN, or NAME:SCOPE+SCOPE:TOKEN with
    /// the scopes publish, read and admin; without them everybody may publish and read
    #[arg(long, value_name = "TOKENS", help_heading = "Access")]
    pub(super) api_tokens: Option<String>,
    /// File that holds them instead, one a line; lines that begin with # are comments
    #[arg(long, value_name = "PATH", help_heading = "Access")]
    pub(super) api_tokens_file: Option<String>,
    /// true: the secret that the repository publishes is allowed, and warned of [default: false]
    #[arg(long, value_name = "TRUE|FALSE", help_heading = "Access")]
    pub(super) development: Option<String>,

    /// Largest body after decompression, 1KiB to 128MiB [default: 8MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub(super) max_body_bytes: Option<String>,
    /// Events that may wait for their commit; above it publishers are told to wait [default: 100000]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(super) inflight_events_max: Option<String>,
    /// Bytes of those events, not below the largest body [default: 64MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub(super) inflight_bytes_max: Option<String>,
    /// Events in one transaction [default: 2000]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(super) group_events_max: Option<String>,
    /// Bytes in one transaction [default: 8MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub(super) group_bytes_max: Option<String>,
    /// Events and other calls a second that each token or address may send [default: no limit]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(super) rate_limit: Option<String>,
    /// As many of them may come at once after a pause [default: RATE_LIMIT]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(super) rate_limit_burst: Option<String>,
    /// Proxies whose X-Forwarded-For says which address a request comes from: addresses or networks,
    /// comma separated [default: none]
    #[arg(long, value_name = "NETWORKS", help_heading = "Limits")]
    pub(super) trusted_proxies: Option<String>,
    /// Streams of /events/stream that may be open [default: 2000]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(super) subscribers_max: Option<String>,
    /// Time between two signs of life on an idle stream [default: 10000]
    #[arg(long, value_name = "MS", help_heading = "Limits")]
    pub(super) heartbeat_ms: Option<String>,
    /// Longest time a stream waits for an event that no signal announced [default: 500]
    #[arg(long, value_name = "MS", help_heading = "Limits")]
    pub(super) feed_poll_ms: Option<String>,
    /// Longest time a publish waits for its commit, up to 10000 [default: 8000]
    #[arg(long, value_name = "MS", help_heading = "Limits")]
    pub(super) publish_timeout_ms: Option<String>,
    /// Longest time a body takes to arrive [default: 5000]
    #[arg(long, value_name = "MS", help_heading = "Limits")]
    pub(super) body_timeout_ms: Option<String>,
    /// Longest time a connection is kept on which nobody asks for anything [default: 75000]
    #[arg(long, value_name = "MS", help_heading = "Limits")]
    pub(super) keep_alive_ms: Option<String>,
    /// Longest time a client may take nothing of what it is sent [default: 30000]
    #[arg(long, value_name = "MS", help_heading = "Limits")]
    pub(super) send_timeout_ms: Option<String>,
    /// Longest time a shutdown takes, up to 9500 [default: 8000]
    #[arg(long, value_name = "MS", help_heading = "Limits")]
    pub(super) shutdown_timeout_ms: Option<String>,

    /// Time between two looks at the counters [default: 100]
    #[arg(long, value_name = "MS", help_heading = "Actors")]
    pub(super) stats_interval_ms: Option<String>,
    /// Pause before the first restart of an actor [default: 10]
    #[arg(long, value_name = "MS", help_heading = "Actors")]
    pub(super) restart_pause_ms_min: Option<String>,
    /// Longest pause before a restart; each is twice the one before [default: 500]
    #[arg(long, value_name = "MS", help_heading = "Actors")]
    pub(super) restart_pause_ms_max: Option<String>,
    /// Health after which the pauses start again with the shortest [default: 100]
    #[arg(long, value_name = "MS", help_heading = "Actors")]
    pub(super) restart_healthy_ms: Option<String>,
    /// Restarts in a row after which an actor counts as failed [default: 10]
    #[arg(long, value_name = "N", help_heading = "Actors")]
    pub(super) restarts_max: Option<String>,

    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Logging")]
    pub(super) log_format: Option<String>,
    /// What to log, such as info or oncelog=debug,sqlx=warn [default: info]
    #[arg(long, value_name = "FILTER", help_heading = "Logging")]
    pub(super) rust_log: Option<String>,
    /// Directory in which the log is kept besides, as JSON, a file a day; without it, nowhere
    #[arg(long, value_name = "PATH", help_heading = "Logging")]
    pub(super) log_dir: Option<String>,
    /// Files that are kept there [default: 14]
    #[arg(long, value_name = "N", help_heading = "Logging")]
    pub(super) log_files_max: Option<String>,
}

impl Arguments {
    pub(super) fn parse<A: Into<OsString> + Clone>(
        args: impl IntoIterator<Item = A>,
    ) -> Result<Self, clap::Error> {
        Self::from_arg_matches(&described().try_get_matches_from(args)?)
    }
}

/// The derived command, with what is true of every flag: it may stand after the subcommand, its
/// variable is shown, and `-1` is its wrong value, not another flag.
pub(super) fn described() -> clap::Command {
    Arguments::command().mut_args(|arg| {
        let Some(variable) = arg.get_long().map(setting::variable_of) else {
            return arg;
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        arg.help(format!("{help} [env: {variable}]"))
            .global(true)
            .allow_negative_numbers(true)
    })
}

pub(super) fn is_help(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    )
}

/// What clap says in several lines, in one.
pub(super) fn one_line(error: &clap::Error) -> ConfigError {
    let context = |kind| error.get(kind).map(ToString::to_string);
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => ConfigError::UnknownArgument {
            // The part after `=` may be a secret behind a flag with a typing error.
            argument: argument
                .split_once('=')
                .map_or(argument.as_str(), |(flag, _)| flag)
                .to_owned(),
        },
        ErrorKind::InvalidSubcommand => ConfigError::UnknownSubcommand {
            argument: context(ContextKind::InvalidSubcommand).unwrap_or_default(),
        },
        // `--bind <IP:PORT>` is how clap names a flag.
        kind => match argument.split_whitespace().next() {
            Some(flag) if flag.starts_with("--") => ConfigError::NoValue {
                variable: setting::variable_of(flag.trim_start_matches('-')),
            },
            _ => ConfigError::CommandLine {
                reason: kind.as_str().unwrap_or("cannot be read"),
            },
        },
    }
}
