//! The live feed: follows the log for all subscribers of this process. Between the store's reader
//! and the streams of HTTP; knows neither SQL nor how an event is written to a stream.
//!
//! ```text
//!              ┌► SharedReader, one a filter ─ the last 32 pages ─┬► Subscription (at the tail)
//! EventReader ─┤     ▲ woken where its topic got something         └► Subscription (at the tail)
//!              │   Head: hears of commits, and looks at all topics each poll
//!              └► Subscription (behind): reads pages of its own until it is at the tail
//! ```
//!
//! A subscriber that does not keep up falls out of the shared pages and reads its own again, at its
//! own speed: it holds up nobody, and costs one page of memory.

mod head;
mod page;
mod shared;
mod subscription;

pub use page::FeedPage;
pub use subscription::Subscription;

use crate::{
    domain::{Cursor, Source, StoredEvent, Topic},
    store::{EventReader, StoreError},
};
use head::Head;
use page::PageReader;
use shared::SharedReaders;
use std::{sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::sleep,
};

/// Between two attempts to exchange word of commits with other replicas.
const SIGNALS_PAUSE: Duration = Duration::from_secs(1);

/// Which events a subscriber wants. All filters must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FeedFilter {
    /// Only this topic.
    pub topic: Option<Topic>,
    /// Only this source.
    pub source: Option<Source>,
}

/// The numbers of the feed.
#[derive(Debug, Clone, Copy)]
pub struct FeedSettings {
    /// Subscribers at a time.
    pub subscribers_max: usize,
    /// Pages read from the database at a time, so that subscribers leave connections to others.
    pub reads_max: usize,
    /// The longest a new event waits where no signal came.
    pub poll: Duration,
}

/// Why there is no subscription.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// There are as many subscribers as are allowed.
    #[error("too many subscribers")]
    TooMany,
    /// The process is going down.
    #[error("the feed is closed")]
    Closed,
    /// The end of the log cannot be found.
    #[error("failed to find the end of the log")]
    Store(#[from] StoreError),
}

/// The feed of this process. Cheap to clone.
#[derive(Clone)]
pub struct Feed(Arc<Inner>);

struct Inner {
    reader: Arc<dyn EventReader>,
    pages: PageReader,
    shared: SharedReaders,
    seats: Arc<Semaphore>,
    settings: FeedSettings,
    is_closed: watch::Sender<bool>,
}

/// A subscriber's place among those allowed; free again when dropped.
type Seat = OwnedSemaphorePermit;

impl Feed {
    /// A feed on a store. `encode` writes an event as subscribers will send it: once an event,
    /// however many subscribers it has. Its reading runs on the runtime that this is called on.
    pub fn new(
        reader: Arc<dyn EventReader>,
        encode: fn(&mut Vec<u8>, &StoredEvent),
        settings: FeedSettings,
    ) -> Self {
        let runtime = Handle::current();
        let pages = PageReader::new(Arc::clone(&reader), encode, settings.reads_max);
        let signals = Arc::clone(&reader);
        runtime.spawn(async move {
            loop {
                let Err(error) = signals.exchange_signals().await;
                tracing::debug!(%error, "word of other replicas' commits is interrupted");
                sleep(SIGNALS_PAUSE).await;
            }
        });
        let shared = SharedReaders::new(runtime.clone(), pages.clone(), settings.poll);
        let head = Head::new(Arc::clone(&reader), shared.clone(), settings.poll);
        runtime.spawn(head.run());
        Self(Arc::new(Inner {
            shared,
            reader,
            pages,
            seats: Arc::new(Semaphore::new(settings.subscribers_max)),
            settings,
            is_closed: watch::Sender::new(false),
        }))
    }

    /// Subscribes to the events after a place, or to those stored from now on.
    ///
    /// # Errors
    /// [`SubscribeError`], in which [`SubscribeError::Store`] only comes without a place.
    pub async fn subscribe(
        &self,
        filter: FeedFilter,
        after: Option<Cursor>,
    ) -> Result<Subscription, SubscribeError> {
        let inner = &self.0;
        if *inner.is_closed.borrow() {
            return Err(SubscribeError::Closed);
        }
        let seat = Arc::clone(&inner.seats)
            .try_acquire_owned()
            .map_err(|_| SubscribeError::TooMany)?;
        let (after, is_at_tail) = match after {
            Some(after) => (after, false),
            None => (inner.reader.end().await?, true),
        };
        Ok(Subscription::new(
            self.clone(),
            filter,
            after,
            is_at_tail,
            seat,
        ))
    }

    /// How many subscribers there are.
    pub fn subscribers(&self) -> usize {
        let inner = &self.0;
        inner.settings.subscribers_max - inner.seats.available_permits()
    }

    /// How many there may be.
    pub fn subscribers_max(&self) -> usize {
        self.0.settings.subscribers_max
    }

    /// Ends all subscriptions, and takes no new ones.
    pub fn close(&self) {
        self.0.is_closed.send_replace(true);
    }
}
