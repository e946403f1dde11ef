//! Workload subscribers: how fast a subscriber of `GET /events/stream` sees what is published, how fast it
//! reads what is there when nobody publishes, and what a thousand idle ones cost. Used by `main`.
#![expect(clippy::print_stderr, reason = "progress goes there")]

use crate::{
    load::{self, Account, Measured, Shape},
    meters::{self, Meters},
    report::{median, milliseconds, percentile_us, thousands, us_per_event},
    rounds::{Backend, Lab},
    servers::Oncelog,
    stream::{Seen, Stream},
};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

const KEEPS_UP_RATE: f64 = 50_000.0;
const DELIVERY_P99_MS_MAX: f64 = 200.0;
/// Events that a subscriber finds when it comes.
const BACKLOG_EVENTS_MIN: u64 = 300_000;
const IDLE_SUBSCRIBERS: usize = 1000;
const IDLE_MB_MAX: f64 = 50.0;
const IDLE_SLOWDOWN_MAX: f64 = 0.05;
/// After the last answer; a subscriber that has not seen everything by then never will.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(30);
/// Until the memory of the streams is read: they are answered, and the server has come to rest.
const REST: Duration = Duration::from_millis(500);

/// A round with one subscriber that sees every event.
struct Followed {
    published: f64,
    seen: f64,
    /// Events that were answered and not yet seen when the last answer came.
    behind: f64,
    /// From the last answer to the last event.
    rest_us: f64,
    /// From the sending of an event to its sight, of those that were answered in the measured time.
    delivery: Measured,
}

/// A round with idle subscribers, or without.
struct Idle {
    rate: f64,
    /// Of server and Postgres, for an event.
    cpu_us: f64,
    memory_mb: f64,
}

