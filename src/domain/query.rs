//! What a reader may ask for, and the page that answers it.

use super::{Cursor, Source, StoredEvent, Timestamp, Topic};

/// Events on a page where the reader names no number.
pub const PAGE_EVENTS_DEFAULT: u32 = 100;
/// The most events on a page.
pub const PAGE_EVENTS_MAX: u32 = 1000;

/// Which way to walk through the order of storing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Oldest first. Ends below every transaction that may still commit, so that a reader who goes
    /// on from the cursor misses nothing.
    Ascending,
    /// Newest first, all that is committed.
    #[default]
    Descending,
}

/// A page of events that a reader asks for. All filters must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// Only this topic.
    pub topic: Option<Topic>,
    /// Only this source.
    pub source: Option<Source>,
    /// Only events that happened then or later.
    pub since: Option<Timestamp>,
    /// Only events that happened before.
    pub until: Option<Timestamp>,
    /// Which way to walk.
    pub order: Order,
    /// Where the previous page ended.
    pub after: Option<Cursor>,
    /// 1 to [`PAGE_EVENTS_MAX`].
    pub limit: u32,
}

impl Default for EventQuery {
    fn default() -> Self {
        Self {
            topic: None,
            source: None,
            since: None,
            until: None,
            order: Order::default(),
            after: None,
            limit: PAGE_EVENTS_DEFAULT,
        }
    }
}

/// The events that answer a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// In the order asked for.
    pub events: Vec<StoredEvent>,
    /// Where to go on: `None` at the end of a descending walk; always there on an ascending one,
    /// whose end is never final.
    pub next: Option<Cursor>,
    /// Whether more was found, for the next page.
    pub has_more: bool,
}

impl EventPage {
    /// The page that answers a query, from what was found for it: up to one event more than the
    /// query's limit, which tells that there is another page and is left for that. `is_cut` where less
    /// was taken than there is.
    pub fn new(query: &EventQuery, mut found: Vec<StoredEvent>, is_cut: bool) -> Self {
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let is_last = found.len() <= limit && !is_cut;
        found.truncate(limit);
        let last = found.last().map(|stored| stored.cursor);
        let next = match query.order {
            Order::Descending if is_last => None,
            Order::Descending => last,
            Order::Ascending => last.or(query.after).or(Some(Cursor::START)),
        };
        Self {
            events: found,
            next,
            has_more: !is_last,
        }
    }
}
