//! What retention leaves: the key and what is known of the event where a payload is dropped, nothing where
//! the event is deleted; and that a run may end anywhere.

use super::{
    Fixture, append, batch, event, event_with, outcomes,
    payloads::{SPELLINGS, random_payloads},
};
use crate::support::{Engine, eventually};
use oncelog::{
    domain::{
        Cursor, Event, EventQuery, Expiry, Order,
        Outcome::{Conflict, Duplicate, Stored},
        Payload, RetentionMode, RetentionRule, RetentionRules, StoredEvent, Timestamp, Topic,
        TopicPattern,
    },
    store::{EventWriter, Expired, Store, StoreError, TxnId},
};
use std::{sync::Arc, time::Duration};

/// A run may have to wait for a transaction of another test on the same server.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
pub(super) const ROWS_MAX: u32 = 100;

pub(super) fn rule(pattern: &str, expiry: Option<RetentionMode>) -> RetentionRule {
    RetentionRule {
        pattern: match pattern.strip_suffix('*') {
            Some(prefix) => TopicPattern::Prefix(prefix.to_owned()),
            None => TopicPattern::Exact(Topic::parse(pattern.to_owned()).unwrap()),
        },
        expiry: expiry.map(|mode| Expiry {
            age: Duration::from_secs(24 * 3600),
            mode,
        }),
    }
}

pub(super) fn rules(rules: Vec<RetentionRule>) -> Arc<RetentionRules> {
    Arc::new(RetentionRules::new(rules).unwrap())
}

fn drop_all() -> Arc<RetentionRules> {
    rules(vec![rule("*", Some(RetentionMode::DropPayload))])
}

pub(super) fn delete_all() -> Arc<RetentionRules> {
    rules(vec![rule("*", Some(RetentionMode::Delete))])
}

/// One run to its end.
pub(super) async fn run(store: &Store, rules: &Arc<RetentionRules>, rows_max: u32) -> Expired {
    let run = store.retention.begin_run(Arc::clone(rules)).await;
    let mut run = run.unwrap().expect("no other one is at it");
    let mut sum = Expired::default();
    while let Some(batch) = run.next(rows_max).await.unwrap() {
        assert!(batch.len() <= rows_max as usize);
        sum += run.expire(&batch).await.unwrap();
    }
    sum
}

impl Fixture {
    async fn run(&self, rules: &Arc<RetentionRules>, rows_max: u32) -> Expired {
        run(&self.store, rules, rows_max).await
    }

    /// Runs until so many have expired, and none more.
    pub(super) async fn expire(&self, rules: &Arc<RetentionRules>, expected: Expired) {
        let mut sum = Expired::default();
        eventually("what is old has expired", PATIENCE, async || {
            sum += self.run(rules, ROWS_MAX).await;
            sum == expected
        })
        .await;
        assert_eq!(self.run(rules, ROWS_MAX).await, Expired::default());
        let totals = self.store.reader.totals().await.unwrap();
        assert!(totals.retention_run_at.is_some());
    }

    async fn find(&self, event: &Event) -> Option<StoredEvent> {
        let found = self.store.reader.find(event.topic(), event.event_id());
        found.await.unwrap()
    }

    async fn page(&self, order: Order, after: Option<Cursor>) -> Vec<StoredEvent> {
        let query = EventQuery {
            order,
            after,
            ..EventQuery::default()
        };
        self.store.reader.page(&query).await.unwrap().events
    }
}

fn dropped(payloads_dropped: u64) -> Expired {
    Expired {
        payloads_dropped,
        ..Expired::default()
    }
}

pub(super) fn deleted(events_deleted: u64) -> Expired {
    Expired {
        events_deleted,
        ..Expired::default()
    }
}

