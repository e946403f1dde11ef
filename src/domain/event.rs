//! An event, before and after it is stored.

use super::{Cursor, EventId, ForeignPayload, Payload, Source, Timestamp, Topic};

/// One event as its producer sent it. Each part has been checked by its own constructor, so an
/// `Event` is true and the database takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    topic: Topic,
    event_id: EventId,
    timestamp: Timestamp,
    source: Source,
    payload: Payload,
}

impl Event {
    /// Puts the parts together.
    pub fn new(
        topic: Topic,
        event_id: EventId,
        timestamp: Timestamp,
        source: Source,
        payload: Payload,
    ) -> Self {
        Self {
            topic,
            event_id,
            timestamp,
            source,
            payload,
        }
    }

    /// What it is about.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Its name within the topic.
    pub fn event_id(&self) -> &EventId {
        &self.event_id
    }

    /// When it happened, by its producer's clock.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Who produced it.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What it says.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Topic and event id, in the order in which the database keeps them.
    pub fn key(&self) -> (&str, &str) {
        (self.topic.as_str(), self.event_id.as_str())
    }

    /// Whether an event of the same key is a repeat of this one and no conflict.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.timestamp == other.timestamp
            && self.source == other.source
            && self.payload.is_same_value_as(&other.payload)
    }

    /// Bytes of its texts, which is what it costs to keep and to send.
    pub fn size_bytes(&self) -> usize {
        self.topic.as_str().len()
            + self.event_id.as_str().len()
            + self.source.as_str().len()
            + self.payload.as_str().len()
    }
}

/// An event as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// What its producer sent; with an empty payload where there is none of a producer's.
    pub event: Event,
    /// Whether retention has dropped its payload.
    pub is_payload_dropped: bool,
    /// What stands in the payload's place, where somebody has put it there by hand.
    pub foreign_payload: Option<ForeignPayload>,
    /// When it was stored.
    pub processed_at: Timestamp,
    /// Where it stands in the order of storing.
    pub cursor: Cursor,
}
