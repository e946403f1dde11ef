//! Reading: pages, single events, topics, dead letters.

use super::{Fixture, append, batch, event, open};
use crate::support::{Engine, PostgresServer, eventually};
use oncelog::{
    domain::{
        Cursor, Event, EventId, EventQuery, NewDeadLetter, Order, Payload, Source, Timestamp, Topic,
    },
    store::TopicMark,
};
use sqlx::{Connection, PgConnection};
use std::time::Duration;
use tokio::time::timeout;

/// Far longer than any other test's transaction is open.
const TAIL_MAX: Duration = Duration::from_secs(20);

/// Twenty events of three topics and two sources, a minute apart, in groups of different sizes.
async fn twenty_events(fixture: &Fixture) -> Vec<Event> {
    let events: Vec<Event> = (0..20)
        .map(|number| {
            Event::new(
                Topic::parse(format!("topic-{}", number % 3)).unwrap(),
                // Not in the order of storing.
                EventId::parse(format!("{:02}", (number * 7) % 20)).unwrap(),
                Timestamp::parse(&format!("2026-01-01T00:{number:02}:00Z")).unwrap(),
                Source::parse(format!("source-{}", number % 2)).unwrap(),
                Payload::parse(format!("{{\"n\":{number}}}")).unwrap(),
            )
        })
        .collect();
    let mut writer = fixture.writer().await;
    for group in [&events[..1], &events[1..8], &events[8..19], &events[19..]] {
        append(&mut *writer, &[batch(group.to_vec())]).await;
    }
    // Other tests' transactions in the same cluster hold the tail of an ascending walk back.
    let everything = EventQuery {
        order: Order::Ascending,
        ..EventQuery::default()
    };
    eventually("the tail is reached", TAIL_MAX, async || {
        let page = fixture.store.reader.page(&everything).await.unwrap();
        page.events.len() == events.len()
    })
    .await;
    events
}

/// Walks through all pages of a query.
async fn walk(fixture: &Fixture, mut query: EventQuery) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let page = fixture.store.reader.page(&query).await.unwrap();
        assert!(page.events.len() <= query.limit as usize);
        let is_end = page.events.is_empty() || page.next.is_none();
        events.extend(page.events.into_iter().map(|stored| stored.event));
        if is_end {
            return events;
        }
        query.after = page.next;
    }
}

async fn pages_of_every_size_and_filter_show_what_a_model_shows(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let events = twenty_events(&fixture).await;
    let minute = |minute: u32| Timestamp::parse(&format!("2026-01-01T00:{minute:02}:00Z")).ok();
    let topics = [None, Some(Topic::parse("topic-1").unwrap())];
    let sources = [None, Some(Source::parse("source-0").unwrap())];
    for (topic, source, (since, until), order, limit) in combinations(
        &topics,
        &sources,
        &[
            (None, None),
            (minute(5), None),
            (None, minute(12)),
            (minute(5), minute(12)),
        ],
    ) {
        let query = EventQuery {
            topic: topic.clone(),
            source: source.clone(),
            since,
            until,
            order,
            after: None,
            limit,
        };
        let mut expected: Vec<Event> = events
            .iter()
            .filter(|event| topic.as_ref().is_none_or(|topic| topic == event.topic()))
            .filter(|event| {
                source
                    .as_ref()
                    .is_none_or(|source| source == event.source())
            })
            .filter(|event| since.is_none_or(|since| event.timestamp() >= since))
            .filter(|event| until.is_none_or(|until| event.timestamp() < until))
            .cloned()
            .collect();
        if order == Order::Descending {
            expected.reverse();
        }
        assert_eq!(walk(&fixture, query.clone()).await, expected, "{query:?}");
    }
}

type Case = (
    Option<Topic>,
    Option<Source>,
    (Option<Timestamp>, Option<Timestamp>),
    Order,
    u32,
);

/// Every combination.
fn combinations(
    topics: &[Option<Topic>],
    sources: &[Option<Source>],
    times: &[(Option<Timestamp>, Option<Timestamp>)],
) -> Vec<Case> {
    let mut cases = Vec::new();
    for topic in topics {
        for source in sources {
            for &time in times {
                for order in [Order::Ascending, Order::Descending] {
                    for limit in [1, 7, 20, 1000] {
                        cases.push((topic.clone(), source.clone(), time, order, limit));
                    }
                }
            }
        }
    }
    cases
}

