//! `scripts/bench.sh`: oncelog against raw inserts into the same schema of the same private Postgres,
//! in alternating rounds of one run. docs/benchmarks.md says how to read what it prints.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table goes to stdout, progress and failures to stderr"
)]

mod args;
mod costs;
mod events;
mod http;
mod latency;
mod load;
mod meters;
mod pace;
mod peers;
mod plots;
mod pooler;
mod prefill;
mod raw;
mod replicas;
mod report;
mod rounds;
mod servers;
mod stream;
mod subscribers;
mod svg;
mod waits;
mod wire;

use anyhow::{Result, bail, ensure};
use args::Args;
use clap::Parser;
use load::{Measured, Shape};
use report::{Line, thousands};
use rounds::{Backend, Faults, Lab};
use std::{fs, process::ExitCode, thread::available_parallelism, time::Instant};
use tokio::signal::unix::{SignalKind, signal};
use wire::Protocol;

/// What is compared, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Publishing over HTTP with raw inserts.
    Publish,
    /// Singles at a quarter of the rate that they reach with the time of an fdatasync.
    Latency,
    /// Publishing while actors are crashed with publishing in peace.
    Crashes,
    /// Emptying the broker's stream with raw inserts.
    Stream,
    /// Publishing over HTTP with raw inserts, on SQLite.
    Sqlite,
    /// What subscribers see of what is published, and what they cost.
    Subscribers,
}

struct Workload {
    name: &'static str,
    title: &'static str,
    kind: Kind,
    connections: u32,
    batch: u64,
    /// `None`: what the command line says.
    repeats: Option<f64>,
    goal: Option<f64>,
    is_main: bool,
}

impl Workload {
    const fn publish(
        name: &'static str,
        title: &'static str,
        connections: u32,
        batch: u64,
    ) -> Self {
        Self {
            name,
            title,
            kind: Kind::Publish,
            connections,
            batch,
            repeats: None,
            goal: None,
            is_main: false,
        }
    }

    const fn kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    const fn repeats(self, repeats: f64) -> Self {
        Self {
            repeats: Some(repeats),
            ..self
        }
    }

    const fn goal(self, goal: f64) -> Self {
        Self {
            goal: Some(goal),
            ..self
        }
    }

    const fn main(self) -> Self {
        Self {
            is_main: true,
            ..self
        }
    }

    fn shape(&self) -> Shape {
        Shape {
            protocol: Protocol::Http,
            connections: self.connections,
            batch: self.batch,
            pace: None,
        }
    }
}

const WORKLOADS: [Workload; 10] = [
    Workload::publish("batch1000", "batches of 1000, 8 connections", 8, 1000)
        .goal(0.95)
        .main(),
    Workload::publish("batch100", "batches of 100, 16 connections", 16, 100).goal(0.80),
    Workload::publish("single256", "singles, 256 connections", 256, 1)
        .goal(0.32)
        .main(),
    Workload::publish("single64", "singles, 64 connections", 64, 1)
        .goal(0.27)
        .main(),
    // Its pace follows from the workload before it.
    Workload::publish("latency", "singles at a quarter of that rate", 64, 1).kind(Kind::Latency),
    Workload::publish("repeats90", "batches of 1000 with 90 % repeats", 8, 1000)
        .repeats(0.9)
        .goal(1.5),
    Workload::publish(
        "crashes",
        "singles, 64 connections, 5 crashes a second / none",
        64,
        1,
    )
    .kind(Kind::Crashes)
    .goal(0.5),
    Workload::publish("stream", "from the Redis stream", 0, 1000)
        .kind(Kind::Stream)
        .goal(0.7),
    Workload::publish("sqlite", "SQLite, batches of 1000, 8 connections", 8, 1000)
        .kind(Kind::Sqlite)
        .goal(0.85),
    Workload::publish("subscribers", "subscribers of the stream", 8, 1000).kind(Kind::Subscribers),
];

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        // Whatever ends first, the lab is dropped with the run, and its processes with the lab.
        runtime.block_on(async {
            tokio::select! {
                // Signals first: they have to be listened to before anything is started.
                biased;
                signal = told_to_end() => signal.and_then(|()| bail!("told to end")),
                outcome = run(args) => outcome,
            }
        })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn told_to_end() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

