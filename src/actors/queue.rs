//! The requests that wait at a shard. Between its PersistActor and those of other shards, whose small groups take
//! them along.

use super::{messages::Job, persist::GroupLimits};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Events that are worth a transaction at any time. Fewer wait while another shard has its turn, or go along.
pub(super) const LARGE_GROUP_EVENTS: usize = 32;

/// One shard's requests, oldest first. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Since there has been one all the time.
    since: Option<Instant>,
    is_reserved: bool,
}

impl Queue {
    pub(super) fn push(&self, job: Job) {
        let mut waiting = self.waiting();
        waiting.jobs.push_back(job);
        waiting.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting().jobs.is_empty()
    }

    /// Whether requests have waited here all that time.
    pub(super) fn has_waited(&self, time: Duration) -> bool {
        let since = self.waiting().since;
        since.is_some_and(|since| since.elapsed() >= time)
    }

    /// Whether as many events wait here.
    pub(super) fn has(&self, events: usize) -> bool {
        let waiting = self.waiting();
        let mut sums = waiting.jobs.iter().scan(0, |sum, job| {
            *sum += job.batch.events().len();
            Some(*sum)
        });
        sums.any(|sum| sum >= events)
    }

    /// Whether nobody waits for any of them.
    pub(super) fn is_abandoned(&self) -> bool {
        self.waiting().jobs.iter().all(Job::is_abandoned)
    }

    pub(super) fn drop_abandoned(&self) {
        let mut waiting = self.waiting();
        waiting.jobs.retain(|job| !job.is_abandoned());
        waiting.note_if_empty();
    }

    /// From now on its own shard alone takes from it, or others may again.
    pub(super) fn reserve(&self, is_reserved: bool) {
        self.waiting().is_reserved = is_reserved;
    }

    /// Moves the oldest ones into a group, as far as it has room. One that nobody waits for is dropped.
    pub(super) fn move_into(&self, group: &mut Group) {
        let mut waiting = self.waiting();
        while let Some(next) = waiting.jobs.front() {
            if !group.has_room_for(next) {
                break;
            }
            let next = waiting.jobs.pop_front();
            if let Some(job) = next.filter(|job| !job.is_abandoned()) {
                group.add(job);
            }
        }
        waiting.note_if_empty();
    }

    /// The same for a small group of another shard, which what is large here would only hold up.
    pub(super) fn lend_to(&self, group: &mut Group) {
        if !self.waiting().is_reserved && !self.has(LARGE_GROUP_EVENTS) {
            self.move_into(group);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn note_if_empty(&mut self) {
        if self.jobs.is_empty() {
            self.since = None;
        }
    }
}

/// What goes into one transaction.
#[derive(Debug)]
pub(super) struct Group {
    limits: GroupLimits,
    jobs: Vec<Job>,
    events: usize,
    bytes: usize,
}

impl Group {
    pub(super) fn new(limits: GroupLimits) -> Self {
        Self {
            limits,
            jobs: Vec::new(),
            events: 0,
            bytes: 0,
        }
    }

    pub(super) fn events(&self) -> usize {
        self.events
    }

    pub(super) fn jobs_mut(&mut self) -> &mut [Job] {
        &mut self.jobs
    }

    pub(super) fn into_jobs(self) -> Vec<Job> {
        self.jobs
    }

    fn has_room_for(&self, job: &Job) -> bool {
        self.jobs.is_empty()
            || self.events + job.batch.events().len() <= self.limits.events_max
                && self.bytes + job.batch.size_bytes() <= self.limits.bytes_max
    }

    fn add(&mut self, job: Job) {
        self.events += job.batch.events().len();
        self.bytes += job.batch.size_bytes();
        self.jobs.push(job);
    }
}

#[cfg(test)]
mod tests;