pub(crate) async fn measure(lab: &mut Lab, shape: Shape) -> Result<Vec<String>> {
    let mut lines = vec![
        "\n| one subscriber, batches of 1000 | published events/s | seen events/s | behind at the last answer, events \
         | last event after it, ms | sent to seen, p50 / p99 ms | goal |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    let full = followed(lab, shape, KEEPS_UP_RATE).await?;
    let published = median_of(&full, |round| round.published);
    let seen = median_of(&full, |round| round.seen);
    lines.push(show_followed(
        &format!("at {} events/s", thousands(KEEPS_UP_RATE)),
        &full,
        &format!(
            "sees {} events/s {}",
            thousands(KEEPS_UP_RATE),
            verdict(seen >= KEEPS_UP_RATE * 0.99)
        ),
    ));
    let half = followed(lab, shape, published / 2.0).await?;
    let p99_ms = median_of(&half, |round| percentile_us(&round.delivery, 0.99)) / 1000.0;
    lines.push(show_followed(
        "at half the rate published above",
        &half,
        &format!(
            "p99 under {DELIVERY_P99_MS_MAX} ms {}",
            verdict(p99_ms < DELIVERY_P99_MS_MAX)
        ),
    ));
    // Where the tables only grow, nobody knows what stands at the beginning.
    if lab.args.empties_tables() {
        lines.extend(backlog(lab, shape).await?);
    }
    lines.extend(idle(lab, shape).await?);
    Ok(lines)
}

/// All rounds at a pace.
async fn followed(lab: &mut Lab, mut shape: Shape, rate: f64) -> Result<Vec<Followed>> {
    shape.pace = Some(rate / shape.batch as f64);
    let mut rounds = Vec::new();
    for round in 1..=lab.args.rounds() {
        let followed = followed_round(lab, shape).await?;
        eprintln!(
            "subscribers {round}: {} published, {} seen, p99 {} ms",
            thousands(followed.published),
            thousands(followed.seen),
            milliseconds(percentile_us(&followed.delivery, 0.99))
        );
        rounds.push(followed);
    }
    Ok(rounds)
}

async fn followed_round(lab: &mut Lab, shape: Shape) -> Result<Followed> {
    let backend = blank(lab).await?;
    let before = lab.totals(&backend).await?;
    // A repeat is stored once, and would be seen once.
    let source = lab.source(0.0);
    let server = lab.start(&lab.args.server(), &backend, None).await?;
    let (tell, goal) = watch::channel(None);
    let stream = Stream::open(server.address, "/events/stream").await?;
    let follower = tokio::spawn(stream.follow(goal));
    let from = Instant::now() + lab.clock.warmup;
    let meters = meters_of(lab, &server);
    let (account, measured) =
        load::run(&[server.address], shape, &source, lab.clock, meters).await?;
    tell.send_replace(Some(usize::try_from(account.stored)?));
    let seen = timeout(CATCH_UP_TIME_MAX, follower)
        .await
        .context("the subscriber does not catch up")???;
    let log = server.log_text();
    server.stop().await?;
    let after = lab.totals(&backend).await?;
    lab.check(before, after, &account, &log);
    evaluate(&account, &measured, shape, from, seen)
}

fn evaluate(
    account: &Account,
    measured: &Measured,
    shape: Shape,
    from: Instant,
    mut seen: Vec<Seen>,
) -> Result<Followed> {
    let until = from + measured.elapsed;
    let last_answer = account.requests.iter().map(|request| request.done).max();
    let last_answer = last_answer.context("nothing was answered")?;
    let seen_in_time = seen
        .iter()
        .filter(|seen| from <= seen.at && seen.at < until);
    let seen_rate = seen_in_time.count() as f64 / measured.elapsed.as_secs_f64();
    let behind = seen.iter().filter(|seen| seen.at > last_answer).count();
    let last_seen = seen.last().context("nothing was seen")?.at;

    ensure!(
        is_each_once(account, shape, &mut seen),
        "the subscriber missed or repeated an event"
    );
    let mut latencies_us = Vec::new();
    for request in &account.requests {
        if request.done < from || request.done >= until {
            continue;
        }
        let first = seen.partition_point(|seen| seen.number < request.first);
        let events = seen.get(first..first + usize::try_from(shape.batch)?);
        for seen in events.context("an answered event was not seen")? {
            let latency = seen.at.saturating_duration_since(request.sent);
            latencies_us.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        }
    }
    latencies_us.sort_unstable();
    Ok(Followed {
        published: measured.rate(),
        seen: seen_rate,
        behind: behind as f64,
        rest_us: last_seen
            .saturating_duration_since(last_answer)
            .as_secs_f64()
            * 1e6,
        delivery: Measured {
            latencies_us,
            ..Measured::default()
        },
    })
}

/// How fast one subscriber reads from the beginning, with nobody who publishes beside it.
async fn backlog(lab: &mut Lab, shape: Shape) -> Result<Vec<String>> {
    let mut rates = Vec::new();
    for round in 1..=lab.args.rounds() {
        let rate = backlog_round(lab, shape).await?;
        eprintln!("subscribers, backlog {round}: {} seen", thousands(rate));
        rates.push(rate);
    }
    let low = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let high = rates.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let rate = median(rates);
    Ok(vec![
        "\n| one subscriber, from the beginning, nobody publishes | seen events/s (min to max) | goal |"
            .to_owned(),
        "| --- | --- | --- |".to_owned(),
        format!(
            "| {} events or more, stored in batches of 1000 | {} ({} to {}) | {} {} |",
            thousands(BACKLOG_EVENTS_MIN as f64),
            thousands(rate),
            thousands(low),
            thousands(high),
            thousands(KEEPS_UP_RATE),
            verdict(rate >= KEEPS_UP_RATE),
        ),
    ])
}

async fn backlog_round(lab: &mut Lab, shape: Shape) -> Result<f64> {
    let backend = blank(lab).await?;
    let before = lab.totals(&backend).await?;
    let source = lab.source(0.0);
    let server = lab.start(&lab.args.server(), &backend, None).await?;
    let mut account = Account::default();
    while account.stored < BACKLOG_EVENTS_MIN {
        let meters = meters_of(lab, &server);
        let (more, _) = load::run(&[server.address], shape, &source, lab.clock, meters).await?;
        account.add(more);
    }
    let goal = usize::try_from(account.stored)?;
    sleep(REST).await;
    let (_tell, goal) = watch::channel(Some(goal));
    let began = Instant::now();
    let stream = Stream::open(server.address, "/events/stream?cursor=0-0").await?;
    let mut seen = stream.follow(goal).await?;
    let elapsed = began.elapsed();
    let log = server.log_text();
    server.stop().await?;
    let after = lab.totals(&backend).await?;
    lab.check(before, after, &account, &log);
    ensure!(
        is_each_once(&account, shape, &mut seen),
        "the subscriber missed or repeated an event"
    );
    Ok(seen.len() as f64 / elapsed.as_secs_f64())
}

/// Whether every event that was answered was seen, each once; sorts them, too. A publisher draws numbers
/// that it does not send when its time is over, so some are missing in both.
fn is_each_once(account: &Account, shape: Shape, seen: &mut [Seen]) -> bool {
    let mut answered: Vec<u64> = account
        .requests
        .iter()
        .flat_map(|request| request.first..request.first + shape.batch)
        .collect();
    answered.sort_unstable();
    seen.sort_unstable_by_key(|seen| seen.number);
    answered.into_iter().eq(seen.iter().map(|seen| seen.number))
}

/// Rounds in turns without idle subscribers, with those of one topic, and with each of its own.
async fn idle(lab: &mut Lab, shape: Shape) -> Result<Vec<String>> {
    let one_topic: fn(usize) -> String = |_| "/events/stream?topic=idle".to_owned();
    let own_topics: fn(usize) -> String = |place| format!("/events/stream?topic=idle-{place}");
    let (mut without, mut one, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=lab.args.rounds() {
        without.push(idle_round(lab, shape, &[]).await?);
        let paths: Vec<String> = (0..IDLE_SUBSCRIBERS).map(one_topic).collect();
        one.push(idle_round(lab, shape, &paths).await?);
        let paths: Vec<String> = (0..IDLE_SUBSCRIBERS).map(own_topics).collect();
        own.push(idle_round(lab, shape, &paths).await?);
        eprintln!("subscribers, idle {round}");
    }
    let mut lines = vec![
        format!(
            "\n| {} idle subscribers, batches of 1000 as fast as they are answered | events/s without | with \
             | slowdown (min to max) | goal | server and Postgres, us/event without | with | their memory, MB | goal |",
            thousands(IDLE_SUBSCRIBERS as f64)
        ),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    lines.push(show_idle("of one topic", &without, &one));
    lines.push(show_idle("each of a topic of its own", &without, &own));
    Ok(lines)
}

async fn idle_round(lab: &mut Lab, shape: Shape, paths: &[String]) -> Result<Idle> {
    let backend = blank(lab).await?;
    let before = lab.totals(&backend).await?;
    let source = lab.source(lab.args.repeats);
    let server = lab.start(&lab.args.server(), &backend, None).await?;
    let mut streams = Vec::new();
    for path in paths {
        streams.push(Stream::open(server.address, path).await?);
    }
    sleep(REST).await;
    let (memory_mb, _) = meters::memory_mb(server.pid())?;
    let meters = meters_of(lab, &server);
    let (account, measured) =
        load::run(&[server.address], shape, &source, lab.clock, meters).await?;
    ensure!(
        streams.iter().all(Stream::is_open),
        "the server has ended an idle stream"
    );
    drop(streams);
    let log = server.log_text();
    server.stop().await?;
    let after = lab.totals(&backend).await?;
    lab.check(before, after, &account, &log);
    Ok(Idle {
        rate: measured.rate(),
        cpu_us: us_per_event(measured.cpu.server + measured.cpu.postgres, &measured),
        memory_mb,
    })
}

async fn blank(lab: &Lab) -> Result<Backend> {
    let backend = Backend::Postgres("service");
    if lab.args.empties_tables() {
        lab.make_blank(&backend).await?;
    }
    Ok(backend)
}

fn meters_of(lab: &Lab, server: &Oncelog) -> Meters {
    Meters {
        servers: vec![server.pid()],
        postgres: lab.postgres.pid(),
        pooler: None,
    }
}

fn show_followed(title: &str, rounds: &[Followed], goal: &str) -> String {
    format!(
        "| {title} | {} | {} | {} | {} | {} / {} | {goal} |",
        thousands(median_of(rounds, |round| round.published)),
        thousands(median_of(rounds, |round| round.seen)),
        thousands(median_of(rounds, |round| round.behind)),
        milliseconds(median_of(rounds, |round| round.rest_us)),
        milliseconds(median_of(rounds, |round| percentile_us(
            &round.delivery,
            0.5
        ))),
        milliseconds(median_of(rounds, |round| percentile_us(
            &round.delivery,
            0.99
        ))),
    )
}

fn show_idle(title: &str, without: &[Idle], with: &[Idle]) -> String {
    let pairs = || with.iter().zip(without);
    let slowdowns: Vec<f64> = pairs()
        .map(|(with, without)| 1.0 - with.rate / without.rate)
        .collect();
    let low = slowdowns.iter().copied().fold(f64::INFINITY, f64::min);
    let high = slowdowns.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let slowdown = median(slowdowns);
    let memory_mb = median(
        pairs()
            .map(|(with, without)| with.memory_mb - without.memory_mb)
            .collect(),
    );
    format!(
        "| {title} | {} | {} | {:.0} % ({:.0} to {:.0}) | at most {:.0} % {} | {:.1} | {:.1} | {memory_mb:.0} \
         | under {IDLE_MB_MAX} {} |",
        thousands(median(without.iter().map(|round| round.rate).collect())),
        thousands(median(with.iter().map(|round| round.rate).collect())),
        slowdown * 100.0,
        low * 100.0,
        high * 100.0,
        IDLE_SLOWDOWN_MAX * 100.0,
        verdict(slowdown <= IDLE_SLOWDOWN_MAX),
        median(without.iter().map(|round| round.cpu_us).collect()),
        median(with.iter().map(|round| round.cpu_us).collect()),
        verdict(memory_mb < IDLE_MB_MAX),
    )
}

fn median_of(rounds: &[Followed], value: fn(&Followed) -> f64) -> f64 {
    median(rounds.iter().map(value).collect())
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}
