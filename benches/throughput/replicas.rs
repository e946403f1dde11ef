//! `--replicas`: one, two and four servers on one Postgres, each as long as the others and in turns with raw
//! inserts; which cores they take, what backends wait for, and what an event costs. Used by `main`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the tables go to stdout, progress to stderr"
)]

use crate::{
    Kind, WORKLOADS, Workload,
    costs::{Costs, Reading},
    load::{self, Account, Measured},
    meters::{self, Meters},
    raw,
    report::{median, milliseconds, percentile_us, spread, thousands, us_per_event},
    rounds::{Backend, Lab},
    servers::Oncelog,
    waits::{self, Sampler, Waits},
};
use anyhow::Result;
use std::{net::SocketAddr, time::Duration};

const SERVICE: Backend = Backend::Postgres("service");
const RAW: Backend = Backend::Postgres("raw");

/// A round of so many servers.
struct Round {
    measured: Measured,
    account: Account,
    costs: Costs,
    waits: Waits,
    /// Of the server that took most.
    memory_mb: f64,
    /// The CPU time of each as a share of all of theirs, in the order of their start.
    shares: Vec<f64>,
}

/// All rounds of a workload with as many servers.
struct Replicas {
    number: usize,
    rounds: Vec<Round>,
}

/// All workloads that publish and nothing else, where `--replicas` asks for them.
pub(crate) async fn measure(lab: &mut Lab, cores: usize) -> Result<()> {
    for workload in &WORKLOADS {
        let is_plain = workload.kind == Kind::Publish && workload.repeats.is_none();
        if is_plain && lab.args.wants_replicas(workload.name) {
            compare(lab, workload, cores).await?;
        }
    }
    Ok(())
}

/// All rounds of one workload, in turns with raw inserts.
async fn compare(lab: &mut Lab, workload: &Workload, cores: usize) -> Result<()> {
    let mut raw = Vec::new();
    let mut all: Vec<Replicas> = lab
        .args
        .replicas
        .iter()
        .map(|number| Replicas {
            number: usize::from(*number),
            rounds: Vec::new(),
        })
        .collect();
    for round in 1..=lab.args.rounds() {
        if lab.args.empties_tables() {
            lab.make_blank(&RAW).await?;
        }
        raw.push(
            lab.raw_round(&RAW, raw::RAW, lab.args.repeats)
                .await?
                .rate(),
        );
        for replicas in &mut all {
            let measured = replicas_round(lab, workload, replicas.number).await?;
            eprintln!(
                "{} {round}: {} with {} servers",
                workload.name,
                thousands(measured.measured.rate()),
                replicas.number
            );
            replicas.rounds.push(measured);
        }
        // The next round begins with another one.
        all.rotate_left(1);
    }
    all.sort_by_key(|replicas| replicas.number);
    print(workload, &raw, &all, cores);
    Ok(())
}

async fn replicas_round(lab: &mut Lab, workload: &Workload, number: usize) -> Result<Round> {
    if lab.args.empties_tables() {
        lab.make_blank(&SERVICE).await?;
    }
    let before = lab.totals(&SERVICE).await?;
    let source = lab.source(lab.args.repeats);
    let mut servers = Vec::new();
    for _ in 0..number {
        servers.push(lab.start(&lab.args.server(), &SERVICE, None).await?);
    }
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let pids: Vec<u32> = servers.iter().map(Oncelog::pid).collect();
    let meters = Meters {
        servers: pids.clone(),
        postgres: lab.postgres.pid(),
        pooler: None,
    };
    // Every round writes as many whole pages to the log as its events touch.
    lab.postgres.execute("service", "checkpoint").await?;
    let options = lab.postgres.options("service");
    let at_start = Reading::take(&lab.postgres, &options).await?;
    let sampler = Sampler::start(options.clone()).await?;
    let (account, measured) =
        load::run(&addresses, workload.shape(), &source, lab.clock, meters).await?;
    let waits = sampler.finish().await?;
    let at_end = Reading::take(&lab.postgres, &options).await?;
    let (mut memory_mb, mut times, mut log) = (0.0_f64, Vec::new(), String::new());
    for (server, pid) in servers.into_iter().zip(pids) {
        memory_mb = memory_mb.max(meters::memory_mb(pid)?.1);
        times.push(meters::cpu_of(pid)?.as_secs_f64());
        log += &server.log_text();
        server.stop().await?;
    }
    let costs = at_end.costs_since(&at_start, &lab.postgres)?;
    let after = lab.totals(&SERVICE).await?;
    lab.check(before, after, &account, &log);
    let all_times: f64 = times.iter().sum();
    Ok(Round {
        measured,
        account,
        costs,
        waits,
        memory_mb,
        shares: times.iter().map(|time| time / all_times).collect(),
    })
}

