//! Appending: outcomes, counters, and what is left when a writer dies.

use super::{Fixture, append, batch, event, open, outcomes};
use crate::support::{Database, Engine};
use oncelog::{
    domain::{
        Event,
        Outcome::{Conflict, Duplicate, Stored},
    },
    store::{StoreError, Totals},
};
use rand::seq::SliceRandom;
use std::{cell::Cell, time::Duration};

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

async fn what_is_staged_and_never_committed_is_gone_with_its_writer(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let group = [batch(vec![event("t", "1", "a"), event("t", "2", "a")])];
    let mut dying = fixture.writer().await;
    let staged = dying.stage(&group).await.unwrap();
    assert_eq!(fixture.store.reader.totals().await.unwrap().received, 0);
    drop(dying);
    let mut next = fixture.writer().await;
    assert_eq!(next.settle(staged.txn, &group).await.unwrap(), None);
    let receipts = append(&mut *next, &group).await;
    assert_eq!(outcomes(&receipts[0]), [Stored, Stored]);
    assert_eq!(fixture.store.reader.totals().await.unwrap().received, 2);
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
    let staged = dying.stage(&group).await.unwrap();
    dying.commit().await.unwrap();
    drop(dying);
    let mut next = fixture.writer().await;
    let settled = next.settle(staged.txn, &group).await.unwrap();
    assert_eq!(settled, Some(staged.receipts));
    // A group of nothing but repeats leaves no row, and has committed all the same.
    let repeats = [batch(vec![event("t", "old", "a")])];
    let staged = next.stage(&repeats).await.unwrap();
    next.commit().await.unwrap();
    drop(next);
    let mut last = fixture.writer().await;
    let settled = last.settle(staged.txn, &repeats).await.unwrap().unwrap();
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
        let staged = writer.stage(&group).await.unwrap();
        writer.commit_and_go_on().await.unwrap();
        receipts.push(staged.receipts[0][1].processed_at);
        let mut other = fixture.store.writers.connect(1).await.unwrap();
        let between = batch(vec![event("other", id, "a")]);
        receipts.push(append(&mut *other, &[between]).await[0][0].processed_at);
    }
    assert!(receipts.is_sorted(), "{receipts:?}");
    drop(writer);
    for (id, place) in [("first", 0), ("last", 2)] {
        let key = event("t", id, "a");
        let reader = &fixture.store.reader;
        let stored = reader.find(key.topic(), key.event_id()).await.unwrap();
        assert_eq!(stored.unwrap().processed_at, receipts[place]);
    }
    let mut next = fixture.writer().await;
    append(&mut *next, &[batch(vec![event("t", "next", "a")])]).await;
    let totals = fixture.store.reader.totals().await.unwrap();
    assert_eq!((totals.received, totals.unique_processed), (7, 6));
}

async fn what_another_writer_stored_meanwhile_is_not_settled_as_ones_own(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let group = [batch(vec![event("t", "1", "a"), event("t", "2", "a")])];
    let mut dying = fixture.writer().await;
    let staged = dying.stage(&group).await.unwrap();
    drop(dying);
    let mut next = fixture.writer().await;
    let mut other = fixture.store.writers.connect(1).await.unwrap();
    append(&mut *other, &group).await;
    assert_eq!(next.settle(staged.txn, &group).await.unwrap(), None);
    let receipts = append(&mut *next, &group).await;
    assert_eq!(outcomes(&receipts[0]), [Duplicate, Duplicate]);
    let totals = fixture.store.reader.totals().await.unwrap();
    assert_eq!((totals.received, totals.unique_processed), (4, 2));
}

async fn a_writer_may_be_dropped_within_stage_and_within_commit(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    for round in 0..40 {
        let events = (0..200).map(|id| event("t", &format!("{round}-{id}"), "a"));
        let group = [batch(events.collect())];
        let mut dying = fixture.writer().await;
        // Longer in each round: the first ones end within stage, the last ones after the commit.
        let patience = Duration::from_micros(400 * round);
        let txn = Cell::new(None);
        let committed = tokio::time::timeout(patience, async {
            let staged = dying.stage(&group).await.unwrap();
            txn.set(Some(staged.txn));
            dying.commit().await.unwrap();
        })
        .await;
        drop(dying);
        let mut next = fixture.writer().await;
        let settled = match txn.get() {
            Some(txn) => next.settle(txn, &group).await.unwrap(),
            None => None,
        };
        assert!(
            settled.is_some() || committed.is_err(),
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
                let staged = loop {
                    match writer.stage(&group).await {
                        Ok(staged) => break staged,
                        Err(StoreError::Contention(_)) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                };
                writer.commit().await.unwrap();
                let new = outcomes(&staged.receipts[0]);
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
    what_is_staged_and_never_committed_is_gone_with_its_writer,
    a_writer_that_died_after_its_commit_is_settled_with_the_same_receipts,
    groups_that_follow_one_another_are_stored_at_their_own_times,
    what_another_writer_stored_meanwhile_is_not_settled_as_ones_own,
    a_writer_may_be_dropped_within_stage_and_within_commit,
    writers_with_overlapping_shuffled_batches_stay_exact,
    everything_is_still_there_after_the_store_is_opened_again,
);
