//! How a group of requests goes to the database, the same for both engines: keys in one order, and
//! repeats within the group resolved before the statement. Knows no SQL.

use super::{GroupReceipts, TopicMarks};
use crate::domain::{Event, EventBatch, Outcome, Receipt};
use std::{collections::BTreeMap, sync::Arc};

/// A group, laid out flat. An event's *place* is its number within the group, in the order sent.
pub(super) struct GroupPlan<'a> {
    group: &'a [Arc<EventBatch>],
    events: Vec<&'a Event>,
    /// The first place of each key, in the order of keys. Every writer sends keys in this order:
    /// two that insert overlapping keys in different orders deadlock Postgres.
    firsts: Vec<usize>,
    /// Each later place of a key, with the first one.
    repeats: Vec<Repeat>,
}

/// An event whose key stands earlier in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repeat {
    pub(super) place: usize,
    pub(super) first: usize,
}

/// What a group adds to a topic's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TopicDelta {
    pub(super) unique: i64,
    pub(super) duplicates: i64,
}

/// What a group adds to the counters.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Deltas<'a> {
    pub(super) received: i64,
    pub(super) unique: i64,
    pub(super) duplicates: i64,
    pub(super) conflicts: i64,
    /// In the order of names, for the same reason as the keys.
    pub(super) topics: BTreeMap<&'a str, TopicDelta>,
}

impl Deltas<'_> {
    /// The topics in which something is stored.
    pub(super) fn stored_in(&self) -> TopicMarks {
        let topics = self.topics.iter().filter(|(_, delta)| delta.unique > 0);
        TopicMarks::of(topics.map(|(topic, _)| *topic))
    }
}

impl<'a> GroupPlan<'a> {
    pub(super) fn new(group: &'a [Arc<EventBatch>]) -> Self {
        let events: Vec<&Event> = group.iter().flat_map(|batch| batch.events()).collect();
        let mut order: Vec<usize> = (0..events.len()).collect();
        // By place within a key, so that the one sent first is the one stored.
        order.sort_unstable_by_key(|&place| (events[place].key(), place));
        let mut firsts: Vec<usize> = Vec::with_capacity(order.len());
        let mut repeats = Vec::new();
        for place in order {
            match firsts.last() {
                Some(&first) if events[first].key() == events[place].key() => {
                    repeats.push(Repeat { place, first });
                }
                _ => firsts.push(place),
            }
        }
        Self {
            group,
            events,
            firsts,
            repeats,
        }
    }

    pub(super) fn event(&self, place: usize) -> &'a Event {
        self.events[place]
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn firsts(&self) -> &[usize] {
        &self.firsts
    }

    pub(super) fn repeats(&self) -> &[Repeat] {
        &self.repeats
    }

    /// The outcome of a repeat whose first place was stored by this very group.
    pub(super) fn repeat_of_own(&self, repeat: Repeat) -> Outcome {
        compared(
            self.event(repeat.first)
                .says_the_same_as(self.event(repeat.place)),
        )
    }

    /// What these outcomes, one for each place, add to the counters.
    pub(super) fn deltas(&self, outcomes: impl IntoIterator<Item = Outcome>) -> Deltas<'a> {
        let mut deltas = Deltas::default();
        for (event, outcome) in self.events.iter().zip(outcomes) {
            let topic = deltas.topics.entry(event.topic().as_str()).or_default();
            deltas.received += 1;
            match outcome {
                Outcome::Stored => {
                    deltas.unique += 1;
                    topic.unique += 1;
                }
                Outcome::Duplicate | Outcome::Conflict => {
                    deltas.duplicates += 1;
                    topic.duplicates += 1;
                    deltas.conflicts += i64::from(outcome == Outcome::Conflict);
                }
            }
        }
        deltas
    }

    /// Gives each request its own receipts.
    pub(super) fn by_request(&self, receipts: Vec<Receipt>) -> GroupReceipts {
        let mut receipts = receipts.into_iter();
        self.group
            .iter()
            .map(|batch| receipts.by_ref().take(batch.events().len()).collect())
            .collect()
    }
}

/// The outcome of an event whose key is stored, by whether it says the same.
pub(super) fn compared(says_the_same: bool) -> Outcome {
    if says_the_same {
        Outcome::Duplicate
    } else {
        Outcome::Conflict
    }
}
