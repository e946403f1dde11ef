//! Workload latency: singles at a pace that the service keeps up with, and what a durable write takes
//! on the same disk at the same time. Used by `main`.
#![expect(clippy::print_stderr, reason = "progress goes there")]

use crate::{
    load::{Measured, Shape},
    report::{median, milliseconds, percentile_us, thousands},
    rounds::{Backend, Faults, Lab},
};
use anyhow::Result;
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    time::Instant,
};

/// Paced singles, each round beside the time that the disk takes to make a write durable.
pub(crate) async fn measure(
    lab: &mut Lab,
    mut shape: Shape,
    rate: Option<f64>,
) -> Result<Vec<String>> {
    let server = lab.args.server();
    let backend = Backend::Postgres("service");
    let repeats = lab.args.repeats;
    let rate = match rate {
        Some(rate) => rate,
        None => {
            lab.make_blank(&backend).await?;
            let round = lab.publish_round(&server, &backend, shape, repeats, Faults::None);
            round.await?.measured.rate()
        }
    };
    shape.pace = Some(rate / 4.0);
    let (mut rounds, mut syncs_us, mut slow_syncs_us) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=lab.args.rounds() {
        if lab.args.empties_tables() {
            lab.make_blank(&backend).await?;
        }
        let (half, most) = fdatasync_us(lab.dir.path())?;
        syncs_us.push(half);
        slow_syncs_us.push(most);
        let measured = lab.publish_round(&server, &backend, shape, repeats, Faults::None);
        let measured = measured.await?.measured;
        eprintln!(
            "latency {round}: p99 {} ms",
            milliseconds(percentile_us(&measured, 0.99))
        );
        rounds.push(measured);
    }
    let of = |share| {
        median(
            rounds
                .iter()
                .map(|round| percentile_us(round, share))
                .collect(),
        )
    };
    let sync_us = median(syncs_us);
    let goal_us = 3.0 * sync_us + 2000.0;
    let verdict = if of(0.99) <= goal_us { "met" } else { "missed" };
    Ok(vec![
        "\n| work | events/s | p50 ms | p99 ms | max ms | one fdatasync, p50 / p99 ms | goal for p99 |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- |".to_owned(),
        format!(
            "| singles, {} connections, at a quarter of their rate | {} | {} | {} | {} | {} / {} | 3 × fdatasync + 2 ms = {} {verdict} |",
            shape.connections,
            thousands(median(rounds.iter().map(Measured::rate).collect())),
            milliseconds(of(0.5)),
            milliseconds(of(0.99)),
            milliseconds(of(1.0)),
            milliseconds(sync_us),
            milliseconds(median(slow_syncs_us)),
            milliseconds(goal_us),
        ),
    ])
}

/// What writing a page of a log that is as long as it will be, and making it durable, takes: half of the times, and all
/// but one in a hundred.
fn fdatasync_us(dir: &Path) -> Result<(f64, f64)> {
    const PAGE: [u8; 8192] = [7; 8192];
    const WRITES: u64 = 1000;
    let path = dir.join("fdatasync");
    let file = File::create(&path)?;
    let mut times_us = Vec::new();
    for pass in 0..2 {
        for write in 0..WRITES {
            let began = Instant::now();
            file.write_all_at(&PAGE, write * 8192)?;
            if pass > 0 {
                file.sync_data()?;
                times_us.push(began.elapsed().as_secs_f64() * 1e6);
            }
        }
        file.sync_all()?;
    }
    fs::remove_file(path)?;
    times_us.sort_by(f64::total_cmp);
    let most = times_us[times_us.len() * 99 / 100];
    Ok((median(times_us), most))
}