impl Replicas {
    fn median(&self, value: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(value).collect())
    }

    /// Of the costs of a whole round, for each of its events.
    fn per_event(&self, value: impl Fn(&Round) -> f64) -> f64 {
        self.median(|round| value(round) / round.account.answered as f64)
    }

    /// The same for each that was stored.
    fn per_row(&self, value: impl Fn(&Costs) -> f64) -> f64 {
        self.median(|round| value(&round.costs) / round.account.stored as f64)
    }

    fn against(&self, rates: &[f64]) -> String {
        let rounds = self.rounds.iter().map(|round| round.measured.rate());
        let ratios: Vec<f64> = rounds
            .zip(rates)
            .map(|(rate, other)| rate / other)
            .collect();
        spread(&ratios)
    }

    fn cores(&self, cpu: impl Fn(&meters::Cpu) -> Duration) -> f64 {
        self.median(|round| {
            cpu(&round.measured.cpu).as_secs_f64() / round.measured.elapsed.as_secs_f64()
        })
    }

    /// What neither we nor anybody took is what others took, and the kernel for nobody.
    fn others(&self, cores: f64) -> f64 {
        cores - self.cores(|cpu| cpu.server + cpu.postgres + cpu.generator + cpu.idle)
    }

    fn show_rate(&self, raw: &[f64], first: &[f64], cores: usize) -> String {
        let shares = self.rounds.iter().flat_map(|round| &round.shares).copied();
        let low = shares.clone().fold(f64::INFINITY, f64::min);
        let high = shares.fold(0.0, f64::max);
        let spread_of_shares = match self.number {
            1 => "–".to_owned(),
            _ => format!("{:.0} to {:.0} %", low * 100.0, high * 100.0),
        };
        format!(
            "| {} | {} | {} | {} | {} / {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {spread_of_shares} | {:.0} |",
            self.number,
            thousands(self.median(|round| round.measured.rate())),
            self.against(raw),
            self.against(first),
            milliseconds(self.median(|round| percentile_us(&round.measured, 0.5))),
            milliseconds(self.median(|round| percentile_us(&round.measured, 0.99))),
            self.cores(|cpu| cpu.server),
            self.cores(|cpu| cpu.postgres),
            self.cores(|cpu| cpu.generator),
            self.cores(|cpu| cpu.idle),
            self.others(cores as f64),
            self.median(|round| round.memory_mb),
        )
    }

    fn show_costs(&self) -> String {
        let log = |part: fn(&Costs) -> f64| self.per_event(|round| part(&round.costs));
        let group = self
            .median(|round| round.account.answered as f64 / round.costs.log.transactions.max(1.0));
        format!(
            "| {} | {:.1} | {:.1} | {group:.0} | {:.0}: {:.0} + {:.0} + {:.0} + {:.0} | {:.0} | {:.0}: {} \
             | {:.1} | {:.0} / {:.0} | {:.0} / {:.0} |",
            self.number,
            self.median(|round| us_per_event(round.measured.cpu.server, &round.measured)),
            self.median(|round| us_per_event(round.measured.cpu.postgres, &round.measured)),
            log(|costs| costs.log.bytes()),
            log(|costs| costs.log.heap),
            log(|costs| costs.log.index),
            log(|costs| costs.log.others),
            log(|costs| costs.log.pages),
            self.per_row(|costs| costs.table_bytes),
            self.per_row(Costs::index_bytes),
            self.indexes(),
            self.per_event(|round| round.costs.rest_bytes),
            self.per_event(|round| round.account.sent_bytes as f64),
            self.per_event(|round| round.account.received_bytes as f64),
            log(|costs| costs.sent_bytes),
            log(|costs| costs.received_bytes),
        )
    }

    fn indexes(&self) -> String {
        let places = self
            .rounds
            .first()
            .map_or(0, |round| round.costs.indexes.len());
        let of_index = |place: usize| {
            let bytes = |costs: &Costs| costs.indexes.get(place).map_or(0.0, |(_, bytes)| *bytes);
            format!("{:.0}", self.per_row(bytes))
        };
        let shown: Vec<String> = (0..places).map(of_index).collect();
        shown.join(" + ")
    }
}

fn print(workload: &Workload, raw: &[f64], all: &[Replicas], cores: usize) {
    let Some(first) = all.first() else {
        return;
    };
    let first_rates: Vec<f64> = first
        .rounds
        .iter()
        .map(|round| round.measured.rate())
        .collect();
    println!(
        "\n### {}, raw {} ev/s\n\n\
         | servers | ev/s | to raw | to {} | p50 / p99 ms | cores of {cores}: servers | Postgres | generator \
         | idle | others | share of one server | RSS of the largest, MB |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        workload.title,
        thousands(median(raw.to_vec())),
        first.number,
    );
    for replicas in all {
        println!("{}", replicas.show_rate(raw, &first_rates, cores));
    }
    let names = first.rounds.first().map(|round| &round.costs.indexes);
    let names: Vec<&str> = names
        .into_iter()
        .flatten()
        .map(|(name, _)| name.trim_start_matches("processed_events_"))
        .collect();
    println!(
        "\n| servers | server us/event | Postgres us/event | events of a transaction \
         | log bytes/event: rows + indexes + others + whole pages | table bytes/row \
         | index bytes/row: {} | other tables, bytes/event | HTTP bytes/event, there / back \
         | Postgres bytes/event, there / back |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        names.join(" + ")
    );
    for replicas in all {
        println!("{}", replicas.show_costs());
    }
    println!("\n| servers | backends that are active, by what they wait for |\n| --- | --- |");
    for replicas in all {
        let rounds: Vec<&Waits> = replicas.rounds.iter().map(|round| &round.waits).collect();
        println!("| {} | {} |", replicas.number, waits::show(&rounds));
    }
}