async fn run(args: Args) -> Result<()> {
    for name in &args.only {
        ensure!(
            WORKLOADS.iter().any(|workload| workload.name == name),
            "no workload is named {name}; see --help"
        );
    }
    for name in &args.plots {
        ensure!(
            plots::NAMES.contains(&name.as_str()),
            "no plot is named {name}; see --help"
        );
    }
    let began = Instant::now();
    let cores = available_parallelism()?.get();
    let mut lab = Lab::open(args).await?;
    print_conditions(&lab, cores)?;
    let mut other_tables = Vec::new();
    if lab.args.peers {
        match peers::measure(&mut lab, cores).await {
            Ok(lines) => other_tables.extend(lines),
            Err(error) => lab.failures.push(format!("peers: {error:#}")),
        }
    }
    if let Err(error) = replicas::measure(&mut lab, cores).await {
        lab.failures.push(format!("replicas: {error:#}"));
    }
    if let Err(error) = pooler::measure(&mut lab, cores).await {
        lab.failures.push(format!("pooler: {error:#}"));
    }
    if let Err(error) = plots::measure(&mut lab, cores).await {
        lab.failures.push(format!("plots: {error:#}"));
    }
    if WORKLOADS
        .iter()
        .any(|workload| lab.args.wants(workload.name, workload.is_main))
    {
        println!("{}", report::HEAD);
    }
    let mut single_rate = None;
    for workload in &WORKLOADS {
        if !lab.args.wants(workload.name, workload.is_main) {
            continue;
        }
        let failures = lab.failures.len();
        let shape = workload.shape();
        let outcome = match workload.kind {
            Kind::Latency => latency::measure(&mut lab, shape, single_rate)
                .await
                .map(|lines| other_tables.extend(lines)),
            Kind::Subscribers => subscribers::measure(&mut lab, shape)
                .await
                .map(|lines| other_tables.extend(lines)),
            _ => compare(&mut lab, workload).await.map(|line| {
                if workload.name == "single64" {
                    single_rate = Some(line.service_rate());
                }
                println!("{}", line.show(cores));
            }),
        };
        // The other workloads are worth something all the same.
        if let Err(error) = outcome {
            lab.failures.push(format!("{}: {error:#}", workload.name));
        }
        if lab.failures.len() > failures {
            println!(
                "| **{} FAILED**: its figures count for nothing, see below |",
                workload.name
            );
        }
    }
    for line in &other_tables {
        println!("{line}");
    }
    // Some workloads look at neither.
    if lab.ready_ms_max > 0.0 {
        println!(
            "\nServer: ready {:.0} ms after its start at the latest, idle at {:.0} MB at most.",
            lab.ready_ms_max, lab.idle_mb_max,
        );
    }
    println!("\nThe run took {:.0} s.", began.elapsed().as_secs_f64());
    for failure in &lab.failures {
        println!("\n**FAILED**: {failure}");
    }
    ensure!(
        lab.failures.is_empty(),
        "{} rounds FAILED",
        lab.failures.len()
    );
    Ok(())
}

/// All rounds of one workload, in turns with its rival.
async fn compare(lab: &mut Lab, workload: &Workload) -> Result<Line> {
    let repeats = workload.repeats.unwrap_or(lab.args.repeats);
    let server = lab.args.server();
    let (rival_backend, backend) = match workload.kind {
        Kind::Sqlite => (lab.sqlite("raw.db"), lab.sqlite("service.db")),
        _ => (Backend::Postgres("raw"), Backend::Postgres("service")),
    };
    let mut line = Line {
        title: workload.title.to_owned(),
        goal: workload.goal,
        rival: Vec::new(),
        service: Vec::new(),
        idle_mb_max: None,
        memory_mb_max: 0.0,
    };
    for round in 1..=lab.args.rounds() {
        if lab.args.empties_tables() || workload.kind == Kind::Sqlite {
            lab.make_blank(&rival_backend).await?;
            lab.make_blank(&backend).await?;
        }
        let shape = workload.shape();
        let rival = match (workload.kind, lab.args.versus.clone()) {
            (Kind::Crashes, _) => {
                let peace = Faults::None;
                lab.publish_round(&server, &rival_backend, shape, repeats, peace)
                    .await?
                    .measured
            }
            (Kind::Publish, Some(other)) => {
                let peace = Faults::None;
                lab.publish_round(&other, &rival_backend, shape, repeats, peace)
                    .await?
                    .measured
            }
            _ => lab.raw_round(&rival_backend, raw::RAW, repeats).await?,
        };
        let faults = match workload.kind {
            Kind::Crashes => Faults::Crashes,
            _ => Faults::None,
        };
        let service = match workload.kind {
            Kind::Stream => lab.stream_round(repeats).await?,
            _ => {
                lab.publish_round(&server, &backend, shape, repeats, faults)
                    .await?
            }
        };
        show_round(workload, round, &rival, &service.measured);
        let idle_mb = [line.idle_mb_max, service.idle_mb].into_iter().flatten();
        line.idle_mb_max = idle_mb.reduce(f64::max);
        line.memory_mb_max = line.memory_mb_max.max(service.peak_mb);
        line.rival.push(rival);
        line.service.push(service.measured);
    }
    Ok(line)
}

fn show_round(workload: &Workload, round: usize, rival: &Measured, service: &Measured) {
    eprintln!(
        "{} {round}: {} / {} = {:.3}",
        workload.name,
        thousands(service.rate()),
        thousands(rival.rate()),
        service.rate() / rival.rate()
    );
}

fn print_conditions(lab: &Lab, cores: usize) -> Result<()> {
    let load = fs::read_to_string("/proc/loadavg")?;
    let command: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    println!(
        "{}, `scripts/bench.sh {}`: {}, load before the run {}.\n\
         Each figure is the median of {} rounds of {} s.\n",
        chrono::Utc::now().format("%F"),
        command.join(" "),
        machine(lab, cores)?,
        load.split(' ').next().unwrap_or_default(),
        lab.args.rounds(),
        lab.clock.measured.as_secs_f64(),
    );
    Ok(())
}

/// What the figures depend on most.
fn machine(lab: &Lab, cores: usize) -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{cores} × {}, Linux {}, Postgres {}",
        model
            .unwrap_or("an unknown CPU")
            .trim_start_matches([':', '\t', ' ']),
        kernel.trim(),
        lab.postgres.version,
    ))
}
