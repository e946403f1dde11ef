//! What is remembered, for how long, and when it is forgotten.

use super::*;
use crate::domain::{EventBatch, EventId, Payload, Source, Topic};
use std::sync::Arc;

const EPOCH: Epoch = Epoch {
    server: 0,
    deletions: 7,
    server_started: 1,
    log_end: 0,
};

/// As it was announced that what was stored through this time is deleted.
fn losses(announcements: i64, through_us: Option<i64>) -> Losses {
    Losses {
        epoch: Epoch {
            deletions: EPOCH.deletions + announcements,
            ..EPOCH
        },
        announcements,
        expires_through: through_us.map(at),
    }
}

fn group(events: &[(&str, &str)]) -> Vec<Arc<EventBatch>> {
    let events = events.iter().map(|(event_id, payload)| {
        Event::new(
            Topic::parse("t".to_owned()).unwrap(),
            EventId::parse((*event_id).to_owned()).unwrap(),
            Timestamp::from_unix_us(1).unwrap(),
            Source::parse("s").unwrap(),
            Payload::parse((*payload).to_owned()).unwrap(),
        )
    });
    vec![Arc::new(EventBatch::new(events.collect()).unwrap())]
}

fn at(us: i64) -> Timestamp {
    Timestamp::from_unix_us(us).unwrap()
}

/// Stores these and returns what was recalled of each first.
fn pass(
    recent: &RecentKeys,
    epoch: Epoch,
    events: &[(&str, &str)],
    us: i64,
) -> Option<Vec<Option<Timestamp>>> {
    let group = group(events);
    let plan = GroupPlan::new(&group);
    let mut recollection = recent.recall(&plan, epoch.server);
    let holds = recollection
        .relied_on()
        .is_none_or(|relied_on| relied_on == epoch);
    if !recent.is_of(epoch) {
        recent.learn(Losses {
            epoch,
            announcements: 0,
            expires_through: None,
        });
        recollection.session = recent.memory().session;
    }
    if !holds {
        return None;
    }
    let stored_at = plan
        .firsts()
        .iter()
        .map(|&place| recollection.of(place).or(Some(at(us))));
    recent.remember(&recollection, epoch, stored_at);
    Some(
        (0..plan.len())
            .map(|place| recollection.of(place))
            .collect(),
    )
}

#[test]
fn an_equal_event_is_recalled_and_another_content_is_not() {
    let recent = RecentKeys::new(100);
    let events = [("a", "{}"), ("b", "{}")];
    assert_eq!(pass(&recent, EPOCH, &events, 5), Some(vec![None, None]));
    let events = [("b", "{}"), ("a", "{ }"), ("c", "{}")];
    let recalled = pass(&recent, EPOCH, &events, 6);
    assert_eq!(recalled, Some(vec![Some(at(5)), None, None]));
}

#[test]
fn another_epoch_forgets_everything_and_asks_to_try_again() {
    let recent = RecentKeys::new(100);
    pass(&recent, EPOCH, &[("a", "{}")], 5);
    for epoch in [
        Epoch {
            deletions: 8,
            ..EPOCH
        },
        Epoch {
            server_started: 0,
            ..EPOCH
        },
        Epoch {
            log_end: 1,
            ..EPOCH
        },
    ] {
        assert_eq!(pass(&recent, epoch, &[("a", "{}")], 6), None);
        assert_eq!(pass(&recent, epoch, &[("a", "{}")], 6), Some(vec![None]));
        assert_eq!(
            pass(&recent, epoch, &[("a", "{}")], 7),
            Some(vec![Some(at(6))])
        );
    }
}

#[test]
fn an_epoch_that_ends_with_what_is_stored_forgets_nothing() {
    let recent = RecentKeys::new(100);
    pass(&recent, EPOCH, &[("a", "{}")], 5);
    let next = Epoch {
        log_end: 1,
        ..EPOCH
    };
    recent.advance(EPOCH, next);
    assert_eq!(
        pass(&recent, next, &[("a", "{}")], 6),
        Some(vec![Some(at(5))])
    );
    // Not that of somebody who has not seen it.
    recent.advance(
        EPOCH,
        Epoch {
            log_end: 9,
            ..EPOCH
        },
    );
    assert!(recent.is_of(next));
}

#[test]
fn what_one_server_has_is_not_recalled_for_another_that_looks_the_same() {
    let recent = RecentKeys::new(100);
    let promoted = Epoch { server: 1, ..EPOCH };
    pass(&recent, EPOCH, &[("a", "{}")], 5);
    assert_eq!(pass(&recent, promoted, &[("a", "{}")], 6), Some(vec![None]));
    assert_eq!(
        pass(&recent, promoted, &[("a", "{}")], 7),
        Some(vec![Some(at(6))])
    );
}