async fn who_follows_meets_what_is_stored_later_once(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut query = EventQuery {
        order: Order::Ascending,
        ..EventQuery::default()
    };
    let page = fixture.store.reader.page(&query).await.unwrap();
    assert_eq!((page.events.len(), page.next), (0, Some(Cursor::START)));
    let end = fixture.store.reader.end().await.unwrap();
    let events = twenty_events(&fixture).await;
    query.after = Some(end);
    let page = fixture.store.reader.page(&query).await.unwrap();
    assert_eq!(page.events.len(), events.len());
    query.after = page.next;
    let page = fixture.store.reader.page(&query).await.unwrap();
    assert_eq!((page.events.len(), page.next), (0, query.after));
}

async fn the_news_are_the_topics_that_have_something_between_a_place_and_the_end(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let reader = &fixture.store.reader;
    let topic = |name: &str| Topic::parse(name.to_owned()).unwrap();
    let topics = ["topic-0", "t\"'[]", "topic-2", "topic-0"].map(topic);
    let none = reader.news(&topics, Cursor::START).await.unwrap();
    assert!(none.topics.is_empty());
    twenty_events(&fixture).await;
    let sorted = |mut topics: Vec<usize>| {
        topics.sort_unstable();
        topics
    };
    let news = reader.news(&topics, none.end).await.unwrap();
    assert_eq!(sorted(news.topics), [0, 2, 3]);
    assert!(none.end < news.end);
    assert!(reader.news(&[], none.end).await.unwrap().topics.is_empty());

    let mut after = news.end;
    let mut writer = fixture.writer().await;
    append(&mut *writer, &[batch(vec![event("t\"'[]", "1", "")])]).await;
    // Others in the same cluster may hold the end back.
    let mut found = Vec::new();
    eventually("it is news", TAIL_MAX, async || {
        let news = reader.news(&topics, after).await.unwrap();
        after = news.end;
        found = news.topics;
        !found.is_empty()
    })
    .await;
    assert_eq!(found, [1]);
    let news = reader.news(&topics, after).await.unwrap();
    assert!(news.topics.is_empty(), "each is news once");
}

async fn a_commit_says_in_which_topics_it_stored_something_and_when_it_is_to_be_seen(
    engine: Engine,
) {
    let fixture = Fixture::open(engine).await;
    let mark = |name: &str| TopicMark::of(&Topic::parse(name.to_owned()).unwrap());
    let commits = fixture.store.reader.commits().waiter();
    let mut writer = fixture.writer().await;
    let group = batch(vec![event("a", "1", ""), event("b", "1", "")]);
    append(&mut *writer, &[group]).await;
    let first = commits.take().expect("it was told of");
    assert!(first.topics.has(mark("a")) && first.topics.has(mark("b")));
    assert!(!first.topics.has(mark("c")));
    let query = EventQuery {
        order: Order::Ascending,
        ..EventQuery::default()
    };
    eventually("the end goes past it", TAIL_MAX, async || {
        fixture.store.reader.end().await.unwrap() >= first.visible_at
    })
    .await;
    let page = fixture.store.reader.page(&query).await.unwrap();
    assert_eq!(page.events.len(), 2);

    let group = batch(vec![event("a", "1", ""), event("c", "1", "")]);
    append(&mut *writer, &[group]).await;
    let second = commits.take().expect("it was told of");
    assert!(second.topics.has(mark("c")) && !second.topics.has(mark("b")));
    append(&mut *writer, &[batch(vec![event("a", "1", "")])]).await;
    let third = commits.take().expect("it was told of");
    assert!(third.topics.is_empty(), "a repeat is nothing to read");
}

