//! Wakes the shared readers: the one place of the process that hears of commits and polls. A reader
//! whose topic got nothing sleeps on, and asks the database nothing.
//!
//! What is committed is not always to be seen yet: an ascending walk stays below every transaction
//! that is under way. So word of it is kept until the log's end has gone past it, and only then are
//! the readers woken that it concerns.
//!
//! Word may be late or lost. So all topics that are followed are looked through with one statement
//! each poll, whatever was heard.

use super::shared::{Roll, SharedReaders};
use crate::{
    domain::Cursor,
    store::{CommitWaiter, Commits, EventReader, StoreError, TopicMarks},
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, sleep_until};

/// Between two turns: what is committed meanwhile comes with the next one.
const TURN_PAUSE: Duration = Duration::from_millis(10);
/// What each reader that was woken beside another one adds to that pause, so that a thousand of them do
/// not ask a thousand times as often.
const TURN_PAUSE_PER_READER: Duration = Duration::from_millis(1);
/// Before the log's end is asked for once more, where something is held back and nothing new is heard;
/// each further pause is twice as long, up to the poll's.
const RECHECK_PAUSE: Duration = Duration::from_millis(10);
/// Pieces of news that wait to be seen. Further ones are added to the latest.
const PENDING_MAX: usize = 16;

/// Where the process stands in waking its readers.
pub(super) struct Head {
    reader: Arc<dyn EventReader>,
    readers: SharedReaders,
    commits: CommitWaiter,
    poll: Duration,
    pending: Pending,
    /// Every reader was woken for all that stands up to here.
    looked_to: Option<Cursor>,
    next_look: Instant,
    recheck_pause: Duration,
    next_recheck: Option<Instant>,
}

impl Head {
    /// Hears of commits from now on.
    pub(super) fn new(
        reader: Arc<dyn EventReader>,
        readers: SharedReaders,
        poll: Duration,
    ) -> Self {
        Self {
            commits: reader.commits().waiter(),
            reader,
            readers,
            poll,
            pending: Pending::default(),
            looked_to: None,
            next_look: Instant::now() + poll,
            recheck_pause: RECHECK_PAUSE,
            next_recheck: None,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let due = self
                .next_recheck
                .map_or(self.next_look, |recheck| recheck.min(self.next_look));
            tokio::select! {
                () = self.commits.heard() => {}
                () = sleep_until(due) => {}
            }
            let woken = match self.turn().await {
                Ok(woken) => woken,
                Err(error) => {
                    // Readiness and the persist actors say so loudly; subscribers just wait.
                    tracing::debug!(%error, "failed to look for news of the log");
                    0
                }
            };
            self.plan_recheck();
            let others = u32::try_from(woken.saturating_sub(1)).unwrap_or(u32::MAX);
            sleep(TURN_PAUSE + TURN_PAUSE_PER_READER.saturating_mul(others)).await;
        }
    }

    /// Wakes whom it has to; says how many.
    async fn turn(&mut self) -> Result<usize, StoreError> {
        if let Some(commits) = self.commits.take() {
            self.pending.add(commits);
            self.recheck_pause = RECHECK_PAUSE;
        }
        if Instant::now() >= self.next_look {
            self.next_look = Instant::now() + self.poll;
            return self.look().await;
        }
        if !self.readers.follow_any(&self.pending.topics()) {
            // Kept all the same: whoever joins before it is to be seen has to hear of it.
            return Ok(0);
        }
        let end = if self.pending.is_visible_to(Cursor::START) {
            Cursor::START
        } else {
            self.reader.end().await?
        };
        let seen = self.pending.take_visible_to(end);
        Ok(self.readers.wake(|shared| shared.follows(&seen)))
    }

    /// Looks at the log itself, whatever was heard.
    async fn look(&mut self) -> Result<usize, StoreError> {
        // Before the look: it may miss what only concerns those who come during it.
        let Some(Roll { topics, newcomers }) = self.readers.roll() else {
            return Ok(0);
        };
        let Some(after) = self.looked_to else {
            self.looked_to = Some(self.reader.end().await?);
            return Ok(self.readers.wake(|_| true));
        };
        let news = self.reader.news(&topics, after).await?;
        self.looked_to = Some(news.end);
        if news.end < after {
            // Another server, which has not got as far: nothing that was heard holds for it.
            self.pending = Pending::default();
            return Ok(self.readers.wake(|_| true));
        }
        let mut has_news = vec![false; topics.len()];
        for number in news.topics {
            has_news[number] = true;
        }
        let found = topics.into_iter().zip(has_news);
        let found = found.filter_map(|(topic, has_news)| has_news.then_some(topic));
        let found = found.collect();
        let seen = self.pending.take_visible_to(news.end);
        Ok(self.readers.wake(|shared| {
            shared.number >= newcomers || shared.follows_one_of(&found) || shared.follows(&seen)
        }))
    }

    fn plan_recheck(&mut self) {
        self.next_recheck = None;
        if self.readers.follow_any(&self.pending.topics()) {
            self.next_recheck = Some(Instant::now() + self.recheck_pause);
            self.recheck_pause = (self.recheck_pause * 2).min(self.poll);
        }
    }
}

/// What was committed and perhaps cannot be seen yet.
#[derive(Default)]
struct Pending(VecDeque<Commits>);

impl Pending {
    fn add(&mut self, commits: Commits) {
        if commits.topics.is_empty() {
            return;
        }
        let is_full = self.0.len() >= PENDING_MAX;
        match self.0.back_mut() {
            Some(latest) if is_full => latest.merge(&commits),
            _ => self.0.push_back(commits),
        }
    }

    /// In which topics.
    fn topics(&self) -> TopicMarks {
        let mut topics = TopicMarks::none();
        for commits in &self.0 {
            topics.merge(&commits.topics);
        }
        topics
    }

    /// Whether a walk that ends here meets all of it.
    fn is_visible_to(&self, end: Cursor) -> bool {
        self.0.iter().all(|commits| commits.visible_at <= end)
    }

    /// Takes what a walk that ends here meets; gives its topics.
    fn take_visible_to(&mut self, end: Cursor) -> TopicMarks {
        let mut seen = TopicMarks::none();
        self.0.retain(|commits| {
            let is_visible = commits.visible_at <= end;
            if is_visible {
                seen.merge(&commits.topics);
            }
            !is_visible
        });
        seen
    }
}

#[cfg(test)]
mod tests;
