//! What retention deletes: dead letters, and events whose keys somebody remembers. The memory forgets what was
//! announced, in every process, and nothing else.

use super::{
    Fixture, append, batch, event, open, outcomes,
    retention::{PATIENCE, ROWS_MAX, again, delete_all, deleted},
};
use crate::support::{Engine, eventually};
use oncelog::{
    domain::{
        NewDeadLetter,
        Outcome::{Duplicate, Stored},
        RetentionRules,
    },
    store::{Expired, RetentionRun},
};
use std::{sync::Arc, time::Duration};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn old_dead_letters_are_deleted_and_the_others_kept(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let letters = &fixture.store.dead_letters;
    let letter = |number: u8| {
        let origin = format!("stream/{number}-0");
        NewDeadLetter::new(&origin, "no JSON", &[number])
    };
    letters.keep(&[1, 2, 3].map(letter)).await.unwrap();
    let age = match engine {
        Engine::Postgres => "update dead_letters set received_at = received_at - interval '2 days'",
        Engine::Sqlite => "update dead_letters set received_at = received_at - 172800000000",
    };
    fixture._database.execute(age).await;
    letters.keep(&[4, 5].map(letter)).await.unwrap();
    let nothing = Arc::new(RetentionRules::default());
    let run = fixture.store.retention.begin_run(nothing).await.unwrap();
    let mut run = run.unwrap();
    let mut expire = async |letters_max| {
        let expired = run.expire_dead_letters(DAY, letters_max).await.unwrap();
        let others = Expired {
            dead_letters_deleted: 0,
            ..expired
        };
        assert_eq!(others, Expired::default());
        expired.dead_letters_deleted
    };
    // It looks at so many, and the third one of these is too young.
    assert_eq!(
        (expire(2).await, expire(3).await, expire(100).await),
        (2, 1, 0)
    );
    assert!(run.next(ROWS_MAX).await.unwrap().is_none());
    let kept = letters.dead_letters(None, 10).await.unwrap();
    assert_eq!(kept.len(), 2);
    let totals = fixture.store.reader.totals().await.unwrap();
    assert_eq!((totals.dead_letters, totals.dead_letters_deleted), (2, 3));
    assert!(totals.retention_run_at.is_some());
    // The broker delivers one of them once more.
    letters.keep(&[letter(1)]).await.unwrap();
    let totals = fixture.store.reader.totals().await.unwrap();
    assert_eq!((totals.dead_letters, totals.dead_letters_deleted), (3, 3));
}

on_both_engines!(old_dead_letters_are_deleted_and_the_others_kept);

#[tokio::test]
async fn what_is_too_young_to_be_deleted_is_remembered_all_the_same() {
    let fixture = Fixture::open(Engine::Postgres).await;
    let mut writer = fixture.writer().await;
    let old = [event("t", "1", "a"), event("t", "2", "a")];
    append(&mut *writer, &[batch(old.to_vec())]).await;
    fixture._database.age_two_days().await;
    let young = event("t", "3", "a");
    for expected in [Stored, Duplicate] {
        assert_eq!(again(&mut *writer, &young).await, expected);
    }
    fixture.expire(&delete_all(), deleted(2)).await;
    // Nobody is told that it is gone: who calls it a duplicate has not looked into the table.
    for by_hand in [
        "alter table processed_events disable trigger processed_events_deletion",
        "delete from processed_events where event_id = '3'",
        "alter table processed_events enable trigger processed_events_deletion",
    ] {
        fixture._database.execute(by_hand).await;
    }
    assert_eq!(again(&mut *writer, &young).await, Duplicate);
    for expected in [Stored, Duplicate] {
        assert_eq!(again(&mut *writer, &old[0]).await, expected);
    }
}

/// The next batch, once no other test's transaction holds it back.
async fn next(run: &mut dyn RetentionRun) -> oncelog::store::ExpiredBatch {
    let mut met = None;
    eventually("something is due", PATIENCE, async || {
        met = run.next(1).await.unwrap();
        met.as_ref().is_some_and(|batch| !batch.is_empty())
    })
    .await;
    met.unwrap()
}

#[tokio::test]
async fn a_repeat_between_the_announcement_and_the_deletion_is_not_remembered_anywhere() {
    let fixture = Fixture::open(Engine::Postgres).await;
    let mut here = fixture.writer().await;
    let other = open(fixture._database.url());
    let mut there = other.writers.connect(1).await.unwrap();
    let old = [event("t", "1", "a"), event("t", "2", "a")];
    append(&mut *here, &[batch(old.to_vec())]).await;
    fixture._database.age_two_days().await;
    // Both remember it, as stored two days ago.
    for writer in [&mut here, &mut there] {
        assert_eq!(again(&mut **writer, &old[1]).await, Duplicate);
    }
    let run = fixture.store.retention.begin_run(delete_all()).await;
    let mut run = run.unwrap().unwrap();
    let first = next(&mut *run).await;
    assert_eq!(run.expire(&first).await.unwrap(), deleted(1));
    // The other one is announced and still there.
    for writer in [&mut here, &mut there] {
        assert_eq!(again(&mut **writer, &old[1]).await, Duplicate);
    }
    let second = next(&mut *run).await;
    assert_eq!(run.expire(&second).await.unwrap(), deleted(1));
    assert_eq!(again(&mut *there, &old[1]).await, Stored);
    assert_eq!(again(&mut *here, &old[1]).await, Duplicate);
    let group = [batch(vec![old[0].clone(), old[1].clone(), old[0].clone()])];
    let receipts = append(&mut *here, &group).await;
    assert_eq!(outcomes(&receipts[0]), [Stored, Duplicate, Duplicate]);
    let totals = fixture.store.reader.totals().await.unwrap();
    assert_eq!((totals.unique_processed, totals.events_deleted), (4, 2));
    assert_eq!(fixture._database.rows().await, 2);
}

/// An older version beside this one looks at the count alone, and remembers what it finds meanwhile.
#[tokio::test]
async fn after_a_migration_deletions_are_counted_for_older_versions_too() {
    let fixture = Fixture::open(Engine::Postgres).await;
    let mut writer = fixture.writer().await;
    let counted = async || {
        let by_others = "select statements - announcements from deletions";
        fixture._database.number(by_others).await
    };
    let old = event("t", "1", "a");
    for (until, expected) in [
        ("update deletions set counts_all_until = now()", 0),
        (
            "update deletions set counts_all_until = now() + interval '1 day'",
            1,
        ),
    ] {
        assert_eq!(again(&mut *writer, &old).await, Stored);
        fixture._database.age_two_days().await;
        fixture._database.execute(until).await;
        let before = counted().await;
        fixture.expire(&delete_all(), deleted(1)).await;
        assert_eq!(counted().await - before, expected);
        assert_eq!(again(&mut *writer, &old).await, Stored, "{until}");
        fixture
            ._database
            .execute("delete from processed_events")
            .await;
    }
}
