//! Appending: outcomes, counters, and what is left when a writer dies.

use super::{Fixture, append, batch, event, open, outcomes};
use crate::support::{Database, Engine};
use oncelog::{
    domain::{
        Event,
        Outcome::{Conflict, Duplicate, Stored},
    },
    store::{StoreError, Totals, TxnId},
};
use rand::seq::SliceRandom;
use std::time::Duration;

async fn a_new_key_is_stored_its_repeat_a_duplicate_and_another_content_a_conflict(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writer = fixture.writer().await;
    let mut outcome = async |event: Event| {
        let receipts = append(&mut *writer, &[batch(vec![event])]).await;
        (receipts[0][0].outcome, receipts[0][0].processed_at)
    };
    let (first, at) = outcome(event("t", "1", "a")).await;
    assert_eq!(first, Stored);
    assert_eq!(outcome(event("t", "1", "a")).await, (Duplicate, at));
    assert_eq!(outcome(event("t", "1", "b")).await, (Conflict, at));
    assert_eq!(outcome(event("u", "1", "b")).await.0, Stored);
    let totals = fixture.store.reader.totals().await.unwrap();
    let expected = Totals {
        received: 4,
        unique_processed: 2,
        duplicate_dropped: 2,
        conflicts: 1,
        topics: 2,
        last_updated: totals.last_updated,
        ..Totals::default()
    };
    assert_eq!(totals, expected);
}

async fn of_repeats_within_a_group_the_one_sent_first_is_stored(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writer = fixture.writer().await;
    append(&mut *writer, &[batch(vec![event("t", "old", "a")])]).await;
    let group = [
        batch(vec![
            event("t", "z", "first"),
            event("t", "a", "x"),
            event("t", "z", "first"),
        ]),
        batch(vec![event("t", "z", "second")]),
        batch(vec![
            event("t", "old", "a"),
            event("t", "old", "b"),
            event("t", "old", "a"),
        ]),
    ];
    let receipts = append(&mut *writer, &group).await;
    let by_request: Vec<_> = receipts.iter().map(|receipts| outcomes(receipts)).collect();
    assert_eq!(
        by_request,
        [
            vec![Stored, Stored, Duplicate],
            vec![Conflict],
            vec![Duplicate, Conflict, Duplicate]
        ]
    );
    let stored = fixture
        .store
        .reader
        .find(group[0].first().topic(), group[0].first().event_id());
    let stored = stored.await.unwrap().unwrap();
    assert!(stored.event.says_the_same_as(group[0].first()));
    let totals = fixture.store.reader.totals().await.unwrap();
    assert_eq!((totals.received, totals.unique_processed), (8, 3));
    assert_eq!((totals.duplicate_dropped, totals.conflicts), (5, 2));
}

async fn what_was_never_sent_is_not_settled(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let group = [batch(vec![event("t", "1", "a"), event("t", "2", "a")])];
    let mut writer = fixture.writer().await;
    append(&mut *writer, &group[..]).await;
    drop(writer);
    let mut next = fixture.writer().await;
    let never_sent = TxnId::random();
    assert_eq!(next.settle(never_sent, &group).await.unwrap(), None);
    let receipts = append(&mut *next, &group).await;
    assert_eq!(outcomes(&receipts[0]), [Duplicate, Duplicate]);
    assert_eq!(fixture.store.reader.totals().await.unwrap().received, 4);
}

async fn a_writer_that_died_after_its_commit_is_settled_with_the_same_receipts(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut dying = fixture.writer().await;
    append(&mut *dying, &[batch(vec![event("t", "old", "a")])]).await;
    let group = [
        batch(vec![event("t", "old", "a"), event("t", "new", "a")]),
        batch(vec![event("t", "new", "a"), event("t", "new", "b")]),
        batch(vec![event("t", "old", "b")]),
    ];
    let txn = TxnId::random();
    let receipts = dying.append(txn, &group).await.unwrap();
    drop(dying);
    let mut next = fixture.writer().await;
    let settled = next.settle(txn, &group).await.unwrap();
    assert_eq!(settled, Some(receipts));
    // A group of nothing but repeats leaves no row, and has committed all the same.
    let repeats = [batch(vec![event("t", "old", "a")])];
    let txn = TxnId::random();
    next.append(txn, &repeats).await.unwrap();
    drop(next);
    let mut last = fixture.writer().await;
    let settled = last.settle(txn, &repeats).await.unwrap().unwrap();
    assert_eq!(outcomes(&settled[0]), [Duplicate]);
    assert_eq!(fixture.store.reader.totals().await.unwrap().received, 7);
}

async fn groups_that_follow_one_another_are_stored_at_their_own_times(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writer = fixture.writer().await;
    let mut receipts = Vec::new();
    for id in ["first", "last"] {
        // The last one holds a conflict, so that it takes more than one statement.
        let group = [batch(vec![event("t", "old", id), event("t", id, "a")])];
        receipts.push(append(&mut *writer, &group).await[0][1].processed_at);
        let mut other = fixture.store.writers.connect(1).await.unwrap();
        let between = batch(vec![event("other", id, "a")]);
        receipts.push(append(&mut *other, &[between]).await[0][0].processed_at);
    }
    assert!(receipts.is_sorted(), "{receipts:?}");
    for (id, place) in [("first", 0), ("last", 2)] {
        let key = event("t", id, "a");
        let reader = &fixture.store.reader;
        let stored = reader.find(key.topic(), key.event_id()).await.unwrap();
        assert_eq!(stored.unwrap().processed_at, receipts[place]);
    }
    let totals = fixture.store.reader.totals().await.unwrap();
    assert_eq!((totals.received, totals.unique_processed), (6, 5));
}

