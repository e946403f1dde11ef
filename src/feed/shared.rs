//! One reader for all subscribers of a filter that are at the tail. Started by the first of them,
//! ended with the last.

use super::{
    FeedFilter, FeedPage,
    page::{Pace, PageReader},
};
use crate::{
    domain::Cursor,
    store::{CommitSignal, CommitWaiter},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::broadcast,
    task::AbortHandle,
    time::{sleep, timeout},
};

/// Pages that a subscriber may be behind the shared reader.
const SHARED_PAGES: usize = 32;
/// Between two reads at the tail: what is committed meanwhile comes with the next one.
const READ_PAUSE: Duration = Duration::from_millis(10);
/// What each further filter adds to that pause, so that a thousand of them do not ask a thousand
/// times as often.
const READ_PAUSE_PER_FILTER: Duration = Duration::from_millis(1);

/// The shared readers of the process, by filter.
#[derive(Clone)]
pub(super) struct SharedReaders(Arc<Inner>);

struct Inner {
    runtime: Handle,
    pages: PageReader,
    commits: CommitSignal,
    poll: Duration,
    by_filter: Mutex<HashMap<FeedFilter, SharedReader>>,
}

struct SharedReader {
    tail: Arc<Tail>,
    members: usize,
    task: AbortHandle,
}

/// Where a shared reader stands, and those who listen to it.
struct Tail {
    sender: broadcast::Sender<Arc<FeedPage>>,
    /// Everything up to here was sent. Changes with the sending, under one lock, so that a new
    /// listener knows from where on it hears everything.
    position: Mutex<Cursor>,
}

/// A place among the listeners of a shared reader.
pub(super) struct Membership {
    readers: SharedReaders,
    filter: FeedFilter,
    pub(super) receiver: broadcast::Receiver<Arc<FeedPage>>,
    /// What is stored after this comes through the receiver.
    pub(super) position: Cursor,
}

impl SharedReaders {
    pub(super) fn new(
        runtime: Handle,
        pages: PageReader,
        commits: CommitSignal,
        poll: Duration,
    ) -> Self {
        Self(Arc::new(Inner {
            runtime,
            pages,
            commits,
            poll,
            by_filter: Mutex::default(),
        }))
    }

    /// Joins the listeners of a filter. Where there is no shared reader yet, one starts from the
    /// newcomer's own place, which is at the tail.
    pub(super) fn join(&self, filter: &FeedFilter, place: Cursor) -> Membership {
        let mut by_filter = self.by_filter();
        let shared = by_filter
            .entry(filter.clone())
            .or_insert_with(|| self.start(filter.clone(), place));
        shared.members += 1;
        let position = locked(&shared.tail.position);
        Membership {
            readers: self.clone(),
            filter: filter.clone(),
            receiver: shared.tail.sender.subscribe(),
            position: *position,
        }
    }

    fn start(&self, filter: FeedFilter, place: Cursor) -> SharedReader {
        let tail = Arc::new(Tail {
            sender: broadcast::Sender::new(SHARED_PAGES),
            position: Mutex::new(place),
        });
        let readers = self.clone();
        let task = self.0.runtime.spawn({
            let tail = Arc::clone(&tail);
            async move { readers.follow(&filter, &tail, place).await }
        });
        SharedReader {
            tail,
            members: 0,
            task: task.abort_handle(),
        }
    }

    async fn follow(&self, filter: &FeedFilter, tail: &Tail, mut place: Cursor) {
        let mut commits: CommitWaiter = self.0.commits.waiter();
        let mut pace = Pace::default();
        loop {
            // Before the read: a commit during it may not be on the page.
            commits.forget();
            match self.0.pages.read(filter, place, &mut pace).await {
                Ok(read) => {
                    place = read.next;
                    tail.send(read.page, place);
                    if read.is_full {
                        continue;
                    }
                }
                // Readiness and the persist actors say so loudly; subscribers just wait.
                Err(error) => tracing::debug!(%error, "failed to follow the log"),
            }
            sleep(self.pause()).await;
            // A signal, or the poll's time: either way it is time to read.
            let _ = timeout(self.0.poll, commits.commit()).await;
        }
    }

    fn pause(&self) -> Duration {
        let filters = u32::try_from(self.by_filter().len()).unwrap_or(u32::MAX);
        READ_PAUSE + READ_PAUSE_PER_FILTER.saturating_mul(filters.saturating_sub(1))
    }

    fn by_filter(&self) -> MutexGuard<'_, HashMap<FeedFilter, SharedReader>> {
        locked(&self.0.by_filter)
    }
}

impl Tail {
    fn send(&self, page: FeedPage, place: Cursor) {
        let mut position = locked(&self.position);
        if page.last().is_some() {
            // An error means that nobody listens, and then this reader is about to end.
            let _ = self.sender.send(Arc::new(page));
        }
        *position = place;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut by_filter = self.readers.by_filter();
        let Some(shared) = by_filter.get_mut(&self.filter) else {
            return;
        };
        shared.members -= 1;
        if shared.members == 0 {
            shared.task.abort();
            by_filter.remove(&self.filter);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