/// Stores an event again, as a client would.
pub(super) async fn again(writer: &mut dyn EventWriter, event: &Event) -> oncelog::domain::Outcome {
    let group = [batch(vec![event.clone()])];
    loop {
        match writer.append(TxnId::random(), &group).await {
            Ok(receipts) => return receipts[0][0].outcome,
            Err(StoreError::Contention(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn without_its_payload_an_event_is_known_as_before(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writer = fixture.writer().await;
    let old = event_with("t", "1", r#"{"n":1,"m":[2]}"#);
    let empty = event_with("t", "2", "{}");
    append(&mut *writer, &[batch(vec![old.clone(), empty.clone()])]).await;
    fixture._database.age_two_days().await;
    let young = event("t", "3", "a");
    append(&mut *writer, &[batch(vec![young.clone()])]).await;
    let before = fixture.find(&old).await.unwrap();
    fixture.expire(&drop_all(), dropped(2)).await;

    let found = fixture.find(&old).await.unwrap();
    assert!(found.is_payload_dropped);
    assert_eq!(found.event.payload().as_str(), "{}");
    assert_eq!(found.cursor, before.cursor);
    assert_eq!(found.processed_at, before.processed_at);
    assert_eq!(found.event.timestamp(), old.timestamp());
    assert_eq!(found.event.source(), old.source());
    assert!(!fixture.find(&young).await.unwrap().is_payload_dropped);

    let with_time = |event: &Event, time: &str| {
        Event::new(
            event.topic().clone(),
            event.event_id().clone(),
            Timestamp::parse(time).unwrap(),
            event.source().clone(),
            event.payload().clone(),
        )
    };
    for (repeat, expected) in [
        (old.clone(), Duplicate),
        (event_with("t", "1", r#"{ "m":[2.0], "n":1e0 }"#), Duplicate),
        (event_with("t", "1", r#"{"n":1,"m":[3]}"#), Conflict),
        (event_with("t", "1", "{}"), Conflict),
        (with_time(&old, "2026-01-31T12:00:00Z"), Conflict),
        (empty.clone(), Duplicate),
        (event_with("t", "2", r#"{"n":1}"#), Conflict),
        (young, Duplicate),
    ] {
        // Twice: from the table, and from memory where the engine has one.
        for _ in 0..2 {
            let outcome = again(&mut *writer, &repeat).await;
            assert_eq!(outcome, expected, "{}", repeat.payload().as_str());
        }
    }
    // One group, in which the stored one is repeated and contradicted.
    let group = [batch(vec![old, event_with("t", "1", "{}"), empty])];
    let receipts = append(&mut *writer, &group).await;
    assert_eq!(outcomes(&receipts[0]), [Duplicate, Conflict, Duplicate]);

    let totals = fixture.store.reader.totals().await.unwrap();
    assert_eq!((totals.unique_processed, totals.payloads_dropped), (3, 2));
    assert_eq!(totals.received, 3 + totals.duplicate_dropped);
    assert_eq!(fixture._database.rows().await, 3);
}

async fn every_payload_is_told_from_another_one_after_it_was_dropped(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writer = fixture.writer().await;
    let mut stored = Vec::new();
    let mut repeated = Vec::new();
    for (number, (first, second, outcome)) in SPELLINGS.into_iter().enumerate() {
        let id = format!("s-{number}");
        let said = |value: &str| event_with("t", &id, &format!("{{\"value\":{value}}}"));
        stored.push(said(first));
        repeated.push((said(second), outcome));
    }
    for (number, payload) in random_payloads(200).into_iter().enumerate() {
        let id = format!("r-{number}");
        stored.push(event_with("t", &id, &payload));
        repeated.push((event_with("t", &id, &payload), Duplicate));
        let other = payload.replacen('{', "{\"one more\":0,", 1);
        let other = other.replace("0,}", "0}");
        if Payload::parse(other.clone()).is_ok() {
            repeated.push((event_with("t", &id, &other), Conflict));
        }
    }
    append(&mut *writer, &[batch(stored.clone())]).await;
    fixture._database.age_two_days().await;
    fixture
        .expire(&drop_all(), dropped(stored.len() as u64))
        .await;
    // All at once, by a process that remembers none of them.
    let mut writer = super::open(fixture._database.url())
        .writers
        .connect(0)
        .await
        .unwrap();
    let group = [batch(
        repeated.iter().map(|(event, _)| event.clone()).collect(),
    )];
    let receipts = append(&mut *writer, &group).await;
    for (receipt, (event, expected)) in receipts[0].iter().zip(&repeated) {
        let text = event.payload().as_str();
        assert_eq!(
            receipt.outcome,
            *expected,
            "{} {text}",
            event.event_id().as_str()
        );
    }
}

async fn a_deleted_event_is_new_again(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writer = fixture.writer().await;
    let old = [event("t", "1", "a"), event("t", "2", "a")];
    append(&mut *writer, &[batch(old.to_vec())]).await;
    fixture._database.age_two_days().await;
    let young = event("t", "3", "a");
    append(&mut *writer, &[batch(vec![young.clone()])]).await;
    let last = fixture.find(&young).await.unwrap().cursor;
    fixture.expire(&delete_all(), deleted(2)).await;
    assert!(fixture.find(&old[0]).await.is_none());
    assert_eq!(fixture._database.rows().await, 1);
    // Also for a writer that remembers it.
    assert_eq!(again(&mut *writer, &old[0]).await, Stored);
    assert_eq!(again(&mut *writer, &old[0]).await, Duplicate);
    assert_eq!(again(&mut *writer, &young).await, Duplicate);
    let anew = fixture.find(&old[0]).await.unwrap();
    assert!(anew.cursor > last, "it stands at the end of the log");
    let totals = fixture.store.reader.totals().await.unwrap();
    assert_eq!((totals.unique_processed, totals.events_deleted), (4, 2));
    assert_eq!(fixture._database.rows().await, 2);
}

async fn each_topic_has_the_rule_that_fits_it_best(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writer = fixture.writer().await;
    let topics = ["a", "audit.login", "audit.debug", "debug", "debug.more"];
    let events: Vec<_> = topics.iter().map(|topic| event(topic, "1", "a")).collect();
    append(&mut *writer, &[batch(events.clone())]).await;
    fixture._database.age_two_days().await;
    let rules = rules(vec![
        rule("*", Some(RetentionMode::DropPayload)),
        rule("audit.*", None),
        rule("debug*", Some(RetentionMode::Delete)),
        rule("debug.more", None),
    ]);
    let expected = Expired {
        payloads_dropped: 1,
        events_deleted: 1,
        dead_letters_deleted: 0,
    };
    fixture.expire(&rules, expected).await;
    let mut kept = Vec::new();
    for event in &events {
        let found = fixture.find(event).await;
        kept.push(found.map(|found| !found.is_payload_dropped));
    }
    assert_eq!(
        kept,
        [Some(false), Some(true), Some(true), None, Some(true)]
    );
    // With other rules it begins anew, and deletes also what has no payload any more.
    fixture.expire(&delete_all(), deleted(4)).await;
    assert_eq!(fixture._database.rows().await, 0);
}

async fn pages_and_cursors_are_the_same_over_what_has_expired(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writer = fixture.writer().await;
    for number in 0..4 {
        let id = |place: usize| format!("{number}-{place}");
        let events = (0..3).map(|place| event("t", &id(place), "a")).collect();
        append(&mut *writer, &[batch(events)]).await;
    }
    fixture._database.age_two_days().await;
    let places =
        |page: &[StoredEvent]| -> Vec<Cursor> { page.iter().map(|stored| stored.cursor).collect() };
    let mut before = Vec::new();
    eventually("the log is readable", PATIENCE, async || {
        before = places(&fixture.page(Order::Ascending, None).await);
        before.len() == 12
    })
    .await;
    fixture.expire(&drop_all(), dropped(12)).await;
    let after = fixture.page(Order::Ascending, None).await;
    assert!(after.iter().all(|stored| stored.is_payload_dropped));
    assert_eq!(places(&after), before);
    let backwards = places(&fixture.page(Order::Descending, None).await);
    assert!(backwards.iter().rev().eq(&before));
    let end = fixture.store.reader.end().await.unwrap();
    fixture.expire(&delete_all(), deleted(12)).await;
    // Where the last page ended nothing stands any more, and it goes on from there all the same.
    assert!(fixture.store.reader.end().await.unwrap() >= end);
    append(&mut *writer, &[batch(vec![event("t", "new", "a")])]).await;
    eventually("the new one is read", PATIENCE, async || {
        let page = fixture.page(Order::Ascending, before.last().copied()).await;
        page.len() == 1 && page[0].event.event_id().as_str() == "new"
    })
    .await;
}

async fn a_run_that_ends_anywhere_is_gone_on_with(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writer = fixture.writer().await;
    let events = (0..11).map(|number| event("t", &number.to_string(), "a"));
    append(&mut *writer, &[batch(events.collect())]).await;
    fixture._database.age_two_days().await;
    let rules = drop_all();
    let mut sum = 0;
    eventually("all has expired", PATIENCE, async || {
        // Two batches a run: the first one is dropped, the second one is only looked at.
        let run = fixture.store.retention.begin_run(Arc::clone(&rules));
        let mut run = run.await.unwrap().unwrap();
        if let Some(batch) = run.next(2).await.unwrap() {
            sum += run.expire(&batch).await.unwrap().payloads_dropped;
        }
        run.next(2).await.unwrap();
        sum == 11
    })
    .await;
    let totals = fixture.store.reader.totals().await.unwrap();
    assert_eq!(totals.payloads_dropped, 11);
}

async fn what_is_changed_by_hand_meanwhile_is_looked_at_again(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writer = fixture.writer().await;
    let events = [event("t", "1", "a"), event("t", "2", "a")];
    append(&mut *writer, &[batch(events.to_vec())]).await;
    fixture._database.age_two_days().await;
    let run = fixture.store.retention.begin_run(drop_all()).await.unwrap();
    let mut run = run.unwrap();
    let mut met = None;
    eventually("both are due", PATIENCE, async || {
        met = run.next(ROWS_MAX).await.unwrap();
        met.as_ref().is_some_and(|batch| batch.len() == 2)
    })
    .await;
    let by_hand = "update processed_events set payload = '{\"n\":1}' where event_id = '2'";
    fixture._database.execute(by_hand).await;
    let mut sum = run.expire(&met.unwrap()).await.unwrap().payloads_dropped;
    assert!(sum < 2);
    assert!(!fixture.find(&events[1]).await.unwrap().is_payload_dropped);
    while let Some(batch) = run.next(ROWS_MAX).await.unwrap() {
        sum += run.expire(&batch).await.unwrap().payloads_dropped;
    }
    drop(run);
    fixture.expire_rest(&mut sum, 2).await;
    let changed = event_with("t", "2", "{\"n\":1}");
    assert_eq!(again(&mut *writer, &changed).await, Duplicate);
    assert_eq!(again(&mut *writer, &events[1]).await, Conflict);
    assert_eq!(again(&mut *writer, &events[0]).await, Duplicate);
}

impl Fixture {
    /// What another test's transaction has held back.
    async fn expire_rest(&self, sum: &mut u64, expected: u64) {
        let rules = drop_all();
        eventually("the rest has expired", PATIENCE, async || {
            if *sum < expected
                && let Ok(Some(mut run)) = self.store.retention.begin_run(Arc::clone(&rules)).await
            {
                while let Some(batch) = run.next(ROWS_MAX).await.unwrap() {
                    *sum += run.expire(&batch).await.unwrap().payloads_dropped;
                }
            }
            *sum == expected
        })
        .await;
    }
}

async fn a_dropped_payload_is_no_change_of_the_event_and_a_deletion_is_one(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writer = fixture.writer().await;
    let changes = async || {
        let statement = "select statements from deletions";
        fixture._database.number(statement).await
    };
    append(&mut *writer, &[batch(vec![event("t", "1", "a")])]).await;
    fixture._database.age_two_days().await;
    let before = changes().await;
    assert!(before > 0, "a change by hand is one");
    fixture.expire(&drop_all(), dropped(1)).await;
    assert_eq!(changes().await, before);
    fixture.expire(&delete_all(), deleted(1)).await;
    assert!(changes().await > before);
}

on_both_engines!(
    without_its_payload_an_event_is_known_as_before,
    every_payload_is_told_from_another_one_after_it_was_dropped,
    a_deleted_event_is_new_again,
    each_topic_has_the_rule_that_fits_it_best,
    pages_and_cursors_are_the_same_over_what_has_expired,
    a_run_that_ends_anywhere_is_gone_on_with,
    what_is_changed_by_hand_meanwhile_is_looked_at_again,
    a_dropped_payload_is_no_change_of_the_event_and_a_deletion_is_one,
);

#[tokio::test]
async fn one_replica_at_a_time_is_at_it() {
    let fixture = Fixture::open(Engine::Postgres).await;
    let other = super::open(fixture._database.url());
    let run = fixture.store.retention.begin_run(drop_all()).await.unwrap();
    assert!(run.is_some());
    assert!(
        other
            .retention
            .begin_run(drop_all())
            .await
            .unwrap()
            .is_none()
    );
    drop(run);
    eventually("the other one may", PATIENCE, async || {
        other
            .retention
            .begin_run(drop_all())
            .await
            .unwrap()
            .is_some()
    })
    .await;
}

/// SQLite has no lock for that: two processes may be at it, and what one has dropped is left alone by the
/// other.
#[tokio::test]
async fn two_processes_on_one_file_drop_each_payload_once() {
    let fixture = Fixture::open(Engine::Sqlite).await;
    let other = super::open(fixture._database.url());
    let mut writer = fixture.writer().await;
    let events = (0..5).map(|number| event("t", &number.to_string(), "a"));
    append(&mut *writer, &[batch(events.collect())]).await;
    fixture._database.age_two_days().await;
    let begin = async |store: &Store| {
        store
            .retention
            .begin_run(drop_all())
            .await
            .unwrap()
            .unwrap()
    };
    let (mut here, mut there) = (begin(&fixture.store).await, begin(&other).await);
    let ours = here.next(ROWS_MAX).await.unwrap().unwrap();
    let theirs = there.next(3).await.unwrap().unwrap();
    assert_eq!((ours.len(), theirs.len()), (5, 3));
    assert_eq!(there.expire(&theirs).await.unwrap(), dropped(3));
    assert_eq!(here.expire(&ours).await.unwrap(), dropped(2));
    let totals = fixture.store.reader.totals().await.unwrap();
    assert_eq!(totals.payloads_dropped, 5);
}
