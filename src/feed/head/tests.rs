//! Who is woken, when, and what it costs the database: on a log in memory that counts what it is asked.

use super::*;
use crate::{
    domain::{
        Event, EventId, EventPage, EventQuery, Payload, Source, StoredEvent, Timestamp, Topic,
    },
    feed::{Feed, FeedFilter, FeedSettings, Subscription},
    store::{CommitSignal, News, StoreFuture, TopicSummary, Totals},
};
use std::{
    pin::Pin,
    sync::{Mutex, MutexGuard},
};
use tokio::time::timeout;

/// No test waits for a poll of this length.
const NEVER: Duration = Duration::from_secs(24 * 3600);
/// Longer than anything takes on a machine that has much to do.
const ARRIVAL_MAX: Duration = Duration::from_secs(20);

/// A log of which all before its end is to be seen.
#[derive(Default)]
struct Log {
    commits: CommitSignal,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    events: Vec<StoredEvent>,
    end: i64,
    is_down: bool,
    pages_of: Vec<Option<Topic>>,
    ends: usize,
}

impl Log {
    fn up_to(end: i64) -> Arc<Self> {
        let log = Self::default();
        log.state().end = end;
        Arc::new(log)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn answer<T>(&self, read: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        let mut state = self.state();
        if state.is_down {
            return Err(StoreError::TimedOut("log"));
        }
        Ok(read(&mut state))
    }

    /// As a transaction of this number, and without a word of it.
    fn store(&self, txn: i64, topic: &str) {
        let event = Event::new(
            Topic::parse(topic.to_owned()).unwrap(),
            EventId::parse(format!("e-{txn}")).unwrap(),
            Timestamp::now(),
            Source::parse("s".to_owned()).unwrap(),
            Payload::parse("{}".to_owned()).unwrap(),
        );
        self.state().events.push(StoredEvent {
            event,
            is_payload_dropped: false,
            foreign_payload: None,
            processed_at: Timestamp::now(),
            cursor: Cursor { txn, seq: 0 },
        });
    }

    fn tell(&self, txn: i64, topic: &str) {
        self.commits.fire(&Commits {
            visible_at: Cursor { txn, seq: 0 },
            topics: TopicMarks::of([topic]),
        });
    }

    fn show_up_to(&self, end: i64) {
        self.state().end = end;
    }

    fn pages_of(&self, topic: &str) -> usize {
        let state = self.state();
        let topics = state.pages_of.iter().flatten();
        topics.filter(|asked| asked.as_str() == topic).count()
    }

    async fn until(&self, what: impl Fn(&State) -> bool) {
        let condition = async {
            while !what(&self.state()) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(ARRIVAL_MAX, condition).await.expect("it happens");
    }
}

impl State {
    fn seen_after(&self, after: Cursor, topic: Option<&Topic>) -> Vec<StoredEvent> {
        let mut events = self.events.clone();
        events.retain(|stored| {
            after < stored.cursor
                && stored.cursor.txn <= self.end
                && topic.is_none_or(|topic| topic == stored.event.topic())
        });
        events.sort_by_key(|stored| stored.cursor);
        events
    }

    fn end(&self) -> Cursor {
        Cursor {
            txn: self.end,
            seq: i64::MAX,
        }
    }
}

impl EventReader for Log {
    fn page<'a>(&'a self, query: &'a EventQuery) -> StoreFuture<'a, EventPage> {
        Box::pin(async move {
            self.answer(|state| {
                state.pages_of.push(query.topic.clone());
                let found = state.seen_after(query.after.unwrap(), query.topic.as_ref());
                EventPage::new(query, found, false)
            })
        })
    }

    fn end(&self) -> StoreFuture<'_, Cursor> {
        Box::pin(async {
            self.answer(|state| {
                state.ends += 1;
                state.end()
            })
        })
    }

    fn news<'a>(&'a self, topics: &'a [Topic], after: Cursor) -> StoreFuture<'a, News> {
        Box::pin(async move {
            self.answer(|state| News {
                topics: (0..topics.len())
                    .filter(|&number| !state.seen_after(after, Some(&topics[number])).is_empty())
                    .collect(),
                end: state.end(),
            })
        })
    }

    fn commits(&self) -> CommitSignal {
        self.commits.clone()
    }

    fn find<'a>(
        &'a self,
        _topic: &'a Topic,
        _event_id: &'a EventId,
    ) -> StoreFuture<'a, Option<StoredEvent>> {
        unreachable!("no feed asks for it")
    }

    fn topics<'a>(
        &'a self,
        _after: Option<&'a Topic>,
        _limit: u32,
    ) -> StoreFuture<'a, Vec<TopicSummary>> {
        unreachable!("no feed asks for it")
    }

    fn totals(&self) -> StoreFuture<'_, Totals> {
        unreachable!("no feed asks for it")
    }

    fn add_rejected(&self, _events: u64) -> StoreFuture<'_, ()> {
        unreachable!("no feed asks for it")
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        unreachable!("no feed asks for it")
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        unreachable!("no feed asks for it")
    }
}

