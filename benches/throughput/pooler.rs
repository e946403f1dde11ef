//! `--pooler`: the server straight on Postgres, with its transactions as they are behind a pooler but without
//! one, and through pgbouncer in its transaction mode, in turns. Used by `main`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the tables go to stdout, progress to stderr"
)]

use crate::{
    Kind, WORKLOADS, Workload,
    load::{self, Measured},
    meters::{Cpu, Meters},
    report::{median, milliseconds, percentile_us, spread, thousands, us_per_event},
    rounds::{Backend, Lab},
    servers::{Oncelog, Pgbouncer},
};
use anyhow::Result;
use std::time::Duration;

const SERVICE: Backend = Backend::Postgres("service");

/// How the server reaches Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    /// Each statement within a transaction that sets it up, as behind a pooler.
    Unpooled,
    Pooled,
}

impl Way {
    fn title(self) -> &'static str {
        match self {
            Self::Direct => "straight",
            Self::Unpooled => "straight, `DATABASE_POOLER=transaction`",
            Self::Pooled => "through pgbouncer",
        }
    }
}

/// A way and all of its rounds.
struct Rounds {
    way: Way,
    measured: Vec<Measured>,
}

/// The workloads that publish and nothing else, where `--pooler` asks for them.
pub(crate) async fn measure(lab: &mut Lab, cores: usize) -> Result<()> {
    if !lab.args.pooler {
        return Ok(());
    }
    let pgbouncer = Pgbouncer::start(&lab.postgres, lab.dir.path()).await?;
    println!("Pooler: {}.\n", pgbouncer.version);
    println!(
        "| work | Postgres is reached | ev/s | to straight (min–max) | p50 / p99 ms \
         | cores of {cores}: server | Postgres | pgbouncer | generator | idle \
         | us/event: server | Postgres | pgbouncer |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    for workload in &WORKLOADS {
        let is_plain = workload.kind == Kind::Publish && workload.repeats.is_none();
        if is_plain && lab.args.wants_pooler(workload.name) {
            compare(lab, workload, &pgbouncer).await?;
        }
    }
    Ok(())
}

async fn compare(lab: &mut Lab, workload: &Workload, pgbouncer: &Pgbouncer) -> Result<()> {
    let mut all = [Way::Direct, Way::Unpooled, Way::Pooled].map(|way| Rounds {
        way,
        measured: Vec::new(),
    });
    for round in 1..=lab.args.rounds() {
        for rounds in &mut all {
            let measured = measure_round(lab, workload, rounds.way, pgbouncer).await?;
            eprintln!(
                "{} {round}: {} {}",
                workload.name,
                thousands(measured.rate()),
                rounds.way.title()
            );
            rounds.measured.push(measured);
        }
        // The next round begins with another one.
        all.rotate_left(1);
    }
    all.sort_by_key(|rounds| rounds.way as u8);
    let straight: Vec<f64> = all[0].measured.iter().map(Measured::rate).collect();
    for rounds in &all {
        println!("{}", rounds.show(workload, &straight));
    }
    Ok(())
}

async fn measure_round(
    lab: &mut Lab,
    workload: &Workload,
    way: Way,
    pgbouncer: &Pgbouncer,
) -> Result<Measured> {
    if lab.args.empties_tables() {
        // Its connections are to the database that is replaced.
        pgbouncer.execute("kill service").await?;
        lab.make_blank(&SERVICE).await?;
        pgbouncer.execute("resume service").await?;
    }
    let before = lab.totals(&SERVICE).await?;
    let source = lab.source(lab.args.repeats);
    let mut settings = lab.args.settings.clone();
    if way != Way::Direct {
        settings.push("DATABASE_POOLER=transaction".to_owned());
    }
    let url = match way {
        Way::Pooled => pgbouncer.url("service"),
        Way::Direct | Way::Unpooled => lab.postgres.url("service"),
    };
    let binary = lab.args.server();
    let server = Oncelog::start(&binary, lab.dir.path(), &url, None, &settings).await?;
    let meters = Meters {
        servers: vec![server.pid()],
        postgres: lab.postgres.pid(),
        pooler: Some(pgbouncer.pid()),
    };
    let addresses = [server.address];
    let load = load::run(&addresses, workload.shape(), &source, lab.clock, meters);
    let (account, measured) = load.await?;
    let log = server.log_text();
    server.stop().await?;
    let after = lab.totals(&SERVICE).await?;
    lab.check(before, after, &account, &log);
    Ok(measured)
}

impl Rounds {
    fn median(&self, value: impl Fn(&Measured) -> f64) -> f64 {
        median(self.measured.iter().map(value).collect())
    }

    fn cores(&self, cpu: impl Fn(&Cpu) -> Duration) -> f64 {
        self.median(|round| cpu(&round.cpu).as_secs_f64() / round.elapsed.as_secs_f64())
    }

    fn show(&self, workload: &Workload, straight: &[f64]) -> String {
        let rates = self.measured.iter().map(Measured::rate);
        let ratios: Vec<f64> = rates
            .zip(straight)
            .map(|(rate, other)| rate / other)
            .collect();
        format!(
            "| {} | {} | {} | {} | {} / {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} |",
            match self.way {
                Way::Direct => workload.title,
                _ => "",
            },
            self.way.title(),
            thousands(self.median(Measured::rate)),
            spread(&ratios),
            milliseconds(self.median(|round| percentile_us(round, 0.5))),
            milliseconds(self.median(|round| percentile_us(round, 0.99))),
            self.cores(|cpu| cpu.server),
            self.cores(|cpu| cpu.postgres),
            self.cores(|cpu| cpu.pooler),
            self.cores(|cpu| cpu.generator),
            self.cores(|cpu| cpu.idle),
            self.median(|round| us_per_event(round.cpu.server, round)),
            self.median(|round| us_per_event(round.cpu.postgres, round)),
            self.median(|round| us_per_event(round.cpu.pooler, round)),
        )
    }
}