/// The engine that has several writers at a time.
#[tokio::test]
async fn who_waits_for_running_transactions_then_reads_what_they_held_back() {
    let server = PostgresServer::start().await;
    let store = open(&server.url("postgres"));
    let mut writer = store.writers.connect(0).await.unwrap();
    let mut connection = PgConnection::connect(&server.url("postgres"))
        .await
        .unwrap();
    let mut older = connection.begin().await.unwrap();
    sqlx::query("select pg_current_xact_id()")
        .execute(&mut *older)
        .await
        .unwrap();
    append(&mut *writer, &[batch(vec![event("t", "1", "")])]).await;
    let query = EventQuery {
        order: Order::Ascending,
        ..EventQuery::default()
    };
    let found = async || store.reader.page(&query).await.unwrap().events.len();
    assert_eq!(found().await, 0, "held back by the older one");

    let short = Duration::from_millis(20);
    store.reader.wait_for_running(short).await.unwrap();
    assert_eq!(found().await, 0, "which is still open");

    let waiting = store.reader.wait_for_running(TAIL_MAX);
    tokio::pin!(waiting);
    assert!(timeout(10 * short, &mut waiting).await.is_err());
    older.commit().await.unwrap();
    waiting.await.unwrap();
    assert_eq!(found().await, 1);
}

async fn keys_are_compared_byte_for_byte(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writer = fixture.writer().await;
    let long = "\u{1f600}".repeat(255);
    let names = [
        "é", "e\u{301}", "E", "e", "e ", "ß", "ss", &long, "%_'\"\\", "0", "00",
    ];
    let events = names.map(|name| event(name, name, name));
    append(&mut *writer, &[batch(events.to_vec())]).await;
    for event in &events {
        let found = fixture.store.reader.find(event.topic(), event.event_id());
        assert_eq!(found.await.unwrap().unwrap().event, *event);
    }
    let topics = fixture.store.reader.topics(None, 1000).await.unwrap();
    let mut sorted: Vec<&str> = names.to_vec();
    sorted.sort_unstable();
    let found: Vec<&str> = topics.iter().map(|topic| topic.topic.as_str()).collect();
    assert_eq!(found, sorted);
    let absent = event("e", "é", "x");
    let found = fixture.store.reader.find(absent.topic(), absent.event_id());
    assert!(found.await.unwrap().is_none());
}

async fn topics_have_their_own_counters_and_come_in_pages(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    twenty_events(&fixture).await;
    twenty_events(&fixture).await;
    let reader = &fixture.store.reader;
    let first = reader.topics(None, 2).await.unwrap();
    let rest = reader.topics(Some(&first[1].topic), 2).await.unwrap();
    let counts: Vec<_> = first
        .iter()
        .chain(&rest)
        .map(|topic| {
            (
                topic.topic.as_str().to_owned(),
                topic.unique,
                topic.duplicates,
            )
        })
        .collect();
    let expected = [("topic-0", 7, 7), ("topic-1", 7, 7), ("topic-2", 6, 6)];
    assert_eq!(
        counts,
        expected.map(|(topic, one, two)| (topic.to_owned(), one, two))
    );
    assert!(first[0].first_stored_at <= first[0].last_stored_at);
}

async fn dead_letters_are_kept_once_listed_and_thrown_away(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let letters = [
        NewDeadLetter::new("stream/2-0", "no JSON", b"\xff\x00{"),
        NewDeadLetter::new("stream/1-0", "nothing", b""),
    ];
    let store = &fixture.store.dead_letters;
    store.keep(&letters).await.unwrap();
    store.keep(&letters).await.unwrap();
    let count = async || fixture.store.reader.totals().await.unwrap().dead_letters;
    assert_eq!(count().await, 2);
    let page = store.dead_letters(None, 1).await.unwrap();
    let rest = store.dead_letters(Some(page[0].id), 10).await.unwrap();
    assert_eq!((page.len(), rest.len()), (1, 1));
    let kept = store.dead_letter(page[0].id).await.unwrap().unwrap();
    assert_eq!(kept, page[0]);
    assert!(letters.contains(&kept.letter));
    assert!(store.delete(kept.id).await.unwrap());
    assert!(!store.delete(kept.id).await.unwrap());
    assert_eq!(count().await, 1);
}

on_both_engines!(
    pages_of_every_size_and_filter_show_what_a_model_shows,
    who_follows_meets_what_is_stored_later_once,
    the_news_are_the_topics_that_have_something_between_a_place_and_the_end,
    a_commit_says_in_which_topics_it_stored_something_and_when_it_is_to_be_seen,
    keys_are_compared_byte_for_byte,
    topics_have_their_own_counters_and_come_in_pages,
    dead_letters_are_kept_once_listed_and_thrown_away,
);