fn feed(log: &Arc<Log>, poll: Duration) -> Feed {
    let settings = FeedSettings {
        subscribers_max: 100,
        reads_max: 2,
        poll,
    };
    let encode: fn(&mut Vec<u8>, &StoredEvent) = |out, stored| {
        out.extend_from_slice(stored.event.event_id().as_str().as_bytes());
        out.push(b' ');
    };
    Feed::new(Arc::clone(log) as Arc<dyn EventReader>, encode, settings)
}

/// A subscriber at the tail, whose shared reader has read and sleeps.
async fn follower(log: &Log, feed: &Feed, topic: Option<&str>) -> Subscription {
    let topic = topic.map(|topic| Topic::parse(topic.to_owned()).unwrap());
    let reads_before = log.state().pages_of.len();
    let filter = FeedFilter {
        topic,
        source: None,
    };
    let subscription = feed.subscribe(filter, None).await.unwrap();
    log.until(|state| state.pages_of.len() > reads_before).await;
    subscription
}

async fn next(subscription: &mut Subscription) -> String {
    let bytes = timeout(ARRIVAL_MAX, subscription.next()).await;
    let bytes = bytes.expect("the event comes").expect("the feed is open");
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn who_follows_another_topic_asks_the_database_nothing() {
    let log = Log::up_to(100);
    let feed = feed(&log, NEVER);
    let mut follower_of_a = follower(&log, &feed, Some("a")).await;
    let _follower_of_b = follower(&log, &feed, Some("b")).await;
    let mut follower_of_all = follower(&log, &feed, None).await;
    log.show_up_to(200);
    for txn in 101..110 {
        log.store(txn, "a");
        log.tell(txn, "a");
        assert_eq!(next(&mut follower_of_a).await, format!("e-{txn} "));
        assert_eq!(next(&mut follower_of_all).await, format!("e-{txn} "));
    }
    assert_eq!(log.pages_of("b"), 1, "the read at its start");
    let ends = log.state().ends;
    for txn in 110..120 {
        log.store(txn, "nobody's");
        log.tell(txn, "nobody's");
    }
    drop(follower_of_all);
    log.store(120, "a");
    log.tell(120, "a");
    assert_eq!(next(&mut follower_of_a).await, "e-120 ");
    assert!(log.state().ends > ends);
    assert_eq!(log.pages_of("b"), 1);
}

#[tokio::test]
async fn what_is_held_back_is_read_once_it_is_to_be_seen() {
    let log = Log::up_to(100);
    let feed = feed(&log, NEVER);
    let mut follower = follower(&log, &feed, Some("a")).await;
    log.store(102, "a");
    log.tell(102, "a");
    // Asked more than once: it comes back by itself.
    let ends = log.state().ends;
    log.until(|state| state.ends > ends + 1).await;
    assert_eq!(log.pages_of("a"), 1, "there is nothing to read yet");
    log.store(101, "b");
    log.show_up_to(102);
    assert_eq!(next(&mut follower).await, "e-102 ");
}

#[tokio::test]
async fn who_comes_before_it_is_to_be_seen_hears_of_it_as_well() {
    let log = Log::up_to(100);
    let feed = feed(&log, NEVER);
    log.store(102, "a");
    log.tell(102, "a");
    let mut late = follower(&log, &feed, Some("a")).await;
    log.store(101, "b");
    log.show_up_to(102);
    // Any word will do, of whatever topic.
    log.tell(101, "b");
    assert_eq!(next(&mut late).await, "e-102 ");
}

#[tokio::test]
async fn what_nobody_tells_of_comes_with_the_poll() {
    let log = Log::up_to(100);
    let feed = feed(&log, Duration::from_millis(20));
    let mut follower_of_a = follower(&log, &feed, Some("a")).await;
    let _follower_of_b = follower(&log, &feed, Some("b")).await;
    let mut follower_of_all = follower(&log, &feed, None).await;
    for txn in 101..105 {
        log.store(txn, "a");
        log.show_up_to(txn);
        assert_eq!(next(&mut follower_of_a).await, format!("e-{txn} "));
        assert_eq!(next(&mut follower_of_all).await, format!("e-{txn} "));
    }
    assert!(log.pages_of("b") <= 2, "at its start and at the first look");
}

#[tokio::test]
async fn an_outage_delays_and_loses_nothing() {
    let log = Log::up_to(100);
    let feed = feed(&log, Duration::from_millis(20));
    let mut follower = follower(&log, &feed, Some("a")).await;
    for txn in 101..105 {
        log.state().is_down = true;
        log.store(txn, "a");
        log.show_up_to(txn);
        log.tell(txn, "a");
        sleep(Duration::from_millis(30)).await;
        log.state().is_down = false;
        assert_eq!(next(&mut follower).await, format!("e-{txn} "));
    }
}

#[tokio::test]
async fn another_server_that_is_behind_is_followed_from_where_it_is() {
    let log = Log::up_to(100);
    let feed = feed(&log, Duration::from_millis(20));
    let mut follower = follower(&log, &feed, Some("a")).await;
    // Never to be seen here: its server is gone.
    log.tell(1_000_000, "a");
    // By its subscriber, and by the first look.
    log.until(|state| state.ends >= 2).await;
    let reads = log.pages_of("a");
    log.show_up_to(90);
    log.until(|state| state.pages_of.len() > reads).await;
    for txn in [150, 151] {
        log.store(txn, "a");
        log.show_up_to(txn);
        log.tell(txn, "a");
        assert_eq!(next(&mut follower).await, format!("e-{txn} "));
    }
}

#[test]
fn however_much_is_held_back_little_is_kept_and_nothing_is_forgotten() {
    let commits = |txn: i64| Commits {
        visible_at: Cursor { txn, seq: 0 },
        topics: TopicMarks::of([format!("t-{txn}").as_str()]),
    };
    let has = |topics: &TopicMarks, txn: i64| {
        let topic = Topic::parse(format!("t-{txn}")).unwrap();
        topics.has(crate::store::TopicMark::of(&topic))
    };
    let mut pending = Pending::default();
    for txn in 1..=1000 {
        pending.add(commits(txn));
    }
    assert_eq!(pending.0.len(), PENDING_MAX);
    let topics = pending.topics();
    assert!((1..=1000).all(|txn| has(&topics, txn)));
    let end = |txn| Cursor { txn, seq: i64::MAX };
    let seen = pending.take_visible_to(end(3));
    assert!((1..=3).all(|txn| has(&seen, txn)));
    assert_eq!(pending.0.len(), PENDING_MAX - 3);
    // The latest piece holds what came late, and waits for the last of it.
    let seen = pending.take_visible_to(end(999));
    assert!(!has(&seen, 1000) && !pending.is_visible_to(end(999)));
    pending.add(commits(1001));
    let seen = pending.take_visible_to(end(1000));
    assert!((16..=1000).all(|txn| has(&seen, txn)));
    assert!(has(&pending.topics(), 1001));
    assert!(pending.take_visible_to(end(1001)) != TopicMarks::none());
    assert!(pending.topics().is_empty());
}
