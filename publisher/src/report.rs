//! The report on stdout: one fact a line, `name: value`.

use crate::{cli::Options, run::Outcome, workload::Workload};
use std::io::{self, Write};

/// A line on stdout. Whoever closed it does not want to read on.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

pub(crate) fn print(options: &Options, workload: &Workload, outcome: &Outcome) {
    let account = &outcome.account;
    let seconds = outcome.took.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
    let rate = account.answered() as f64 / seconds.max(0.001);
    if outcome.is_interrupted {
        say("interrupted: the figures are those of what was sent");
    }
    let unique = workload.unique_of(outcome.sends);
    say(&format!("sends: {}", outcome.sends));
    say(&format!("unique: {unique}"));
    say(&format!("duplicates: {}", outcome.sends - unique));
    say(&format!(
        "answers: {} stored, {} duplicates ({} conflicts), {} queued",
        account.stored, account.duplicates, account.conflicts, account.queued
    ));
    say(&format!("retries: {}", account.retries));
    say(&format!("errors: {}", account.errors));
    for why in &account.shown {
        say(&format!("  not answered well: {why}"));
    }
    say(&format!("time: {seconds:.2} s, {rate:.0} events/s"));
    let at = |quantile: f64| ms(account.latency_us.value_at_quantile(quantile));
    say(&format!(
        "latency of a {}: p50 {} ms, p90 {} ms, p99 {} ms, max {} ms",
        match (&options.redis, options.batch_size) {
            (Some(_), _) => "pipeline",
            (None, 1) => "publish",
            (None, _) => "batch",
        },
        at(0.5),
        at(0.9),
        at(0.99),
        ms(account.latency_us.max())
    ));
}

fn ms(us: u64) -> String {
    format!("{}.{:02}", us / 1000, us % 1000 / 10)
}
