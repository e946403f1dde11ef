//! The command line: texts to typed, bounded options.

use crate::workload::Shape;
use clap::{Parser, ValueEnum};
use std::{env, time::Duration};

/// A batch may have that many events; the server takes no more.
const BATCH_EVENTS_MAX: u64 = 1000;
/// What goes through Redis at a time where no batch size is given.
const PIPELINE_ENTRIES: usize = 100;

/// Sends a seeded workload with repeats to an oncelog server, and checks the server's account.
#[derive(Debug, Parser)]
#[command(name = "oncelog-publisher", version)]
pub(crate) struct Arguments {
    /// The server [env: ONCELOG_URL] [default: http://localhost:8080]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Certificates to trust for https, a PEM file [default: the system's] [env: ONCELOG_CA_FILE]
    #[arg(long, value_name = "PATH")]
    ca_file: Option<String>,
    /// Events to send, repeats among them
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    events: u32,
    /// Share of the events that are repeats of earlier ones: 0.35 or 35%
    #[arg(long, value_name = "SHARE", default_value = "0.35", value_parser = share)]
    duplicates: f64,
    /// Topics that the events are spread over
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    topics: u32,
    /// Events in a request; 1 uses POST /publish. Through Redis: entries in a pipeline
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=BATCH_EVENTS_MAX))]
    batch_size: u64,
    /// Requests at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=4096))]
    concurrency: u64,
    /// Events a second; as fast as possible where it is not given
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// The same seed sends the same events [default: a random one, which is printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Goes into every event id; two runs with the same one send the same events twice
    /// [default: from the seed]
    #[arg(long, value_name = "NAME")]
    run_id: Option<String>,
    /// About how many bytes a payload has
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    payload_bytes: u32,
    /// Compare the server's counters with the own account, and read every event back
    #[arg(long)]
    verify: bool,
    /// http, or redis: append to the broker's stream directly
    #[arg(long, value_name = "HOW", default_value = "http")]
    transport: Way,
    /// The broker, for --transport redis; several URLs, with commas between them, are nodes of a
    /// Redis Cluster [env: REDIS_URL]
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// Key of the broker's stream, the first where there are several
    #[arg(long, value_name = "KEY", default_value = "oncelog:events")]
    stream: String,
    /// How many streams the broker has, as its BROKER_STREAMS says; they are used in turn
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    streams: u8,
    /// Replicas of Redis that must have an event before it counts as queued
    /// [default: 1 in a cluster, else 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=5))]
    replicas_ack: Option<u32>,
    /// Token for publishing and reading [env: API_TOKEN]
    #[arg(long, value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Crash random actors through the admin API while publishing
    #[arg(long)]
    chaos: bool,
    /// Crashes a second
    #[arg(long, value_name = "N", default_value = "2", value_parser = rate)]
    chaos_rate: f64,
    /// Token for --chaos [env: ADMIN_TOKEN]
    #[arg(long, value_name = "TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// How long to wait for the server to be healthy at the start, in seconds
    #[arg(long, value_name = "S", default_value_t = 60)]
    wait_s: u64,
    /// How long an event that gets no good answer is sent again and again, in seconds
    #[arg(long, value_name = "S", default_value_t = 120)]
    give_up_after_s: u64,
}

/// How events travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    Http,
    Redis,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) url: String,
    pub(crate) ca_file: Option<String>,
    pub(crate) events: u32,
    pub(crate) duplicates: f64,
    pub(crate) topics: u32,
    pub(crate) batch_size: usize,
    pub(crate) concurrency: usize,
    pub(crate) rate: Option<f64>,
    pub(crate) seed: u64,
    pub(crate) run_id: String,
    pub(crate) payload_bytes: usize,
    pub(crate) verify: bool,
    pub(crate) redis: Option<RedisTarget>,
    pub(crate) token: Option<String>,
    pub(crate) chaos: bool,
    pub(crate) chaos_rate: f64,
    pub(crate) admin_token: Option<String>,
    pub(crate) wait: Duration,
    pub(crate) give_up_after: Duration,
}

/// Where entries are appended.
#[derive(Debug, Clone)]
pub(crate) struct RedisTarget {
    /// One Redis, or nodes of a cluster.
    pub(crate) urls: Vec<String>,
    pub(crate) streams: Vec<String>,
    pub(crate) replicas_ack: u32,
}

impl RedisTarget {
    fn new(urls: &str, first: &str, streams: u8, replicas_ack: Option<u32>) -> Self {
        // A comma ends a URL only where another one follows: a password may have one.
        let urls = urls
            .trim()
            .replace(", redis://", ",redis://")
            .replace(",redis://", "\nredis://");
        let urls: Vec<String> = urls.lines().map(str::to_owned).collect();
        // The names that the service gives them, as docs/integrations/redis.md has them.
        let further = (1..streams).map(|number| format!("{first}:{{{number}seg}}"));
        Self {
            replicas_ack: replicas_ack.unwrap_or_else(|| u32::from(urls.len() > 1)),
            urls,
            streams: std::iter::once(first.to_owned()).chain(further).collect(),
        }
    }
}

