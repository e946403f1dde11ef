//! How much of what a query finds goes on one page, whatever the engine. Used by the readers.

use crate::domain::StoredEvent;
use futures_util::{Stream, TryStreamExt};
use std::pin::pin;

/// A page ends before the event that would bring it over so many bytes, unless that is its first. Postgres may have to write a
/// payload out to many times what it was sent as, and whoever asks for a thousand of them would never see one.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// What was found for a page.
pub(super) struct Found {
    pub(super) events: Vec<StoredEvent>,
    /// Whether more was found, which is left for the next page.
    pub(super) is_cut: bool,
}

/// Takes as many events as go on one page.
pub(super) async fn collect(
    events: impl Stream<Item = Result<StoredEvent, sqlx::Error>>,
) -> Result<Found, sqlx::Error> {
    let mut events = pin!(events);
    let mut found = Found {
        events: Vec::new(),
        is_cut: false,
    };
    let mut bytes = 0;
    while let Some(stored) = events.try_next().await? {
        bytes += stored.event.size_bytes();
        if bytes > PAGE_BYTES_MAX && !found.events.is_empty() {
            found.is_cut = true;
            break;
        }
        found.events.push(stored);
    }
    Ok(found)
}
