//! `--plots`: throughput against connections, batch size and table size, each next to raw inserts in the
//! same rounds; prints a table and has `svg` draw it. Used by `main`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tables go to stdout, progress to stderr"
)]

use crate::{
    load::Shape,
    machine, prefill,
    raw::{RAW, RawShape},
    report::{spread, thousands},
    rounds::{Backend, Faults, Lab},
    svg::{Chart, Point, Series},
    wire::Protocol,
};
use anyhow::Result;
use std::fs;

pub(crate) const NAMES: [&str; 3] = ["connections", "batches", "rows"];

const CONNECTIONS: [u32; 5] = [1, 4, 16, 64, 256];
const BATCHES: [u64; 4] = [1, 10, 100, 1000];
const BATCH_CONNECTIONS: u32 = 8;
const MILLION: u64 = 1_000_000;
const TABLE_ROWS: [u64; 3] = [0, MILLION, 5 * MILLION];

/// One line of a plot.
#[derive(Clone, Copy)]
enum Work {
    Service { connections: u32, batch: u64 },
    Raw(RawShape),
}

/// A place on the x axis and what is measured there.
struct Place {
    label: String,
    x: f64,
    /// As many and in the same order at each place.
    works: Vec<Work>,
}

pub(crate) async fn measure(lab: &mut Lab, cores: usize) -> Result<()> {
    for name in lab.args.plots.clone() {
        let mut chart = match name.as_str() {
            "connections" => against_connections(lab).await?,
            "batches" => against_batches(lab).await?,
            _ => against_rows(lab).await?,
        };
        chart.caption = [
            format!(
                "{}, {}.",
                chrono::Utc::now().format("%F"),
                machine(lab, cores)?
            ),
            format!(
                "fsync on, {:.0} % repeats, 250-byte payloads. Medians of {} rounds of {} s, bars from lowest to highest.",
                lab.args.repeats * 100.0,
                lab.args.rounds(),
                lab.clock.measured.as_secs_f64()
            ),
        ];
        print_table(&chart);
        fs::create_dir_all(&lab.args.plots_dir)?;
        let file = lab.args.plots_dir.join(format!("throughput-{name}.svg"));
        fs::write(&file, chart.draw())?;
        println!("\nDrawn: {}\n", file.display());
    }
    Ok(())
}

async fn against_connections(lab: &mut Lab) -> Result<Chart> {
    let places = CONNECTIONS.map(|connections| Place {
        label: connections.to_string(),
        x: f64::from(connections).log2(),
        works: vec![
            Work::Raw(RAW),
            Work::Service {
                connections,
                batch: 1,
            },
            Work::Raw(RawShape {
                connections,
                rows: 1,
            }),
        ],
    });
    let names = [
        "raw unnest, 1000 rows, 2 connections",
        "oncelog, single events",
        "raw inserts of one row over as many connections",
    ];
    let mut chart = Chart::new(
        "Single events against connections",
        "connections (log scale)",
        &names,
    );
    for place in &places {
        measure_place(lab, &mut chart, place, true).await?;
    }
    Ok(chart)
}

async fn against_batches(lab: &mut Lab) -> Result<Chart> {
    let places = BATCHES.map(|batch| Place {
        label: thousands(batch as f64),
        x: (batch as f64).log2(),
        works: vec![
            Work::Raw(RAW),
            Work::Service {
                connections: BATCH_CONNECTIONS,
                batch,
            },
            Work::Raw(RawShape {
                connections: BATCH_CONNECTIONS,
                rows: batch,
            }),
        ],
    });
    let names = [
        "raw unnest, 1000 rows, 2 connections",
        "oncelog, 8 connections",
        "raw unnest of as many rows, 8 connections",
    ];
    let mut chart = Chart::new(
        "Throughput against batch size",
        "events in a request (log scale)",
        &names,
    );
    for place in &places {
        measure_place(lab, &mut chart, place, true).await?;
    }
    Ok(chart)
}

