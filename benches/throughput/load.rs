//! The load generator: connections that publish one request after the other, in one thread, and the
//! account of what was answered. Used by `rounds`, `subscribers` and `peers`.

use crate::{
    events::Source,
    meters::{Cpu, Meters},
    pace::{self, Beats},
    wire::{Protocol, Wire},
};
use anyhow::{Result, ensure};
use std::{
    iter,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

/// After an answer that is not 200; enough to end a storm of them, and of no weight in a sound run.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

/// How a service is asked to store events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) protocol: Protocol,
    pub(crate) connections: u32,
    /// Events in one request; 1 publishes single events.
    pub(crate) batch: u64,
    /// Requests a second over all connections; `None` as fast as answers come.
    pub(crate) pace: Option<f64>,
}

/// When to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) warmup: Duration,
    pub(crate) measured: Duration,
}

/// What was answered, warm-up and end included.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) answered: u64,
    pub(crate) stored: u64,
    pub(crate) failures: u64,
    pub(crate) first_failure: Option<String>,
    /// Of requests and of their answers, heads and bodies; counted for HTTP only.
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) requests: Vec<Request>,
}

/// A request that was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// The number of its first event; without repeats the others follow it.
    pub(crate) first: u64,
    pub(crate) sent: Instant,
    pub(crate) done: Instant,
}

/// What the measured time brought.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) events: u64,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Cpu,
    /// Of each request answered, in ascending order.
    pub(crate) latencies_us: Vec<u32>,
}

impl Measured {
    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Publishes until the clock is over and every request is answered. The connections go round the
/// addresses.
pub(crate) async fn run(
    addresses: &[SocketAddr],
    shape: Shape,
    source: &Arc<Source>,
    clock: Clock,
    meters: Meters,
) -> Result<(Account, Measured)> {
    let mut connections = Vec::new();
    let places = addresses.iter().cycle();
    for (_, address) in (0..shape.connections).zip(places) {
        connections.push(Wire::open(shape.protocol, *address).await?);
    }
    let from = Instant::now() + clock.warmup;
    let until = from + clock.measured;
    let mut publishers = JoinSet::new();
    let beats = shape.pace.map(|pace| pace::start(pace, shape.connections));
    let beats = beats
        .into_iter()
        .flatten()
        .map(Some)
        .chain(iter::repeat_with(|| None));
    for (connection, beats) in connections.into_iter().zip(beats) {
        let publisher = Publisher {
            connection,
            beats,
            shape,
            source: Arc::clone(source),
            events: Vec::new(),
            first: 0,
            from,
            until,
            account: Account::default(),
            measured: Measured::default(),
        };
        publishers.spawn(publisher.run());
    }
    sleep_until(from.into()).await;
    let before = meters.read()?;
    sleep_until(until.into()).await;
    let cpu = meters.read()?.since(before);

    let mut account = Account::default();
    let mut measured = Measured {
        elapsed: clock.measured,
        cpu,
        ..Measured::default()
    };
    while let Some(publisher) = publishers.join_next().await {
        let publisher = publisher?;
        account.add(publisher.account);
        measured.events += publisher.measured.events;
        measured
            .latencies_us
            .extend(publisher.measured.latencies_us);
    }
    measured.latencies_us.sort_unstable();
    ensure!(
        measured.events > 0,
        "nothing was answered in the measured time"
    );
    Ok((account, measured))
}

impl Account {
    pub(crate) fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.stored += other.stored;
        self.failures += other.failures;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.requests.extend(other.requests);
        if self.first_failure.is_none() {
            self.first_failure = other.first_failure;
        }
    }
}

/// One connection, and what came of it.
struct Publisher {
    connection: Wire,
    /// Where it is paced.
    beats: Option<Beats>,
    shape: Shape,
    source: Arc<Source>,
    events: Vec<u8>,
    /// The number of the first of them.
    first: u64,
    from: Instant,
    until: Instant,
    account: Account,
    measured: Measured,
}

impl Publisher {
    async fn run(mut self) -> Self {
        let mut was_free = Instant::now();
        loop {
            self.prepare();
            let due = match &mut self.beats {
                Some(beats) => beats.recv().await,
                None => None,
            };
            let now = Instant::now();
            if now >= self.until {
                return self;
            }
            // How late this thread is to send it is no fault of the server. A request that the one before has
            // kept waiting counts from when it was due.
            let kept_waiting = due.filter(|due| *due < was_free);
            if let Err(error) = self.publish(kept_waiting.unwrap_or(now)).await {
                self.account.failures += 1;
                self.account
                    .first_failure
                    .get_or_insert_with(|| format!("{error:#}"));
                sleep(PAUSE_AFTER_FAILURE).await;
            }
            was_free = Instant::now();
        }
    }

    fn prepare(&mut self) {
        self.events.clear();
        if self.shape.batch == 1 {
            let event = self.source.draw();
            self.first = event.number();
            return self.connection.prepare(event, &mut self.events);
        }
        self.events.extend_from_slice(b"{\"events\":[");
        for place in 0..self.shape.batch {
            if place > 0 {
                self.events.push(b',');
            }
            let event = self.source.draw();
            if place == 0 {
                self.first = event.number();
            }
            event.write_json(&mut self.events);
        }
        self.events.extend_from_slice(b"]}");
        self.connection.prepare_batch(&self.events);
    }

    async fn publish(&mut self, sent: Instant) -> Result<()> {
        let events = self.shape.batch;
        self.account.stored += self.connection.publish(events).await?;
        let done = Instant::now();
        self.account.answered += events;
        let (sent_bytes, received_bytes) = self.connection.exchanged_bytes();
        self.account.sent_bytes += sent_bytes;
        self.account.received_bytes += received_bytes;
        self.account.requests.push(Request {
            first: self.first,
            sent,
            done,
        });
        if self.from <= done && done < self.until {
            self.measured.events += events;
            let latency_us = done.duration_since(sent).as_micros();
            self.measured
                .latencies_us
                .push(u32::try_from(latency_us).unwrap_or(u32::MAX));
        }
        Ok(())
    }
}