#[test]
fn what_was_recalled_does_not_hold_where_another_transaction_saw_the_change_first() {
    let recent = RecentKeys::new(100);
    pass(&recent, EPOCH, &[("a", "{}")], 5);
    let group = group(&[("a", "{}")]);
    let recollection = recent.recall(&GroupPlan::new(&group), 0);
    let changed = Epoch {
        deletions: 8,
        ..EPOCH
    };
    assert!(pass(&recent, changed, &[("b", "{}")], 6).is_some());
    assert_eq!(recollection.relied_on(), Some(EPOCH));
    let nothing = recent.recall(&GroupPlan::new(&group), 0);
    assert_eq!(nothing.of(0), None);
}

#[test]
fn what_was_committed_before_a_lost_connection_is_not_remembered_after_it() {
    let recent = RecentKeys::new(100);
    let group = group(&[("a", "{}")]);
    let plan = GroupPlan::new(&group);
    recent.learn(losses(0, None));
    let recollection = recent.recall(&plan, 0);
    recent.forget();
    recent.learn(losses(0, None));
    recent.remember(&recollection, EPOCH, [Some(at(5))]);
    assert_eq!(recent.recall(&plan, 0).of(0), None);
    let recollection = recent.recall(&plan, 0);
    recent.remember(&recollection, EPOCH, [Some(at(5))]);
    assert_eq!(recent.recall(&plan, 0).of(0), Some(at(5)));
}

#[test]
fn an_announcement_forgets_what_is_as_old_and_nothing_else() {
    let recent = RecentKeys::new(100);
    let (old, young) = (group(&[("old", "{}")]), group(&[("young", "{}")]));
    let recalled = |group: &[Arc<EventBatch>]| recent.recall(&GroupPlan::new(group), 0).of(0);
    let store = |group: &[Arc<EventBatch>], epoch, us| {
        let recollection = recent.recall(&GroupPlan::new(group), 0);
        recent.remember(&recollection, epoch, [Some(at(us))]);
    };
    recent.learn(losses(0, None));
    store(&old, EPOCH, 5);
    store(&young, EPOCH, 6);
    let announced = losses(1, Some(5));
    recent.learn(announced);
    assert_eq!((recalled(&old), recalled(&young)), (None, Some(at(6))));
    // The table still has it, and may lose it at any moment.
    store(&old, announced.epoch, 5);
    assert_eq!(recalled(&old), None);
    // A transaction of before it: nothing is remembered.
    store(&group(&[("late", "{}")]), EPOCH, 7);
    assert_eq!(recalled(&group(&[("late", "{}")])), None);
    // Stored anew.
    store(&old, announced.epoch, 8);
    assert_eq!(recalled(&old), Some(at(8)));
    // And a change by hand beside the next announcement forgets all.
    let mut changed = losses(2, Some(6));
    changed.epoch.deletions += 1;
    recent.learn(changed);
    assert_eq!((recalled(&old), recalled(&young)), (None, None));
}

#[test]
fn the_latest_half_is_always_remembered_and_never_more_than_the_limit() {
    let recent = RecentKeys::new(10);
    for number in 0..1000_i64 {
        let newest = number.to_string();
        pass(&recent, EPOCH, &[(&newest, "{}")], number);
        for back in 0..5.min(number) {
            let earlier = (number - back).to_string();
            let group = group(&[(&earlier, "{}")]);
            let recalled = recent.recall(&GroupPlan::new(&group), 0).of(0);
            assert_eq!(recalled, Some(at(number - back)), "{back} before {number}");
        }
        let memory = recent.memory();
        assert!(memory.young.len() + memory.old.len() <= 10);
    }
}

#[test]
fn a_memory_of_nothing_recalls_nothing() {
    let recent = RecentKeys::new(0);
    for us in 5..8 {
        assert_eq!(pass(&recent, EPOCH, &[("a", "{}")], us), Some(vec![None]));
    }
}

#[test]
fn a_key_with_another_content_or_about_to_expire_is_said_to_be_taken() {
    let recent = RecentKeys::new(100);
    pass(&recent, EPOCH, &[("a", "{}")], 5);
    let has_taken = |events: &[(&str, &str)]| {
        let group = group(events);
        let recollection = recent.recall(&GroupPlan::new(&group), EPOCH.server);
        recollection.has_taken()
    };
    assert!(!has_taken(&[("a", "{}"), ("b", "{}")]));
    assert!(has_taken(&[("a", "{ }"), ("b", "{}")]));
    recent.learn(losses(1, Some(5)));
    assert!(has_taken(&[("a", "{}"), ("b", "{}")]));
    assert!(!has_taken(&[("b", "{}")]));
}
