//! The table that the benchmark prints, in Markdown. Used by `main`, `latency`, `peers` and `plots`.

use crate::load::Measured;
use std::time::Duration;

/// One line of the table: a workload and all of its rounds.
pub(crate) struct Line {
    pub(crate) title: String,
    pub(crate) goal: Option<f64>,
    pub(crate) rival: Vec<Measured>,
    pub(crate) service: Vec<Measured>,
    /// `None` where the server was never idle.
    pub(crate) idle_mb_max: Option<f64>,
    pub(crate) memory_mb_max: f64,
}

pub(crate) const HEAD: &str = "\
| work | raw ev/s | service ev/s | ratio (min–max) | goal | p50 / p99 ms | server us/event \
| Postgres us/event (raw) | generator's share of the CPU | RSS MB, idle / highest |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

impl Line {
    pub(crate) fn ratio(&self) -> f64 {
        median(self.ratios())
    }

    fn ratios(&self) -> Vec<f64> {
        let pairs = self.service.iter().zip(&self.rival);
        pairs
            .map(|(service, rival)| service.rate() / rival.rate())
            .collect()
    }

    pub(crate) fn service_rate(&self) -> f64 {
        median(self.service.iter().map(Measured::rate).collect())
    }

    pub(crate) fn show(&self, cores: usize) -> String {
        let goal = self.goal.map_or("–".to_owned(), |goal| {
            let verdict = if self.ratio() >= goal {
                "met"
            } else {
                "missed"
            };
            format!("{goal:.2} {verdict}")
        });
        let of_service =
            |value: fn(&Measured) -> f64| median(self.service.iter().map(value).collect());
        let of_rival = |value: fn(&Measured) -> f64| median(self.rival.iter().map(value).collect());
        let generator =
            of_service(|round| round.cpu.generator.as_secs_f64() / round.elapsed.as_secs_f64());
        format!(
            "| {} | {} | {} | {} | {goal} | {} / {} | {:.1} | {:.1} ({:.1}) | {:.0} % | {} / {:.0} |",
            self.title,
            thousands(of_rival(Measured::rate)),
            thousands(self.service_rate()),
            spread(&self.ratios()),
            milliseconds(of_service(|round| percentile_us(round, 0.5))),
            milliseconds(of_service(|round| percentile_us(round, 0.99))),
            of_service(|round| us_per_event(round.cpu.server, round)),
            of_service(|round| us_per_event(round.cpu.postgres, round)),
            of_rival(|round| us_per_event(round.cpu.postgres, round)),
            generator * 100.0 / cores as f64,
            self.idle_mb_max
                .map_or("–".to_owned(), |idle_mb| format!("{idle_mb:.0}")),
            self.memory_mb_max,
        )
    }
}

/// Of the latencies of one round; 0 where there are none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a length is no longer than it"
)]
pub(crate) fn percentile_us(round: &Measured, share: f64) -> f64 {
    let sorted = &round.latencies_us;
    let place = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().map_or(0.0, f64::from)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.as_slice() {
        [] => f64::NAN,
        sorted if sorted.len() % 2 == 1 => sorted[middle],
        sorted => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The median of ratios, and how far they reach.
pub(crate) fn spread(ratios: &[f64]) -> String {
    let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ratios.iter().copied().fold(0.0, f64::max);
    format!("**{:.2}** ({low:.2}–{high:.2})", median(ratios.to_vec()))
}

pub(crate) fn milliseconds(us: f64) -> String {
    match us / 1000.0 {
        0.0 => "–".to_owned(),
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms => format!("{ms:.0}"),
    }
}

pub(crate) fn thousands(rate: f64) -> String {
    let digits = format!("{rate:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// CPU time for each event of a round.
pub(crate) fn us_per_event(cpu: Duration, round: &Measured) -> f64 {
    cpu.as_secs_f64() * 1e6 / round.events.max(1) as f64
}
