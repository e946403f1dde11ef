//! Producers of a Redis Cluster's streams, with a book of what each was told: over HTTP with 202 as the
//! answer, and directly with `WAIT`. Used by `cluster`.

use super::ledger::{Answer, Key, Ledger};
use crate::support::{self, Client, ClusterPorts, RedisCluster, TestApp, eventually};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};

/// Two on each master, with the first name and the further ones as docs/integrations/redis.md has them.
pub(super) const STREAMS: usize = 6;
const SOON: Duration = Duration::from_secs(60);
const BATCH_EVENTS_MAX: u64 = 20;
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How long a producer waits for a replica to have what it has appended.
const WAIT_MS: u64 = 500;

pub(super) fn streams() -> Vec<String> {
    let name = |number| match number {
        0 => "oncelog:events".to_owned(),
        number => format!("oncelog:events:{{{number}seg}}"),
    };
    (0..STREAMS).map(name).collect()
}

/// Producers that go on until they are told to stop: over HTTP, which answers 202, and directly.
#[derive(Default)]
pub(super) struct Appends {
    book: Arc<Book>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
pub(super) struct Book {
    pub(super) ledger: Ledger,
    over_http: AtomicU64,
    directly: AtomicU64,
    stop: AtomicBool,
}

impl Appends {
    pub(super) fn start(seed: u64, cluster: &RedisCluster, apps: &[&TestApp]) -> Self {
        let mut appends = Self::default();
        for (number, app) in (0..).zip(apps) {
            let keys = Keys::new(seed + number, "http");
            let queueing = Arc::clone(&appends.book).queue(app.client(), keys);
            appends.tasks.spawn(queueing);
        }
        let keys = Keys::new(seed, "redis");
        let appending = Arc::clone(&appends.book).append(cluster.ports(), keys);
        appends.tasks.spawn(appending);
        appends
    }

    /// Waits until each way has taken so many more events.
    pub(super) async fn events(&self, more: u64) {
        let goals = self.counts().map(|count| count + more);
        eventually("producers go on", SOON, async || {
            let now = self.counts();
            now.iter().zip(goals).all(|(now, goal)| *now >= goal)
        })
        .await;
    }

    /// Waits until so many more events have been answered 202.
    pub(super) async fn queued(&self, more: u64) {
        let count = || self.book.over_http.load(Ordering::Relaxed);
        let goal = count() + more;
        eventually("publishes are queued", SOON, async || count() >= goal).await;
    }

    /// Events answered 202 so far, and events appended directly and known to a replica.
    pub(super) fn counts(&self) -> [u64; 2] {
        [&self.book.over_http, &self.book.directly].map(|count| count.load(Ordering::Relaxed))
    }

    /// Answers so far that a producer had to send again after, by their status.
    pub(super) fn refusals(&self) -> BTreeMap<u16, u64> {
        self.book.ledger.refusals()
    }

    pub(super) async fn finish(mut self) -> Arc<Book> {
        self.book.stop.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.expect("a producer panicked");
        }
        self.book
    }
}

impl Book {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn queue(self: Arc<Self>, client: Client, mut keys: Keys) {
        while !self.is_stopped() {
            let keys = keys.next();
            let events: Vec<Value> = keys.iter().map(Key::event).collect();
            let body = json!({ "events": events });
            let answer = loop {
                self.ledger.attempt(&keys);
                let request = client
                    .request(Method::POST, "/publish/batch")
                    .header("prefer", "respond-async");
                let answer = support::Answer::of(request.json(&body)).await;
                match answer.status {
                    202 => break Answer::Queued,
                    // The cluster took too long, and the database did not.
                    200 => break Answer::Committed,
                    503 => {
                        self.ledger.refused(503);
                        sleep(RETRY_PAUSE).await;
                    }
                    other => panic!("{other}: {}", answer.text),
                }
            };
            self.ledger.answer(&keys, answer);
            if answer == Answer::Queued {
                let events = keys.len() as u64;
                self.over_http.fetch_add(events, Ordering::Relaxed);
            }
            // Some hundred events a second: the faults are the point, not the load.
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn append(self: Arc<Self>, ports: ClusterPorts, mut keys: Keys) {
        let streams = streams();
        for stream in streams.iter().cycle() {
            if self.is_stopped() {
                return;
            }
            let keys = keys.next();
            loop {
                self.ledger.attempt(&keys);
                let (ports, stream, sent) = (ports.clone(), stream.clone(), keys.clone());
                // As a producer does that waits for a replica, on the connection that has written.
                let append = move || replicas(&ports, &stream, &sent);
                if tokio::task::spawn_blocking(append).await.unwrap() > 0 {
                    break;
                }
                if self.is_stopped() {
                    return;
                }
                sleep(RETRY_PAUSE).await;
            }
            self.ledger.answer(&keys, Answer::Queued);
            self.directly
                .fetch_add(keys.len() as u64, Ordering::Relaxed);
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Appends to one stream and says how many replicas have it, too.
fn replicas(ports: &ClusterPorts, stream: &str, keys: &[Key]) -> u64 {
    let Some(mut connection) = ports.connect(stream) else {
        return 0;
    };
    let mut entries = redis::pipe();
    for key in keys {
        let entry = entries.cmd("XADD").arg(stream).arg("*");
        entry.arg("event").arg(key.event().to_string()).ignore();
    }
    let appended = entries.query::<()>(&mut connection);
    let mut wait = redis::cmd("WAIT");
    let wait = wait.arg(1).arg(WAIT_MS);
    let counted = appended.and_then(|()| wait.query(&mut connection));
    counted.unwrap_or(0)
}

/// Keys of one producer, some of them again and again.
struct Keys {
    random: StdRng,
    name: String,
    sent: u64,
}

impl Keys {
    fn new(seed: u64, name: &str) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            name: format!("{name}-{seed}"),
            sent: 0,
        }
    }

    fn next(&mut self) -> Vec<Key> {
        let count = self.random.random_range(1..=BATCH_EVENTS_MAX);
        let keys = (0..count).map(|_| {
            if self.sent == 0 || self.random.random_bool(0.7) {
                self.sent += 1;
            }
            Key {
                topic: format!("topic-{}", self.sent % 5),
                event_id: format!("{}-{}", self.name, self.sent),
            }
        });
        keys.collect()
    }
}
