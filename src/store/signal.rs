//! Word of commits, within the process. Fired by the engines' writers, waited for by whoever
//! follows the log through the seam.

use super::marks::TopicMarks;
use crate::domain::Cursor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Notify;

/// What is said of commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commits {
    /// A walk that ends here or later meets what they hold.
    pub visible_at: Cursor,
    /// The topics in which they stored something.
    pub topics: TopicMarks,
}

impl Commits {
    /// Of which nothing is known: whoever follows the log looks now, and by the slow poll.
    pub(super) fn unknown() -> Self {
        Self {
            visible_at: Cursor::START,
            topics: TopicMarks::all(),
        }
    }

    /// Takes these and others as one.
    pub fn merge(&mut self, other: &Self) {
        self.visible_at = self.visible_at.max(other.visible_at);
        self.topics.merge(&other.topics);
    }
}

/// Says that something was committed, and in which topics: whoever hears it reads on.
#[derive(Clone, Default)]
pub struct CommitSignal(Arc<Mutex<Vec<Weak<Mailbox>>>>);

/// One who waits for commits. What it has not taken yet is kept for it as one, so it takes the same room
/// however much is committed meanwhile.
pub struct CommitWaiter(Arc<Mailbox>);

#[derive(Default)]
struct Mailbox {
    heard: Mutex<Option<Commits>>,
    has_come: Notify,
}

impl CommitSignal {
    pub(crate) fn fire(&self, commits: &Commits) {
        locked(&self.0).retain(|mailbox| {
            let Some(mailbox) = mailbox.upgrade() else {
                return false;
            };
            match &mut *locked(&mailbox.heard) {
                Some(heard) => heard.merge(commits),
                empty => *empty = Some(commits.clone()),
            }
            mailbox.has_come.notify_one();
            true
        });
    }

    /// A waiter for the commits that follow.
    pub fn waiter(&self) -> CommitWaiter {
        let mailbox = Arc::<Mailbox>::default();
        locked(&self.0).push(Arc::downgrade(&mailbox));
        CommitWaiter(mailbox)
    }
}

impl CommitWaiter {
    /// Waits until there may be something to take.
    pub async fn heard(&self) {
        self.0.has_come.notified().await;
    }

    /// What was committed since this was last asked for.
    pub fn take(&self) -> Option<Commits> {
        locked(&self.0.heard).take()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    fn commits(txn: i64, topic: &str) -> Commits {
        Commits {
            visible_at: Cursor { txn, seq: 0 },
            topics: TopicMarks::of([topic]),
        }
    }

    #[tokio::test]
    async fn every_waiter_hears_of_all_commits_since_it_last_took_them() {
        let signal = CommitSignal::default();
        signal.fire(&commits(1, "before anybody waits"));
        let (first, second) = (signal.waiter(), signal.waiter());
        signal.fire(&commits(7, "a"));
        first.heard().await;
        assert_eq!(first.take(), Some(commits(7, "a")));
        assert_eq!(first.take(), None);
        signal.fire(&commits(5, "b"));
        first.heard().await;
        assert_eq!(first.take(), Some(commits(5, "b")));
        second.heard().await;
        let both = Commits {
            visible_at: Cursor { txn: 7, seq: 0 },
            topics: TopicMarks::of(["a", "b"]),
        };
        assert_eq!(second.take(), Some(both));
        let silence = timeout(Duration::from_millis(10), first.heard()).await;
        assert!(silence.is_err());
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let signal = CommitSignal::default();
        drop(signal.waiter());
        let _stays = signal.waiter();
        signal.fire(&commits(1, "a"));
        assert_eq!(locked(&signal.0).len(), 1);
    }
}
