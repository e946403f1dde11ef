//! Verification: the server's counters against the own account, and every event read back.

use crate::{
    api::{Api, Stats},
    report::say,
    run::Outcome,
    transport::Transport,
    workload::Workload,
};
use serde_json::Value;
use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::sleep};

/// How long what is queued may take to be stored.
const SETTLE_MAX: Duration = Duration::from_secs(120);
const SETTLE_PAUSE: Duration = Duration::from_millis(100);
/// How long the server may be away meanwhile.
const AWAY_MAX: Duration = Duration::from_secs(60);
const ASK_AGAIN_PAUSE: Duration = Duration::from_secs(1);
/// Events read at a time.
const READS: u32 = 16;
/// Differences that are shown.
const SHOWN_MAX: usize = 5;

/// What the server knew before the run.
pub(crate) struct Before {
    stats: Stats,
    /// Events of this run that are there already, from an earlier run with the same seed.
    present: u64,
}

impl Before {
    pub(crate) async fn look(api: &Api, workload: &Arc<Workload>) -> Result<Self, String> {
        let stats = api.stats().await?;
        // The first event is the first that any run sends: without it there is none.
        let present = match api.event(&workload.key(0)).await? {
            None => 0,
            Some(_) => {
                let read = read_back(api, workload, workload.unique()).await?;
                workload.unique() as u64 - read.missing.len() as u64
            }
        };
        Ok(Self { stats, present })
    }
}

/// Prints a line for each check; says whether all agree.
pub(crate) async fn compare(
    api: &Api,
    transport: &Transport,
    workload: &Arc<Workload>,
    before: &Before,
    outcome: &Outcome,
) -> Result<bool, String> {
    let account = &outcome.account;
    let after = settled(api, transport).await?;
    let was_restarted = after.uptime_seconds < before.stats.uptime_seconds;
    let grown = |count: fn(&Stats) -> u64| count(&after).saturating_sub(count(&before.stats));
    let received = grown(|stats| stats.received_count);
    let unique = grown(|stats| stats.unique_processed_count);
    let duplicates = grown(|stats| stats.duplicate_dropped_count);
    let begun = workload.unique_of(outcome.sends);
    let read = read_back(api, workload, begun).await?;

    let mut checks = Checks(true);
    let bounds = account.received();
    if account.queued > 0 {
        // A broker delivers at least once: a crash between commit and acknowledgement counts again.
        let fact = format!("{received}, at least {}", bounds.start());
        checks.claim("received", received >= *bounds.start(), fact);
    } else if account.uncertain > 0 {
        let fact = format!(
            "{received}, between {} and {}",
            bounds.start(),
            bounds.end()
        );
        checks.claim("received", bounds.contains(&received), fact);
    } else {
        checks.equal("received", received, *bounds.start());
    }
    let is_whole = !outcome.is_interrupted && account.errors == 0;
    if !is_whole {
        say("unique: not compared, as not everything was sent");
    } else {
        let expected = workload.unique() as u64 - before.present;
        checks.equal("unique", unique, expected);
        checks.equal(
            "read back",
            workload.unique() - read.missing.len(),
            workload.unique(),
        );
    }
    checks.equal(
        "received = unique + duplicates",
        received,
        unique + duplicates,
    );
    checks.equal(
        "events that differ from what was sent",
        read.different.len(),
        0,
    );
    // What was not answered need not be there.
    for what in read.missing.iter().take(SHOWN_MAX).filter(|_| is_whole) {
        say(&format!("  missing: {what}"));
    }
    for what in read.different.iter().take(SHOWN_MAX) {
        say(&format!("  different: {what}"));
    }
    if !checks.0 {
        say("  (whoever else publishes to this server meanwhile changes its counters, too)");
    }
    if was_restarted {
        say("  (the server was restarted meanwhile)");
    }
    Ok(checks.0)
}

struct Checks(bool);

