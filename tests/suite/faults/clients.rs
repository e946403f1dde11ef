//! Everybody who uses a service of several replicas at one time, through their balancer: a load of
//! singles and batches, a producer that appends to the stream, rivals who send different events under
//! one id, and a subscriber. Used by `balanced` and `upgrade`.

use super::{
    Allowance, assert_the_accounts_agree,
    broker::Producer,
    ledger::{Answer, Key, Ledger},
    load::{BATCH_EVENTS_MAX, Load},
};
use crate::support::{Balancer, Client, RedisServer, Subscriber, TestApp, eventually};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(30);
/// A subscriber changes its connection at the latest then.
const STAY: Duration = Duration::from_secs(2);
const SIDES: [&str; 2] = ["left", "right"];

/// Everybody, at work.
pub(super) struct Clients {
    load: Load,
    producer: Producer,
    stop: Arc<AtomicBool>,
    total: Arc<AtomicUsize>,
    rivals: JoinHandle<Rivals>,
    subscriber: JoinHandle<Vec<Key>>,
    start: String,
}

impl Clients {
    pub(super) async fn start(seed: u64, balancer: &Balancer, redis: &RedisServer) -> Self {
        let url = format!("http://{}", balancer.address());
        let first = Subscriber::open(&balancer.client(), "").await;
        let start = first.last_event_id().to_owned();
        let (stop, total) = (Arc::default(), Arc::new(AtomicUsize::new(usize::MAX)));
        let subscriber = follow(balancer.client(), start.clone(), Arc::clone(&total));
        Self {
            load: Load::start(seed, 8, vec![url]),
            producer: Producer::start(seed, redis.url()),
            rivals: tokio::spawn(quarrel(balancer.client(), Arc::clone(&stop))),
            subscriber: tokio::spawn(subscriber),
            stop,
            total,
            start,
        }
    }

    /// Waits until all of them have got somewhat further.
    pub(super) async fn go_on(&self) {
        self.load.answers(60).await;
        self.producer.entries(20).await;
    }

    /// Ends them, and holds what they were told against the table and against each replica.
    pub(super) async fn finish(self, replicas: &[&TestApp], balancer: &Balancer) {
        self.go_on().await;
        self.stop.store(true, Ordering::SeqCst);
        let over_http = self.load.finish().await;
        let through_redis = self.producer.finish().await;
        let rivals = timeout(PATIENCE, self.rivals).await.unwrap().unwrap();
        let mut refusals = over_http.refusals();
        for (status, count) in rivals.ledger.refusals() {
            *refusals.entry(status).or_default() += count;
        }
        eprintln!(
            "answers other than success: {refusals:?}; the first: {:#?}",
            over_http.first_errors()
        );
        eprintln!(
            "the balancer's second attempts: {}",
            balancer.attempts().lines().count()
        );
        // What a client has to send again is a 503 or a lost connection.
        assert!(refusals.keys().all(|&status| status == 503), "{refusals:?}");

        let quarrels = rivals.ledger.sums().attempts;
        over_http.absorb(&rivals.ledger);
        let sent_again = sent_again_by(balancer);
        // What was queued, or appended directly, the broker may have delivered once more than it was sent.
        let queued = over_http.sums().queued + through_redis.sums().attempts;
        over_http.absorb(&through_redis);
        let allowance = Allowance {
            redelivered_max: sent_again + queued,
            conflicts_max: quarrels + sent_again,
            ..Allowance::default()
        };
        assert_the_accounts_agree(replicas[0], &over_http, allowance).await;
        for replica in &replicas[1..] {
            let stats = replica.assert_counters_are_exact().await;
            let first = replicas[0].stats().await;
            for count in [
                "received_count",
                "unique_processed_count",
                "duplicate_dropped_count",
                "conflict_count",
                "topics_count",
            ] {
                assert_eq!(stats[count], first[count], "{count}");
            }
        }

        let log = whole_log(&balancer.client(), &self.start).await;
        self.total.store(log.len(), Ordering::SeqCst);
        let seen = timeout(PATIENCE, self.subscriber).await;
        let seen = seen.expect("the subscriber sees all").unwrap();
        assert_eq!(seen.len(), log.len(), "each once");
        assert!(seen == log, "in the order of storing");
        let rows = replicas[0].database().rows().await;
        assert_eq!(i64::try_from(log.len()).unwrap(), rows);

        assert_the_first_one_stays(replicas, &rivals).await;
    }
}

/// Events that the balancer itself sent to a replica once more, at most: what its log says of attempts.
fn sent_again_by(balancer: &Balancer) -> u64 {
    let log = balancer.attempts();
    let events = log.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let events = match line["path"].as_str().unwrap() {
            "/publish" => 1,
            "/publish/batch" => u64::from(BATCH_EVENTS_MAX),
            _ => 0,
        };
        // One status for each replica that was asked: "502, 200", and "503 : 200" behind a second location.
        let statuses = line["replica_statuses"].as_str().unwrap();
        let attempts = statuses.split([',', ':']).count() as u64;
        (attempts - 1) * events
    });
    events.sum()
}