/// The tables keep what the rounds at one size add to them.
async fn against_rows(lab: &mut Lab) -> Result<Chart> {
    let names = [
        "raw unnest, 1000 rows, 2 connections",
        "oncelog, batches of 1000, 8 connections",
        "oncelog, single events, 256 connections",
    ];
    let mut chart = Chart::new(
        "Throughput against table size",
        "millions of rows in the table before the rounds",
        &names,
    );
    chart.has_log_rates = false;
    let mut filled = lab.args.prefill;
    for rows in TABLE_ROWS {
        if rows > filled {
            prefill::prefill(&lab.postgres.options("blank"), filled..rows).await?;
            filled = rows;
        }
        for database in ["raw", "service"] {
            lab.make_blank(&Backend::Postgres(database)).await?;
        }
        let place = Place {
            label: (filled / MILLION).to_string(),
            x: filled as f64,
            works: vec![
                Work::Raw(RAW),
                Work::Service {
                    connections: 8,
                    batch: 1000,
                },
                Work::Service {
                    connections: 256,
                    batch: 1,
                },
            ],
        };
        measure_place(lab, &mut chart, &place, false).await?;
    }
    Ok(chart)
}

/// All rounds at one place, the lines in turns.
async fn measure_place(
    lab: &mut Lab,
    chart: &mut Chart,
    place: &Place,
    empties: bool,
) -> Result<()> {
    let (raw, service) = (Backend::Postgres("raw"), Backend::Postgres("service"));
    let repeats = lab.args.repeats;
    let server = lab.args.server();
    let mut rates = vec![Vec::new(); place.works.len()];
    for round in 1..=lab.args.rounds() {
        for (work, rates) in place.works.iter().zip(&mut rates) {
            let backend = match work {
                Work::Raw(_) => &raw,
                Work::Service { .. } => &service,
            };
            if empties {
                lab.make_blank(backend).await?;
            }
            let rate = match *work {
                Work::Raw(shape) => lab.raw_round(backend, shape, repeats).await?.rate(),
                Work::Service { connections, batch } => {
                    let shape = Shape {
                        protocol: Protocol::Http,
                        connections,
                        batch,
                        pace: None,
                    };
                    let round = lab.publish_round(&server, backend, shape, repeats, Faults::None);
                    round.await?.measured.rate()
                }
            };
            rates.push(rate);
        }
        let last: Vec<String> = rates
            .iter()
            .filter_map(|rates| rates.last().copied().map(thousands))
            .collect();
        eprintln!(
            "{} {}, {round}: {}",
            chart.title,
            place.label,
            last.join(" / ")
        );
    }
    chart.ticks.push((place.x, place.label.clone()));
    for (series, rates) in chart.series.iter_mut().zip(rates) {
        series.points.push(Point { x: place.x, rates });
    }
    Ok(())
}

/// The same in figures: rates, and each line's ratio to the first within its rounds.
fn print_table(chart: &Chart) {
    let Chart { series, ticks, .. } = chart;
    let names: Vec<&str> = series.iter().map(|series| series.name).collect();
    println!(
        "| {} | {} | ratios to the first (min–max) |",
        chart.x_label,
        names.join(", ev/s | ")
    );
    println!("| --- |{} --- |", " --- |".repeat(names.len()));
    for (place, (_, label)) in ticks.iter().enumerate() {
        let at = |series: &Series| series.points[place].rates.clone();
        let rates: Vec<String> = series
            .iter()
            .map(|series| thousands(series.points[place].median()))
            .collect();
        let ratios: Vec<String> = series[1..]
            .iter()
            .map(|other| {
                let pairs = at(other).into_iter().zip(at(&series[0]));
                spread(&pairs.map(|(rate, raw)| rate / raw).collect::<Vec<_>>())
            })
            .collect();
        println!(
            "| {label} | {} | {} |",
            rates.join(" | "),
            ratios.join(", ")
        );
    }
}