impl Arguments {
    /// Types what is left to type.
    pub(crate) fn resolve(self) -> Result<Options, String> {
        let url = text(self.url, "ONCELOG_URL");
        let url = url.unwrap_or_else(|| "http://localhost:8080".to_owned());
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(format!(
                "--url: {url:?} must start with http:// or https://"
            ));
        }
        let redis_url = text(self.redis_url, "REDIS_URL");
        let redis = match (self.transport, redis_url) {
            (Way::Http, _) => None,
            (Way::Redis, Some(urls)) => Some(RedisTarget::new(
                &urls,
                &self.stream,
                self.streams,
                self.replicas_ack,
            )),
            (Way::Redis, None) => {
                return Err("--transport redis needs --redis-url or REDIS_URL".to_owned());
            }
        };
        let seed = self.seed.unwrap_or_else(|| rand::random_range(1..=999_999));
        let batch_size = match (&redis, self.batch_size) {
            (Some(_), 1) => PIPELINE_ENTRIES,
            (_, size) => usize::try_from(size).unwrap_or(1),
        };
        Ok(Options {
            url: url.trim_end_matches('/').to_owned(),
            ca_file: text(self.ca_file, "ONCELOG_CA_FILE"),
            events: self.events,
            duplicates: self.duplicates,
            topics: self.topics,
            batch_size,
            concurrency: usize::try_from(self.concurrency).unwrap_or(1),
            rate: self.rate,
            seed,
            run_id: self.run_id.unwrap_or_else(|| format!("run{seed}")),
            payload_bytes: usize::try_from(self.payload_bytes).unwrap_or(0),
            verify: self.verify,
            redis,
            token: text(self.token, "API_TOKEN"),
            chaos: self.chaos,
            chaos_rate: self.chaos_rate,
            admin_token: text(self.admin_token, "ADMIN_TOKEN"),
            wait: Duration::from_secs(self.wait_s),
            give_up_after: Duration::from_secs(self.give_up_after_s),
        })
    }
}

impl Options {
    /// What the workload is made from.
    pub(crate) fn workload(&self) -> Shape {
        Shape {
            seed: self.seed,
            run_id: self.run_id.clone(),
            sends: self.events,
            duplicates: self.duplicates,
            topics: self.topics,
            payload_bytes: self.payload_bytes,
        }
    }
}

/// The flag, or the variable; an empty one is as unset.
fn text(flag: Option<String>, variable: &str) -> Option<String> {
    flag.or_else(|| env::var(variable).ok())
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}

fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.trim().strip_suffix('%') {
        Some(percent) => (percent.trim(), 100.0),
        None => (text.trim(), 1.0),
    };
    let share = number.parse::<f64>().map(|number| number / scale);
    share
        .ok()
        .filter(|share| (0.0..1.0).contains(share))
        .ok_or_else(|| "must be at least 0 and below 1, or a percentage".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok();
    rate.filter(|rate| *rate > 0.0 && rate.is_finite())
        .ok_or_else(|| "must be a number above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, String> {
        let arguments = [&["oncelog-publisher"], arguments].concat();
        Arguments::try_parse_from(arguments)
            .map_err(|error| error.to_string())?
            .resolve()
    }

    #[test]
    fn a_share_is_a_fraction_or_a_percentage() {
        for text in ["0.35", "35%", " 35 % "] {
            assert_eq!(share(text), Ok(0.35), "{text}");
        }
        for text in ["1", "100%", "-0.1", "x", "NaN", ""] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn wrong_flags_are_refused() {
        for wrong in [
            &["--events", "0"][..],
            &["--batch-size", "1001"],
            &["--url", "localhost"],
            &["--transport", "pigeon"],
            &["--rate", "0"],
            &["--nonsense"],
        ] {
            assert!(options(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn several_urls_are_a_cluster_whose_streams_have_the_names_that_the_service_gives_them() {
        let target = |urls: &str, more: &[&str]| {
            let flags = [&["--transport", "redis", "--redis-url", urls], more].concat();
            options(&flags).unwrap().redis.unwrap()
        };
        let one = target("redis://:a,b@h:1", &[]);
        assert_eq!(one.urls, ["redis://:a,b@h:1"]);
        assert_eq!(one.streams, ["oncelog:events"]);
        assert_eq!(one.replicas_ack, 0);
        let cluster = target(
            "redis://a:1, redis://b:2",
            &["--stream", "s", "--streams", "3"],
        );
        assert_eq!(cluster.urls, ["redis://a:1", "redis://b:2"]);
        assert_eq!(cluster.streams, ["s", "s:{1seg}", "s:{2seg}"]);
        assert_eq!(cluster.replicas_ack, 1);
    }

    #[test]
    fn a_run_is_named_after_its_seed() {
        let options = options(&["--seed", "7", "--url", "http://a:1/"]).unwrap();
        assert_eq!(
            (options.run_id.as_str(), options.url.as_str()),
            ("run7", "http://a:1")
        );
    }
}
