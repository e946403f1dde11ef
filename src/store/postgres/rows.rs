//! Events and counts on their way into a statement, as the column arrays that `unnest` takes. Used by
//! the writer.

use super::answers::decode;
use crate::{
    domain::EventBatch,
    store::plan::{Deltas, GroupPlan, TopicDelta},
};
use chrono::{DateTime, Utc};
use sqlx::{Arguments, postgres::PgArguments};
use std::{hint::black_box, sync::Arc};

/// Some events as the column arrays that `unnest` takes.
pub(super) struct Columns<'a> {
    pub(super) topics: Vec<&'a str>,
    pub(super) event_ids: Vec<&'a str>,
    pub(super) timestamps: Vec<DateTime<Utc>>,
    pub(super) sources: Vec<&'a str>,
    pub(super) payloads: Vec<&'a str>,
    pub(super) places: Vec<i32>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(plan: &GroupPlan<'a>, places: &[usize]) -> Self {
        let mut columns = Self {
            topics: Vec::with_capacity(places.len()),
            event_ids: Vec::with_capacity(places.len()),
            timestamps: Vec::with_capacity(places.len()),
            sources: Vec::with_capacity(places.len()),
            payloads: Vec::with_capacity(places.len()),
            places: Vec::with_capacity(places.len()),
        };
        for &place in places {
            let event = plan.event(place);
            columns.topics.push(event.topic().as_str());
            columns.event_ids.push(event.event_id().as_str());
            columns.timestamps.push(event.timestamp().to_chrono());
            columns.sources.push(event.source().as_str());
            columns.payloads.push(event.payload().as_str());
            // A group is far smaller than 2^31 events: its cap is a setting with a bound.
            columns
                .places
                .push(i32::try_from(place).unwrap_or(i32::MAX));
        }
        columns
    }

    /// The first parameters of a statement, `$1` to `$6`.
    pub(super) fn arguments(&self) -> Result<PgArguments, sqlx::Error> {
        let encode = || {
            let mut arguments = PgArguments::default();
            arguments.add(&self.topics)?;
            arguments.add(&self.event_ids)?;
            arguments.add(&self.timestamps)?;
            arguments.add(&self.sources)?;
            arguments.add(&self.payloads)?;
            arguments.add(&self.places)?;
            Ok(arguments)
        };
        encode().map_err(sqlx::Error::Encode)
    }
}

/// Lays out a group and encodes it as a writer does; the number of its rows.
pub(in crate::store) fn encode(group: &[Arc<EventBatch>]) -> Result<usize, sqlx::Error> {
    let plan = GroupPlan::new(group);
    let columns = Columns::new(&plan, plan.firsts());
    black_box(columns.arguments()?);
    Ok(plan.firsts().len())
}

/// What a group adds to the counters of its topics.
pub(super) struct TopicColumns<'a> {
    pub(super) names: Vec<&'a str>,
    pub(super) unique_counts: Vec<i64>,
    pub(super) duplicate_counts: Vec<i64>,
}

impl<'a> TopicColumns<'a> {
    pub(super) fn new(deltas: &Deltas<'a>) -> Self {
        let of_topic = |delta: &TopicDelta| (delta.unique, delta.duplicates);
        let (unique_counts, duplicate_counts) = deltas.topics.values().map(of_topic).unzip();
        Self {
            names: deltas.topics.keys().copied().collect(),
            unique_counts,
            duplicate_counts,
        }
    }

    /// Topics with new events, as far as they are wanted.
    pub(super) fn stored_in(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<&'a str> {
        let topics = self.names.iter().zip(&self.unique_counts);
        topics
            .filter(|&(topic, &unique)| unique > 0 && is_wanted(topic))
            .map(|(topic, _)| *topic)
            .collect()
    }
}

pub(super) fn place_of(seq: i32) -> Result<usize, sqlx::Error> {
    usize::try_from(seq).map_err(decode)
}
