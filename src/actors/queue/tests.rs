//! Who may take what waits, and how much of it.

use super::*;
use crate::{
    actors::{ActorKind, ActorStatus, Admission, AppendError, turns::Turns},
    domain::{Event, EventBatch, EventId, Payload, Receipt, Source, Timestamp, Topic},
};
use tokio::sync::oneshot;

const LIMITS: GroupLimits = GroupLimits {
    events_max: 5,
    bytes_max: 1 << 20,
};

/// Whoever holds it waits for the answer.
type Answer = oneshot::Receiver<Result<Vec<Receipt>, AppendError>>;

fn job(event_id: &str) -> (Job, Answer) {
    let event = Event::new(
        Topic::parse("t").unwrap(),
        EventId::parse(event_id.to_owned()).unwrap(),
        Timestamp::from_unix_us(1).unwrap(),
        Source::parse("s").unwrap(),
        Payload::parse("{}").unwrap(),
    );
    let door = Admission::new(1, 1);
    let permit = door.admit(1, door.bytes_permit()).unwrap();
    let (reply, answer) = oneshot::channel();
    let status = ActorStatus::new(ActorKind::Ingest, None);
    let batch = Arc::new(EventBatch::single(event));
    (Job::new(batch, Arc::new(permit), reply, &status), answer)
}

fn push(queue: &Queue, event_ids: &[&str]) -> Vec<Answer> {
    let push = |event_id: &&str| {
        let (job, answer) = job(event_id);
        queue.push(job);
        answer
    };
    event_ids.iter().map(push).collect()
}

fn event_ids(group: Group) -> Vec<String> {
    let jobs = group.into_jobs();
    jobs.iter()
        .map(|job| job.batch.first().event_id().as_str().to_owned())
        .collect()
}

#[test]
fn a_group_takes_along_what_waits_elsewhere_and_leaves_what_it_has_no_room_for() {
    let turns = Turns::new(3);
    let _answers = [
        push(&turns.queue(0), &["a", "b"]),
        push(&turns.queue(1), &["c"]),
        push(&turns.queue(2), &["d", "e", "f"]),
    ];
    let mut group = Group::new(LIMITS);
    turns.queue(1).move_into(&mut group);
    turns.take_along(&mut group);
    assert_eq!(event_ids(group), ["c", "a", "b", "d", "e"]);
    assert!(turns.queue(0).is_empty() && turns.queue(1).is_empty());

    let mut next = Group::new(LIMITS);
    turns.queue(2).move_into(&mut next);
    assert_eq!(event_ids(next), ["f"]);
}

#[test]
fn what_is_worth_a_transaction_of_its_own_is_not_taken_along() {
    const WIDE: GroupLimits = GroupLimits {
        events_max: 100,
        ..LIMITS
    };
    let turns = Turns::new(2);
    let mut answers = push(&turns.queue(1), &["a"; LARGE_GROUP_EVENTS - 1]);
    let mut group = Group::new(WIDE);
    turns.take_along(&mut group);
    assert_eq!(group.events(), LARGE_GROUP_EVENTS - 1);

    answers.extend(push(&turns.queue(1), &["a"; LARGE_GROUP_EVENTS]));
    let mut group = Group::new(WIDE);
    turns.take_along(&mut group);
    assert_eq!(group.events(), 0);
}

#[test]
fn what_is_reserved_is_left_to_its_own_shard() {
    let turns = Turns::new(2);
    let _answers = push(&turns.queue(1), &["a"]);
    turns.queue(1).reserve(true);
    let mut other = Group::new(LIMITS);
    turns.take_along(&mut other);
    assert_eq!(event_ids(other), [""; 0]);

    let mut own = Group::new(LIMITS);
    turns.queue(1).move_into(&mut own);
    assert_eq!(event_ids(own), ["a"]);
}

#[test]
fn what_nobody_waits_for_is_dropped_and_a_queue_counts_its_time_anew() {
    let queue = Queue::default();
    drop(push(&queue, &["a"]));
    let _answers = push(&queue, &["b"]);
    assert!(queue.has(2) && !queue.has(3) && !queue.is_abandoned());
    assert!(queue.has_waited(Duration::ZERO));
    let mut group = Group::new(LIMITS);
    queue.move_into(&mut group);
    assert_eq!(event_ids(group), ["b"]);
    assert!(!queue.has_waited(Duration::ZERO));
}
