//! Pages of the log, encoded for subscribers. Read by the shared readers and by subscriptions that
//! are behind, through one gate that bounds how many are read at a time.

use super::FeedFilter;
use crate::{
    domain::{Cursor, EventQuery, Order, StoredEvent},
    store::{EventReader, StoreError},
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Events on the first page of a walk, before the size of its events is known.
const PAGE_EVENTS_MIN: u32 = 16;
/// The most events on a page.
const PAGE_EVENTS_MAX: u32 = 512;
/// Above that many bytes pages get shorter, below half of it longer.
const PAGE_BYTES_TARGET: usize = 256 * 1024;

/// A run of events, in order, as the bytes that subscribers send.
#[derive(Debug, Default)]
pub struct FeedPage {
    bytes: Bytes,
    /// Where each event stands in the log, and where its bytes end.
    ends: Vec<(Cursor, usize)>,
}

impl FeedPage {
    /// The bytes of the events after a place.
    pub fn after(&self, place: Cursor) -> Bytes {
        let skipped = self.ends.partition_point(|(cursor, _)| *cursor <= place);
        let start = skipped.checked_sub(1).map_or(0, |last| self.ends[last].1);
        self.bytes.slice(start..)
    }

    /// Where its last event stands.
    pub fn last(&self) -> Option<Cursor> {
        self.ends.last().map(|(cursor, _)| *cursor)
    }
}

/// How many events a walk asks for at a time: as many as make a page of a reasonable size.
#[derive(Debug)]
pub(super) struct Pace(u32);

impl Default for Pace {
    fn default() -> Self {
        Self(PAGE_EVENTS_MIN)
    }
}

impl Pace {
    fn learn(&mut self, page: &FeedPage, is_full: bool) {
        let bytes = page.bytes.len();
        if bytes > PAGE_BYTES_TARGET {
            self.0 = (self.0 / 2).max(1);
        } else if is_full && bytes < PAGE_BYTES_TARGET / 2 {
            self.0 = (self.0 * 2).min(PAGE_EVENTS_MAX);
        }
    }
}

/// What was read at one time.
pub(super) struct Read {
    pub(super) page: FeedPage,
    /// Where to go on.
    pub(super) next: Cursor,
    /// Whether there is more already.
    pub(super) is_full: bool,
}

/// Reads pages.
#[derive(Clone)]
pub(super) struct PageReader {
    reader: Arc<dyn EventReader>,
    encode: fn(&mut Vec<u8>, &StoredEvent),
    gate: Arc<Semaphore>,
}

impl PageReader {
    pub(super) fn new(
        reader: Arc<dyn EventReader>,
        encode: fn(&mut Vec<u8>, &StoredEvent),
        reads_max: usize,
    ) -> Self {
        Self {
            reader,
            encode,
            gate: Arc::new(Semaphore::new(reads_max)),
        }
    }

    pub(super) async fn read(
        &self,
        filter: &FeedFilter,
        after: Cursor,
        pace: &mut Pace,
    ) -> Result<Read, StoreError> {
        // The gate is never closed; without a turn the read is merely not counted.
        let _turn = self.gate.acquire().await;
        // No index leads from one source's events to its next, so a walk by source must not look at
        // the same strangers again and again. What stands before the end, taken before the page is
        // read, is on the page or matches nothing.
        let end = match &filter.source {
            Some(_) => self.reader.end().await?,
            None => after,
        };
        let query = EventQuery {
            topic: filter.topic.clone(),
            source: filter.source.clone(),
            order: Order::Ascending,
            after: Some(after),
            limit: pace.0,
            ..EventQuery::default()
        };
        let found = self.reader.page(&query).await?;
        let is_full = found.has_more || found.events.len() as u64 == u64::from(pace.0);
        let found = found.events;
        let page = self.encoded(&found);
        pace.learn(&page, is_full);
        let last = page.last().unwrap_or(after);
        Ok(Read {
            page,
            next: if is_full { last } else { last.max(end) },
            is_full,
        })
    }

    fn encoded(&self, found: &[StoredEvent]) -> FeedPage {
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(found.len());
        for stored in found {
            (self.encode)(&mut bytes, stored);
            ends.push((stored.cursor, bytes.len()));
        }
        FeedPage {
            bytes: bytes.into(),
            ends,
        }
    }
}
