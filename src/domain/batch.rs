//! The events of one request: not none, not too many, stored together or not at all.

use super::Event;

/// The most events that one request may carry.
pub const BATCH_EVENTS_MAX: usize = 1000;

/// 1 to [`BATCH_EVENTS_MAX`] events that are stored in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBatch {
    events: Vec<Event>,
    size_bytes: usize,
}

/// Why some events are no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventBatchError {
    /// There are none.
    #[error("must hold at least one event")]
    Empty,
    /// There are more than [`BATCH_EVENTS_MAX`].
    #[error("must hold at most {BATCH_EVENTS_MAX} events, holds {events}")]
    TooMany {
        /// How many there are.
        events: usize,
    },
}

impl EventBatch {
    /// A batch of these events, in this order.
    ///
    /// # Errors
    /// [`EventBatchError`] where there are none or too many.
    pub fn new(events: Vec<Event>) -> Result<Self, EventBatchError> {
        match events.len() {
            0 => Err(EventBatchError::Empty),
            1..=BATCH_EVENTS_MAX => Ok(Self {
                size_bytes: events.iter().map(Event::size_bytes).sum(),
                events,
            }),
            more => Err(EventBatchError::TooMany { events: more }),
        }
    }

    /// A batch of one.
    pub fn single(event: Event) -> Self {
        Self {
            size_bytes: event.size_bytes(),
            events: vec![event],
        }
    }

    /// Its events, in the order in which they were sent. Never empty.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The event whose topic chooses the shard.
    pub fn first(&self) -> &Event {
        &self.events[0]
    }

    /// The sizes of its events, summed up.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}
