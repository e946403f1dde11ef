//! Two who read everything from the first event on while a storm goes on: one follows the stream, one
//! asks for page after page. What they have seen is kept as sums: an hour's events are too many to keep.

use super::super::ledger::Key;
use crate::support::{Answer, Client, Subscriber, eventually};
use reqwest::Method;
use serde_json::Value;
use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::sleep};

const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Before the end of the log is looked at again.
const TAIL_PAUSE: Duration = Duration::from_millis(200);
/// For the readers to come to the end, if they come forward.
const READ_MAX: Duration = Duration::from_secs(3_600);
const PAGE_EVENTS: usize = 1_000;
/// In which a reader that is behind has to have come forward.
const STALL_MAX: Duration = Duration::from_secs(30);

/// What one reader has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    events: u64,
    /// Of the keys, whatever their order.
    sum: u64,
    /// Of the keys in their order.
    chain: u64,
}

impl Seen {
    fn add(&mut self, key: &Key) {
        let hash = hash(key);
        self.events += 1;
        self.sum = self.sum.wrapping_add(hash);
        self.chain = self::hash(&(self.chain, hash));
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// How far one reader is.
#[derive(Default)]
struct Progress {
    seen: Mutex<Seen>,
    /// Times that it had to begin again at its place.
    interruptions: Mutex<u64>,
}

impl Progress {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn interruptions(&self) -> MutexGuard<'_, u64> {
        let count = self.interruptions.lock();
        count.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both, until they are dropped.
pub(super) struct Readers {
    stream: Arc<Progress>,
    pages: Arc<Progress>,
    tasks: JoinSet<()>,
}

impl fmt::Display for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "read by stream {} (interrupted {} times), by pages {} (refused {} times)",
            self.stream.seen().events,
            self.stream.interruptions(),
            self.pages.seen().events,
            self.pages.interruptions()
        )
    }
}

impl Readers {
    pub(super) fn start(client: &Client) -> Self {
        let (stream, pages) = (Arc::default(), Arc::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(client.clone(), Arc::clone(&stream)));
        tasks.spawn(turn_pages(client.clone(), Arc::clone(&pages)));
        Self {
            stream,
            pages,
            tasks,
        }
    }

    /// Fails the test where one of them has found something wrong.
    pub(super) fn assert_are_content(&mut self) {
        if let Some(end) = self.tasks.try_join_next() {
            panic!("a reader has ended: {end:?}");
        }
    }

    /// Waits until both have seen as many events as there are, and fails the test where those are not the
    /// stored ones, each once, or not in the same order for both.
    pub(super) async fn assert_have_seen<'a>(&mut self, stored: impl Iterator<Item = &'a Key>) {
        let (mut events, mut sum) = (0, 0_u64);
        for key in stored {
            events += 1;
            sum = sum.wrapping_add(hash(key));
        }
        let mut before = (0, Instant::now());
        eventually("the readers have read it all", READ_MAX, async || {
            self.assert_are_content();
            let (stream, pages) = (self.stream.seen().events, self.pages.seen().events);
            if stream + pages > before.0 {
                before = (stream + pages, Instant::now());
            }
            let stalled = before.1.elapsed() > STALL_MAX;
            assert!(!stalled, "of {events} there came {stream} and {pages}");
            stream >= events && pages >= events
        })
        .await;
        // One more would come now.
        sleep(TAIL_PAUSE * 5).await;
        let (stream, pages) = (*self.stream.seen(), *self.pages.seen());
        for seen in [stream, pages] {
            assert_eq!((seen.events, seen.sum), (events, sum), "each once");
        }
        assert_eq!(stream.chain, pages.chain, "one order for both");
    }
}

/// A place in the log, as its cursor says; later ones are greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64, u64);

impl Place {
    fn of(cursor: &str) -> Self {
        let (txn, seq) = cursor.split_once('-').unwrap();
        Self(txn.parse().unwrap(), seq.parse().unwrap())
    }

    fn cursor(self) -> String {
        format!("{}-{}", self.0, self.1)
    }
}

fn key(event: &Value) -> Key {
    let text = |field: &str| event[field].as_str().unwrap().to_owned();
    Key {
        topic: text("topic"),
        event_id: text("event_id"),
    }
}

/// Follows the stream, and opens it again where it was whenever it is lost.
async fn follow(client: Client, progress: Arc<Progress>) {
    let mut place = Place::default();
    loop {
        let opened = Subscriber::try_open(&client, "", Some(&place.cursor())).await;
        if let Ok(mut subscriber) = opened {
            while let Some(event) = subscriber.next().await {
                let next = Place::of(subscriber.last_event_id());
                assert!(next > place, "{next:?} after {place:?}");
                place = next;
                progress.seen().add(&key(&event));
            }
        }
        *progress.interruptions() += 1;
        sleep(RETRY_PAUSE).await;
    }
}

/// Asks for page after page, and again for one that is refused.
async fn turn_pages(client: Client, progress: Arc<Progress>) {
    let mut place = Place::default();
    loop {
        let cursor = place.cursor();
        let path = format!("/events?order=asc&limit={PAGE_EVENTS}&cursor={cursor}");
        let answer = Answer::try_of(client.request(Method::GET, &path)).await;
        let page = match answer {
            Ok(answer) if answer.status == 200 => answer.json(),
            refused => {
                if let Ok(answer) = refused {
                    answer.problem(503);
                }
                *progress.interruptions() += 1;
                sleep(RETRY_PAUSE).await;
                continue;
            }
        };
        let events = page["events"].as_array().unwrap();
        for event in events {
            progress.seen().add(&key(event));
        }
        let next = Place::of(page["next_cursor"].as_str().unwrap());
        if events.is_empty() {
            assert_eq!(next, place, "an empty page leads nowhere");
        } else {
            assert!(next > place, "{next:?} after {place:?}");
        }
        place = next;
        if events.len() < PAGE_EVENTS {
            sleep(TAIL_PAUSE).await;
        }
    }
}
