//! `--peers`: singles to oncelog and, in turns with it, to what stores events without repeats elsewhere:
//! Redis with a script, and NATS JetStream, both told to sync before they answer. Used by `main`.
#![expect(clippy::print_stderr, reason = "progress goes there")]

use crate::{
    load::{self, Account, Measured, Shape},
    meters::{self, Meters},
    report::{median, milliseconds, percentile_us, spread, thousands, us_per_event},
    rounds::{Backend, Faults, Lab, ServiceRound},
    servers::{NatsServer, Redis, run},
    wire::{NATS_SUBJECTS, Nats, Protocol, REDIS_KEYS, REDIS_STREAM},
};
use anyhow::{Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const CONNECTIONS: [u32; 2] = [64, 256];

/// What one side promises, as far as the table can say it.
struct Side {
    protocol: Protocol,
    title: String,
    promises: &'static str,
    rounds: Vec<ServiceRound>,
}

/// Measures them, and says at the end what could not be started here and why.
pub(crate) async fn measure(lab: &mut Lab, cores: usize) -> Result<Vec<String>> {
    let (peers, absent) = find_peers();
    let mut lines = vec![
        "\n| singles | connections | ev/s | of oncelog's (min–max) | p50 / p99 ms | server us/event \
         | Postgres us/event | generator's share of the CPU | RSS MB, highest | knows a repeat | answers after | says of each event |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    for connections in CONNECTIONS {
        let mut sides = vec![Side {
            protocol: Protocol::Http,
            title: format!("oncelog on Postgres {}", lab.postgres.version),
            promises: "as long as the row is there | the commit, fsynced | stored, duplicate, or conflict where its content differs",
            rounds: Vec::new(),
        }];
        for (protocol, version) in &peers {
            let promises = match protocol {
                Protocol::Redis => {
                    "for ever, in memory | the fsync of its log | stored or duplicate"
                }
                _ => "for 2 minutes, its default | the fsync of its log | stored or duplicate",
            };
            sides.push(Side {
                protocol: *protocol,
                title: version.clone(),
                promises,
                rounds: Vec::new(),
            });
        }
        for round in 1..=lab.args.rounds() {
            for side in &mut sides {
                let shape = Shape {
                    protocol: side.protocol,
                    connections,
                    batch: 1,
                    pace: None,
                };
                let measured = publish_round(lab, shape).await?;
                eprintln!(
                    "peers {connections}, {round}: {} {}",
                    thousands(measured.measured.rate()),
                    side.title
                );
                side.rounds.push(measured);
            }
        }
        let own: Vec<f64> = sides[0].rates().collect();
        lines.extend(sides.iter().map(|side| side.show(connections, &own, cores)));
    }
    lines.extend(absent.iter().map(|why| format!("\nNot measured: {why}.")));
    Ok(lines)
}

impl Side {
    fn rates(&self) -> impl Iterator<Item = f64> {
        self.rounds.iter().map(|round| round.measured.rate())
    }

    fn show(&self, connections: u32, own: &[f64], cores: usize) -> String {
        let of = |value: fn(&Measured) -> f64| {
            median(
                self.rounds
                    .iter()
                    .map(|round| value(&round.measured))
                    .collect(),
            )
        };
        let ratios: Vec<f64> = self
            .rates()
            .zip(own)
            .map(|(rate, own)| rate / own)
            .collect();
        let generator = of(|round| round.cpu.generator.as_secs_f64() / round.elapsed.as_secs_f64());
        let postgres = match self.protocol {
            Protocol::Http => format!("{:.1}", of(|round| us_per_event(round.cpu.postgres, round))),
            _ => "–".to_owned(),
        };
        format!(
            "| {} | {connections} | {} | {} | {} / {} | {:.1} | {postgres} | {:.0} % | {:.0} | {} |",
            self.title,
            thousands(of(Measured::rate)),
            spread(&ratios),
            milliseconds(of(|round| percentile_us(round, 0.5))),
            milliseconds(of(|round| percentile_us(round, 0.99))),
            of(|round| us_per_event(round.cpu.server, round)),
            generator * 100.0 / cores as f64,
            self.rounds
                .iter()
                .map(|round| round.peak_mb)
                .fold(0.0, f64::max),
            self.promises,
        )
    }
}

async fn publish_round(lab: &mut Lab, shape: Shape) -> Result<ServiceRound> {
    let repeats = lab.args.repeats;
    // One directory for both, a new one for each round: each begins with nothing.
    let store = lab.dir.path().join("peer");
    match shape.protocol {
        Protocol::Http => {
            let backend = Backend::Postgres("service");
            lab.make_blank(&backend).await?;
            let server = lab.args.server();
            lab.publish_round(&server, &backend, shape, repeats, Faults::None)
                .await
        }
        Protocol::Redis => {
            let redis = Redis::start(lab.dir.path(), "peer", "always").await?;
            let (account, round) =
                load_round(lab, shape, redis.address, redis.pid(), repeats).await?;
            let client = redis::Client::open(redis.url.as_str())?;
            let mut connection = client.get_multiplexed_async_connection().await?;
            let counts: (u64, u64) = redis::pipe()
                .cmd("HLEN")
                .arg(REDIS_KEYS)
                .cmd("XLEN")
                .arg(REDIS_STREAM)
                .query_async(&mut connection)
                .await?;
            drop(redis);
            fs::remove_dir_all(store)?;
            check(&account, counts.0)?;
            check(&account, counts.1)?;
            Ok(round)
        }
        Protocol::Nats => {
            let binary = nats_binary();
            let server = NatsServer::start(&binary, lab.dir.path(), "peer").await?;
            let mut admin = Nats::open(server.address).await?;
            // Its own defaults but for the storage, two minutes of `duplicate_window` among them.
            let stream = format!(
                "{{\"name\":\"EVENTS\",\"subjects\":[\"{NATS_SUBJECTS}>\"],\"storage\":\"file\",\
                  \"retention\":\"limits\",\"max_consumers\":-1,\"max_msgs\":-1,\"max_bytes\":-1,\
                  \"num_replicas\":1}}"
            );
            admin.ask("$JS.API.STREAM.CREATE.EVENTS", &stream).await?;
            let (account, round) =
                load_round(lab, shape, server.address, server.pid(), repeats).await?;
            let info = admin.ask("$JS.API.STREAM.INFO.EVENTS", "").await?;
            let messages = crate::http::number_of(info.as_bytes(), "\"messages\"")?;
            drop(server);
            fs::remove_dir_all(store)?;
            check(&account, messages)?;
            Ok(round)
        }
    }
}

async fn load_round(
    lab: &mut Lab,
    shape: Shape,
    address: std::net::SocketAddr,
    server: u32,
    repeats: f64,
) -> Result<(Account, ServiceRound)> {
    let source = lab.source(repeats);
    let meters = Meters {
        servers: vec![server],
        postgres: lab.postgres.pid(),
        pooler: None,
    };
    let (idle_mb, _) = meters::memory_mb(server)?;
    let (account, measured) = load::run(&[address], shape, &source, lab.clock, meters).await?;
    let (_, peak_mb) = meters::memory_mb(server)?;
    let round = ServiceRound {
        measured,
        idle_mb: Some(idle_mb),
        peak_mb,
    };
    Ok((account, round))
}

/// The same that a round of oncelog has to stand.
fn check(account: &Account, held: u64) -> Result<()> {
    ensure!(
        account.failures == 0,
        "{} answers were wrong, first: {}",
        account.failures,
        account.first_failure.as_deref().unwrap_or_default()
    );
    ensure!(
        account.stored == held,
        "{} events were answered as stored, {held} are held",
        account.stored
    );
    Ok(())
}

/// What can be started here with its version, and what cannot.
fn find_peers() -> (Vec<(Protocol, String)>, Vec<String>) {
    let (mut peers, mut absent) = (Vec::new(), Vec::new());
    let nats = nats_binary();
    for (protocol, binary) in [
        (Protocol::Redis, Path::new("redis-server")),
        (Protocol::Nats, nats.as_path()),
    ] {
        match run(Command::new(binary).arg("--version")) {
            Ok(version) => peers.push((protocol, title(protocol, &version))),
            Err(error) => absent.push(format!("{error:#}")),
        }
    }
    (peers, absent)
}

/// `Redis server v=7.0.15 sha=…`, `nats-server: v2.15.1`.
fn title(protocol: Protocol, version: &str) -> String {
    let number = version
        .split_whitespace()
        .find_map(|word| {
            word.trim_start_matches("v=")
                .trim_start_matches('v')
                .split_once('.')
        })
        .map_or_else(String::new, |(major, rest)| format!(" {major}.{rest}"));
    match protocol {
        Protocol::Redis => format!("Redis{number}, Lua, `appendfsync always`"),
        _ => format!("NATS JetStream{number}, `sync_interval: always`"),
    }
}

/// `scripts/bench.sh` says where it has unpacked it.
fn nats_binary() -> PathBuf {
    std::env::var_os("NATS_SERVER").map_or_else(|| "nats-server".into(), PathBuf::from)
}
