//! One subscriber's walk through the log. Driven by a stream of HTTP, at the speed of its client.

use super::{Feed, FeedFilter, FeedPage, Seat, page::Pace, shared::Membership};
use crate::domain::Cursor;
use bytes::Bytes;
use std::{mem, sync::Arc};
use tokio::{
    sync::{broadcast::error::RecvError, watch},
    time::sleep,
};

/// A subscriber's walk: every event after its place that its filter lets through, once, in order.
pub struct Subscription {
    feed: Feed,
    filter: FeedFilter,
    place: Cursor,
    pace: Pace,
    position: Position,
    is_closed: watch::Receiver<bool>,
    _seat: Seat,
}

/// How a subscriber gets its next events.
enum Position {
    /// By pages of its own.
    Behind,
    /// By a page of its own; what is stored after it was joined comes through the membership.
    Joined(Membership),
    /// From the shared reader alone.
    AtTail(Membership),
}

impl Subscription {
    pub(super) fn new(
        feed: Feed,
        filter: FeedFilter,
        place: Cursor,
        is_at_tail: bool,
        seat: Seat,
    ) -> Self {
        let position = if is_at_tail {
            joined(&feed, &filter, place)
        } else {
            Position::Behind
        };
        Self {
            is_closed: feed.0.is_closed.subscribe(),
            feed,
            filter,
            place,
            pace: Pace::default(),
            position,
            _seat: seat,
        }
    }

    /// Where it stands: the last event that it has handed out, or where it began.
    pub fn place(&self) -> Cursor {
        self.place
    }

    /// The next events, encoded; `None` when the feed is closed. Waits through outages of the
    /// database. May be dropped at any point and called again.
    pub async fn next(&mut self) -> Option<Bytes> {
        let mut is_closed = self.is_closed.clone();
        tokio::select! {
            biased;
            _ = is_closed.wait_for(|is_closed| *is_closed) => None,
            bytes = self.advance() => Some(bytes),
        }
    }

    async fn advance(&mut self) -> Bytes {
        loop {
            let page = match &mut self.position {
                Position::Behind | Position::Joined(_) => self.own_page().await,
                Position::AtTail(membership) => match membership.receiver.recv().await {
                    Ok(page) => Some(page),
                    Err(RecvError::Lagged(_)) => {
                        // Too slow for the shared pages. Those from now on are heard of again.
                        membership.receiver = membership.receiver.resubscribe();
                        self.rejoin();
                        None
                    }
                    Err(RecvError::Closed) => {
                        self.position = Position::Behind;
                        None
                    }
                },
            };
            let Some(page) = page else { continue };
            let bytes = page.after(self.place);
            self.place = page.last().map_or(self.place, |last| last.max(self.place));
            if !bytes.is_empty() {
                return bytes;
            }
        }
    }

    /// A page that only this subscriber reads, and what it tells of where the subscriber stands.
    async fn own_page(&mut self) -> Option<Arc<FeedPage>> {
        let pages = self.feed.0.pages.clone();
        let read = match pages.read(&self.filter, self.place, &mut self.pace).await {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%error, "failed to read for a subscriber");
                sleep(self.feed.0.settings.poll).await;
                return None;
            }
        };
        if !read.is_full {
            self.position = match mem::replace(&mut self.position, Position::Behind) {
                // The page reaches past the moment of joining, so no event falls in between.
                Position::Joined(membership) => Position::AtTail(membership),
                _ => joined(&self.feed, &self.filter, read.next),
            };
            // What the page skipped is nothing for this filter: `next` is as good a place.
            if read.page.last().is_none() {
                self.place = read.next;
            }
        }
        Some(Arc::new(read.page))
    }

    fn rejoin(&mut self) {
        self.position = match mem::replace(&mut self.position, Position::Behind) {
            Position::AtTail(membership) => Position::Joined(membership),
            other => other,
        };
    }
}

/// Joins the shared reader: at the tail where that has not gone past the subscriber's place, else
/// after one more page of its own.
fn joined(feed: &Feed, filter: &FeedFilter, place: Cursor) -> Position {
    let membership = feed.0.shared.join(filter, place);
    if place >= membership.position {
        Position::AtTail(membership)
    } else {
        Position::Joined(membership)
    }
}