async fn what_another_writer_stored_meanwhile_is_not_settled_as_ones_own(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let group = [batch(vec![event("t", "1", "a"), event("t", "2", "a")])];
    drop(fixture.writer().await);
    let mut next = fixture.writer().await;
    let mut other = fixture.store.writers.connect(1).await.unwrap();
    let txn = TxnId::random();
    // Even under the same number: it is another writer's.
    other.append(txn, &group).await.unwrap();
    assert_eq!(next.settle(txn, &group).await.unwrap(), None);
    let receipts = append(&mut *next, &group).await;
    assert_eq!(outcomes(&receipts[0]), [Duplicate, Duplicate]);
    let totals = fixture.store.reader.totals().await.unwrap();
    assert_eq!((totals.received, totals.unique_processed), (4, 2));
}

async fn a_writer_may_be_dropped_at_any_moment_of_its_transaction(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    for round in 0..60 {
        let events = (0..200).map(|id| event("t", &format!("{round}-{id}"), "a"));
        let group = [batch(events.collect())];
        let mut dying = fixture.writer().await;
        // Longer in each round: the first ones end before it is sent, the last ones after the commit.
        let patience = Duration::from_micros(300 * round);
        let txn = TxnId::random();
        let answered = tokio::time::timeout(patience, dying.append(txn, &group)).await;
        drop(dying);
        let mut next = fixture.writer().await;
        let settled = next.settle(txn, &group).await.unwrap();
        assert!(
            settled.is_some() || answered.is_err(),
            "an answered commit is not there"
        );
        let receipts = match settled {
            Some(receipts) => receipts,
            None => append(&mut *next, &group).await,
        };
        assert!(receipts[0].iter().all(|receipt| receipt.outcome == Stored));
        let totals = fixture.store.reader.totals().await.unwrap();
        assert_eq!(
            (totals.received, totals.unique_processed),
            ((round + 1) * 200, (round + 1) * 200)
        );
    }
}

/// Repeats of a key whose stored content is another one are each compared with that.
async fn repeats_of_a_conflict_are_compared_with_what_is_stored(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writer = fixture.writer().await;
    append(&mut *writer, &[batch(vec![event("t", "1", "a")])]).await;
    drop(writer);
    let mut next = fixture.writer().await;
    let group = [batch(vec![
        event("t", "1", "b"),
        event("t", "2", "a"),
        event("t", "1", "a"),
        event("t", "1", "b"),
        event("t", "2", "b"),
    ])];
    let receipts = append(&mut *next, &group).await;
    let expected = [Conflict, Stored, Duplicate, Conflict, Conflict];
    assert_eq!(outcomes(&receipts[0]), expected);
    let totals = fixture.store.reader.totals().await.unwrap();
    assert_eq!((totals.received, totals.unique_processed), (6, 2));
    assert_eq!((totals.duplicate_dropped, totals.conflicts), (4, 3));
}

async fn writers_with_overlapping_shuffled_batches_stay_exact(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writers = tokio::task::JoinSet::new();
    for shard in 0..3 {
        let mut writer = fixture.store.writers.connect(shard).await.unwrap();
        writers.spawn(async move {
            let mut stored = 0;
            for round in 0..10 {
                let mut events: Vec<Event> = (0..100)
                    .map(|id| event(&format!("t{}", id % 3), &format!("{round}-{id}"), "a"))
                    .collect();
                events.shuffle(&mut rand::rng());
                let group = [batch(events)];
                let receipts = loop {
                    match writer.append(TxnId::random(), &group).await {
                        Ok(receipts) => break receipts,
                        Err(StoreError::Contention(_)) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                };
                let new = outcomes(&receipts[0]);
                stored += new.iter().filter(|outcome| **outcome == Stored).count();
            }
            stored
        });
    }
    let stored: usize = writers.join_all().await.into_iter().sum();
    assert_eq!(stored, 1000);
    let totals = fixture.store.reader.totals().await.unwrap();
    assert_eq!((totals.received, totals.unique_processed), (3000, 1000));
    assert_eq!((totals.topics, totals.conflicts), (3, 0));
}

async fn everything_is_still_there_after_the_store_is_opened_again(engine: Engine) {
    let database = Database::create(engine).await;
    let first = open(database.url());
    let mut writer = first.writers.connect(0).await.unwrap();
    append(&mut *writer, &[batch(vec![event("t", "1", "a")])]).await;
    first.reader.add_rejected(3).await.unwrap();
    drop(writer);
    first.reader.close().await;
    let second = open(database.url());
    let totals = second.reader.totals().await.unwrap();
    assert_eq!((totals.unique_processed, totals.rejected), (1, 3));
    let mut writer = second.writers.connect(0).await.unwrap();
    let receipts = append(&mut *writer, &[batch(vec![event("t", "1", "a")])]).await;
    assert_eq!(outcomes(&receipts[0]), [Duplicate]);
}

on_both_engines!(
    a_new_key_is_stored_its_repeat_a_duplicate_and_another_content_a_conflict,
    of_repeats_within_a_group_the_one_sent_first_is_stored,
    what_was_never_sent_is_not_settled,
    a_writer_that_died_after_its_commit_is_settled_with_the_same_receipts,
    groups_that_follow_one_another_are_stored_at_their_own_times,
    what_another_writer_stored_meanwhile_is_not_settled_as_ones_own,
    a_writer_may_be_dropped_at_any_moment_of_its_transaction,
    repeats_of_a_conflict_are_compared_with_what_is_stored,
    writers_with_overlapping_shuffled_batches_stay_exact,
    everything_is_still_there_after_the_store_is_opened_again,
);
