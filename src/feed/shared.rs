//! One reader for all subscribers of a filter that are at the tail. Started by the first of them,
//! ended with the last; reads when the head wakes it.

use super::{
    FeedFilter, FeedPage,
    page::{Pace, PageReader},
};
use crate::{
    domain::{Cursor, Topic},
    store::{TopicMark, TopicMarks},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{Notify, broadcast},
    task::AbortHandle,
    time::timeout,
};

/// Pages that a subscriber may be behind the shared reader.
const SHARED_PAGES: usize = 32;

/// The shared readers of the process, by filter.
#[derive(Clone)]
pub(super) struct SharedReaders(Arc<Inner>);

struct Inner {
    runtime: Handle,
    pages: PageReader,
    poll: Duration,
    started: Mutex<Started>,
}

/// Those that there are.
#[derive(Default)]
struct Started {
    by_filter: HashMap<FeedFilter, SharedReader>,
    /// What the next one is numbered.
    next_number: u64,
}

/// One of them.
pub(super) struct SharedReader {
    /// Later ones have greater numbers.
    pub(super) number: u64,
    topic: Option<(Topic, TopicMark)>,
    tail: Arc<Tail>,
    members: usize,
    task: AbortHandle,
}

/// The topics that are followed at one moment.
pub(super) struct Roll {
    /// Each perhaps more than once.
    pub(super) topics: Vec<Topic>,
    /// Readers that are not among those have this number or a greater one.
    pub(super) newcomers: u64,
}

/// Where a shared reader stands, and those who listen to it.
struct Tail {
    sender: broadcast::Sender<Arc<FeedPage>>,
    /// Everything up to here was sent. Changes with the sending, under one lock, so that a new
    /// listener knows from where on it hears everything.
    position: Mutex<Cursor>,
    /// There may be something to read.
    wake: Notify,
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
    pub(super) fn new(runtime: Handle, pages: PageReader, poll: Duration) -> Self {
        Self(Arc::new(Inner {
            runtime,
            pages,
            poll,
            started: Mutex::default(),
        }))
    }

    /// Joins the listeners of a filter. Where there is no shared reader yet, one starts from the
    /// newcomer's own place, which is at the tail.
    pub(super) fn join(&self, filter: &FeedFilter, place: Cursor) -> Membership {
        let mut started = self.started();
        let Started {
            by_filter,
            next_number,
        } = &mut *started;
        let shared = by_filter.entry(filter.clone()).or_insert_with(|| {
            let number = *next_number;
            *next_number += 1;
            self.start(filter.clone(), place, number)
        });
        shared.members += 1;
        let position = locked(&shared.tail.position);
        Membership {
            readers: self.clone(),
            filter: filter.clone(),
            receiver: shared.tail.sender.subscribe(),
            position: *position,
        }
    }

    fn start(&self, filter: FeedFilter, place: Cursor, number: u64) -> SharedReader {
        let tail = Arc::new(Tail {
            sender: broadcast::Sender::new(SHARED_PAGES),
            position: Mutex::new(place),
            wake: Notify::new(),
        });
        let topic = filter.topic.clone();
        let readers = self.clone();
        let task = self.0.runtime.spawn({
            let tail = Arc::clone(&tail);
            async move { readers.follow(&filter, &tail, place).await }
        });
        SharedReader {
            number,
            topic: topic.map(|topic| (topic.clone(), TopicMark::of(&topic))),
            tail,
            members: 0,
            task: task.abort_handle(),
        }
    }

    /// Reads at once, and whenever it is woken: whoever starts it is in the roll by then, so nothing falls
    /// between its first read and the first time it is woken.
    async fn follow(&self, filter: &FeedFilter, tail: &Tail, mut place: Cursor) {
        let mut pace = Pace::default();
        loop {
            match self.0.pages.read(filter, place, &mut pace).await {
                Ok(read) => {
                    place = read.next;
                    tail.send(read.page, place);
                    if !read.is_full {
                        tail.wake.notified().await;
                    }
                }
                Err(error) => {
                    // Readiness and the persist actors say so loudly; subscribers just wait.
                    tracing::debug!(%error, "failed to follow the log");
                    let _ = timeout(self.0.poll, tail.wake.notified()).await;
                }
            }
        }
    }

    /// Whether there is a reader that something in these topics concerns.
    pub(super) fn follow_any(&self, topics: &TopicMarks) -> bool {
        !topics.is_empty()
            && self
                .started()
                .by_filter
                .values()
                .any(|shared| shared.follows(topics))
    }

    /// What is followed now; `None` where nothing is.
    pub(super) fn roll(&self) -> Option<Roll> {
        let started = self.started();
        if started.by_filter.is_empty() {
            return None;
        }
        let topics = started.by_filter.values();
        let topics = topics.filter_map(|shared| Some(shared.topic.as_ref()?.0.clone()));
        Some(Roll {
            topics: topics.collect(),
            newcomers: started.next_number,
        })
    }

    /// Lets those read that are meant; says how many.
    pub(super) fn wake(&self, is_meant: impl Fn(&SharedReader) -> bool) -> usize {
        let started = self.started();
        let meant = started.by_filter.values().filter(|shared| is_meant(shared));
        meant.map(|shared| shared.tail.wake.notify_one()).count()
    }

    fn started(&self) -> MutexGuard<'_, Started> {
        locked(&self.0.started)
    }
}

impl SharedReader {
    /// Whether something in these topics may concern it.
    pub(super) fn follows(&self, topics: &TopicMarks) -> bool {
        match &self.topic {
            Some((_, mark)) => topics.has(*mark),
            None => !topics.is_empty(),
        }
    }

    /// Whether something in one of these topics concerns it, or anything at all does.
    pub(super) fn follows_one_of(&self, topics: &HashSet<Topic>) -> bool {
        match &self.topic {
            Some((topic, _)) => topics.contains(topic),
            None => true,
        }
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
        let mut started = self.readers.started();
        let Some(shared) = started.by_filter.get_mut(&self.filter) else {
            return;
        };
        shared.members -= 1;
        if shared.members == 0 {
            shared.task.abort();
            started.by_filter.remove(&self.filter);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
