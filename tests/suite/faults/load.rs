//! A load over HTTP: singles and batches with repeats, seeded, from several clients at a time. Every
//! send is repeated until it is answered, as a producer does.

use super::ledger::{Answer, Key, Ledger};
use crate::support::http_client;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};

const TOPICS: u32 = 8;
pub(super) const BATCH_EVENTS_MAX: u32 = 40;
const REPEATS: f64 = 0.3;
/// Before a send that was not answered is repeated.
const RETRY_PAUSE_MS: std::ops::Range<u64> = 5..60;
/// A client that has had no answer for that long gives the request up; the server promises 10 s.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(12);

/// A load that goes on until it is stopped.
pub(crate) struct Load {
    pub(crate) ledger: Arc<Ledger>,
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts so many clients against the servers, each of which it uses in turn.
    pub(crate) fn start(seed: u64, clients: u64, urls: Vec<String>) -> Self {
        Self::start_paced(seed, clients, urls, Duration::ZERO)
    }

    /// The same with so long a pause after each client's request: what runs for hours must not fill
    /// the disk.
    pub(crate) fn start_paced(seed: u64, clients: u64, urls: Vec<String>, pause: Duration) -> Self {
        let mut load = Self {
            ledger: Arc::default(),
            answered: Arc::default(),
            stop: Arc::default(),
            clients: JoinSet::new(),
        };
        for number in 0..clients {
            let client = Client {
                http: http_client().timeout(CLIENT_TIMEOUT).build().unwrap(),
                urls: urls.clone(),
                random: StdRng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(number)),
                name: format!("{seed}-{number}"),
                pause,
                sent: 0,
                ledger: Arc::clone(&load.ledger),
            };
            let (answered, stop) = (Arc::clone(&load.answered), Arc::clone(&load.stop));
            load.clients.spawn(client.run(answered, stop));
        }
        load
    }

    /// Requests answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests have been answered.
    pub(crate) async fn answers(&self, more: u64) {
        self.answers_beyond(self.answered() + more - 1).await;
    }

    /// Waits until more requests than these have been answered since the start.
    pub(crate) async fn answers_beyond(&self, count: u64) {
        crate::support::eventually("the load goes on", Duration::from_secs(60), async || {
            self.answered() > count
        })
        .await;
    }

    /// Lets every client finish the send that it is at.
    pub(crate) async fn finish(mut self) -> Arc<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.expect("a client of the load panicked");
        }
        self.ledger
    }
}

struct Client {
    http: reqwest::Client,
    urls: Vec<String>,
    random: StdRng,
    name: String,
    pause: Duration,
    sent: u64,
    ledger: Arc<Ledger>,
}

impl Client {
    async fn run(mut self, answered: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            let is_single = self.random.random_bool(0.6);
            let count = if is_single {
                1
            } else {
                self.random.random_range(1..=BATCH_EVENTS_MAX)
            };
            let keys: Vec<Key> = (0..count).map(|_| self.key()).collect();
            while !self.send(&keys, is_single).await {
                let pause = self.random.random_range(RETRY_PAUSE_MS);
                sleep(Duration::from_millis(pause)).await;
            }
            answered.fetch_add(1, Ordering::Relaxed);
            if !self.pause.is_zero() {
                sleep(self.pause).await;
            }
        }
    }

    /// A new key, or one of the latest, of this client or of its neighbour.
    fn key(&mut self) -> Key {
        let number = if self.sent > 0 && self.random.random_bool(REPEATS) {
            self.sent - self.random.random_range(0..self.sent.min(50))
        } else {
            self.sent += 1;
            self.sent
        };
        let topic = number % u64::from(TOPICS);
        Key {
            topic: format!("topic-{topic}"),
            event_id: format!("{}-{number}", self.name),
        }
    }

    /// One attempt; whether it was answered for good.
    async fn send(&mut self, keys: &[Key], is_single: bool) -> bool {
        let url = &self.urls[self.random.random_range(0..self.urls.len())];
        let request = if is_single {
            let url = format!("{url}/publish");
            self.http.post(url).json(&keys[0].event())
        } else {
            let events: Vec<Value> = keys.iter().map(Key::event).collect();
            let url = format!("{url}/publish/batch");
            self.http.post(url).json(&json!({ "events": events }))
        };
        self.ledger.attempt(keys);
        let answer = match request.send().await {
            Ok(response) => {
                let status = response.status();
                response.text().await.map(|body| (status, body))
            }
            Err(error) => Err(error),
        };
        match answer {
            Ok((StatusCode::OK, body)) => {
                self.committed(keys, is_single, &body);
                true
            }
            Ok((StatusCode::ACCEPTED, _)) => {
                self.ledger.answer(keys, Answer::Queued);
                true
            }
            Ok((status, body)) => {
                self.ledger.answer(keys, Answer::Unknown);
                self.ledger.error(format!("{status}: {body}"));
                self.ledger.refused(status.as_u16());
                assert!(
                    status.is_server_error(),
                    "a good request was refused: {status} {body}"
                );
                false
            }
            Err(error) => {
                self.ledger.answer(keys, Answer::Unknown);
                self.ledger.error(format!("{error:?}"));
                false
            }
        }
    }

    fn committed(&self, keys: &[Key], is_single: bool, body: &str) {
        self.ledger.answer(keys, Answer::Committed);
        let body: Value = serde_json::from_str(body).expect("an answer is JSON");
        if is_single {
            match body["outcome"].as_str() {
                Some("stored") => self.ledger.stored(&keys[0]),
                Some("duplicate") => {}
                _ => self.ledger.conflict(),
            }
            return;
        }
        let number = |name: &str| body[name].as_u64().expect("a count is a number");
        assert_eq!(number("count"), keys.len() as u64);
        assert_eq!(number("stored") + number("duplicates"), keys.len() as u64);
        self.ledger.stored_in_batch(number("stored"));
        if number("conflicts") > 0 {
            self.ledger.conflict();
        }
    }
}