impl Checks {
    fn equal<T: PartialEq + Display>(&mut self, name: &str, server: T, own: T) {
        let fact = format!("{server} there, {own} here");
        self.claim(name, server == own, fact);
    }

    fn claim(&mut self, name: &str, holds: bool, fact: impl Display) {
        let verdict = if holds { "OK" } else { "DIFFERS" };
        say(&format!("verify {name}: {verdict} ({fact})"));
        self.0 &= holds;
    }
}

/// The counters, when nothing waits any more.
async fn settled(api: &Api, transport: &Transport) -> Result<Stats, String> {
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        let in_stream = transport.waiting().await.unwrap_or(0);
        let stats = patiently(deadline, || api.stats()).await?;
        if stats.queue_length == 0 && in_stream == 0 {
            return Ok(stats);
        }
        if Instant::now() >= deadline {
            return Err(format!(
                "after {SETTLE_MAX:?} {} events still wait, {in_stream} of them in the stream",
                stats.queue_length
            ));
        }
        sleep(SETTLE_PAUSE).await;
    }
}

/// Asks again and again while the server, or its database, is away.
async fn patiently<T, F: Future<Output = Result<T, String>>>(
    deadline: Instant,
    ask: impl Fn() -> F,
) -> Result<T, String> {
    loop {
        match ask().await {
            Err(_) if Instant::now() < deadline => sleep(ASK_AGAIN_PAUSE).await,
            answer => return answer,
        }
    }
}

#[derive(Default)]
struct Read {
    missing: Vec<String>,
    different: Vec<String>,
}

/// Reads the first events of the workload.
async fn read_back(api: &Api, workload: &Arc<Workload>, events: usize) -> Result<Read, String> {
    let unique = u32::try_from(events).unwrap_or(u32::MAX);
    let mut readers = JoinSet::new();
    for first in 0..READS {
        let (api, workload) = (api.clone(), Arc::clone(workload));
        readers.spawn(async move {
            let mut read = Read::default();
            for number in (first..unique).step_by(READS as usize) {
                let key = workload.key(number);
                let name = format!("{}/{}", key.topic, key.event_id);
                let deadline = Instant::now() + AWAY_MAX;
                match patiently(deadline, || api.event(&key)).await? {
                    None => read.missing.push(name),
                    Some(stored) => {
                        read.different.extend(
                            differs(&workload.event(number), &stored)
                                .map(|field| format!("{name}: {field}")),
                        );
                    }
                }
            }
            Ok::<_, String>(read)
        });
    }
    let mut all = Read::default();
    while let Some(read) = readers.join_next().await {
        let read = read.map_err(|error| format!("a reader has ended early: {error}"))??;
        all.missing.extend(read.missing);
        all.different.extend(read.different);
    }
    Ok(all)
}

/// The first field in which the stored event is not what was sent.
fn differs(sent: &Value, stored: &Value) -> Option<&'static str> {
    let differs = |field: &&'static str| match *field {
        "timestamp" => instant(&sent["timestamp"]) != instant(&stored["timestamp"]),
        field => sent[field] != stored[field],
    };
    ["topic", "event_id", "timestamp", "source", "payload"]
        .into_iter()
        .find(|field| differs(field))
}

/// A timestamp in UTC without the zeros at the end of its fraction.
fn instant(value: &Value) -> Option<&str> {
    let text = value.as_str()?.strip_suffix('Z')?;
    Some(match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_same_instant_and_value_is_no_difference() {
        let sent = json!({"topic": "t", "event_id": "1", "timestamp": "2026-01-01T00:00:00.500Z",
            "source": "s", "payload": {"a": 1.5, "b": [null]}});
        let mut stored = json!({"topic": "t", "event_id": "1", "timestamp": "2026-01-01T00:00:00.500000Z",
            "source": "s", "payload": {"b": [null], "a": 1.5}, "processed_at": "x"});
        assert_eq!(differs(&sent, &stored), None);
        stored["payload"]["a"] = json!(2);
        assert_eq!(differs(&sent, &stored), Some("payload"));
    }
}