/// Reads on from the last event that it has seen, on a new connection each time, until it has so many.
async fn follow(client: Client, start: String, total: Arc<AtomicUsize>) -> Vec<Key> {
    let mut place = start;
    let mut seen = Vec::new();
    while seen.len() < total.load(Ordering::SeqCst) {
        let Ok(mut subscriber) = Subscriber::try_open(&client, "", Some(&place)).await else {
            sleep(RETRY_PAUSE).await;
            continue;
        };
        // Until it is cut off by a replica's end, or for so long.
        let _ = timeout(STAY, async {
            while let Some(event) = subscriber.next().await {
                seen.push(key_of(&event));
                if seen.len() >= total.load(Ordering::SeqCst) {
                    return;
                }
            }
        })
        .await;
        subscriber.last_event_id().clone_into(&mut place);
    }
    seen
}

/// Everything after a place, in pages.
async fn whole_log(client: &Client, start: &str) -> Vec<Key> {
    let mut log = Vec::new();
    let mut place = start.to_owned();
    loop {
        let path = format!("/events?order=asc&limit=1000&cursor={place}");
        let page = client.get(&path).await.ok();
        let events = page["events"].as_array().unwrap();
        if events.is_empty() {
            return log;
        }
        log.extend(events.iter().map(key_of));
        page["next_cursor"].as_str().unwrap().clone_into(&mut place);
    }
}

fn key_of(event: &Value) -> Key {
    let text = |name: &str| event[name].as_str().unwrap().to_owned();
    Key {
        topic: text("topic"),
        event_id: text("event_id"),
    }
}

/// What two rivals have sent, and who was told to be the first.
struct Rivals {
    ledger: Ledger,
    client: Client,
    keys: Vec<(Key, Option<usize>)>,
}

async fn quarrel(client: Client, stop: Arc<AtomicBool>) -> Rivals {
    let mut rivals = Rivals {
        ledger: Ledger::default(),
        client,
        keys: Vec::new(),
    };
    while !stop.load(Ordering::SeqCst) {
        let key = Key {
            topic: "rivals".to_owned(),
            event_id: rivals.keys.len().to_string(),
        };
        let told = tokio::join!(rivals.publish(&key, 0), rivals.publish(&key, 1));
        let first = match told {
            // It was queued, and may come later than the other one.
            (None, _) | (_, None) => None,
            (Some(left), Some(right)) => {
                assert_ne!(left, right, "{key:?}: one conflict of two");
                Some(usize::from(left))
            }
        };
        rivals.keys.push((key, first));
    }
    rivals
}

impl Rivals {
    /// Sends one side's event until it is answered; whether it was told to be a conflict.
    async fn publish(&self, key: &Key, side: usize) -> Option<bool> {
        let keys = std::slice::from_ref(key);
        loop {
            self.ledger.attempt(keys);
            let answer = self.client.try_publish(&says(key, side)).await;
            match answer {
                Ok(answer) if answer.status == 200 => {
                    self.ledger.answer(keys, Answer::Committed);
                    let outcome = answer.json()["outcome"].as_str().unwrap().to_owned();
                    match outcome.as_str() {
                        "stored" => self.ledger.stored(key),
                        "conflict" => self.ledger.conflict(),
                        _ => {}
                    }
                    return Some(outcome == "conflict");
                }
                Ok(answer) if answer.status == 202 => {
                    self.ledger.answer(keys, Answer::Queued);
                    return None;
                }
                Ok(answer) => self.ledger.refused(answer.status),
                Err(error) => self.ledger.error(format!("{error:?}")),
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// The two sides differ in their source.
fn says(key: &Key, side: usize) -> Value {
    let mut event = key.event();
    event["source"] = json!(SIDES[side]);
    event
}

/// Sends both sides' events to each replica once more.
async fn assert_the_first_one_stays(replicas: &[&TestApp], rivals: &Rivals) {
    let keys = &rivals.keys[rivals.keys.len().saturating_sub(30)..];
    let mut winners = HashSet::new();
    for (key, first) in keys {
        let path = format!("/events/{}/{}", key.topic, key.event_id);
        let stored = replicas[0].get(&path).await.ok();
        let winner = SIDES.iter().position(|side| stored["source"] == *side);
        let winner = winner.unwrap();
        assert!(
            first.is_none_or(|first| first == winner),
            "{key:?}: {stored}"
        );
        winners.insert(winner);
        for replica in replicas {
            for side in [0, 1] {
                let told = replica.publish(&says(key, side)).await.ok();
                let right = if side == winner {
                    "duplicate"
                } else {
                    "conflict"
                };
                assert_eq!(told["outcome"], right, "{key:?}");
            }
        }
    }
    assert!(!winners.is_empty(), "nobody has quarrelled");
}

/// Waits until a replica has answered publishes since it was started.
pub(super) async fn takes_part(replica: &TestApp) {
    eventually("the replica gets its share", PATIENCE, async || {
        let metrics = replica.get("/metrics").await.text;
        let line = metrics.lines().find(|line| {
            line.starts_with("oncelog_http_requests_total{route=\"/publish\"")
                && line.contains("200")
        });
        line.is_some_and(|line| !line.ends_with(" 0"))
    })
    .await;
}
