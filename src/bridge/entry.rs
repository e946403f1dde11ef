//! What an entry of a stream holds, and how large that may be. Shared by the client that appends and
//! the session that reads, so that nothing is appended which would not be taken from there.

use crate::{domain::Event, wire};

/// The field of an entry that holds the event.
pub(super) const EVENT_FIELD: &str = "event";
/// Names, braces and the timestamp of an event in JSON, and some room.
const FRAME_BYTES_MAX: usize = 128;
/// What a byte of a text becomes in JSON at most: `\u001f`.
const ESCAPE_BYTES_MAX: usize = 6;

/// An event as the stream carries it.
pub(super) fn text_of(event: &Event) -> Vec<u8> {
    wire::event_to_json(event)
}

/// The largest event that the bridge takes from a stream. A larger one becomes a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryLimit {
    bytes_max: usize,
}

impl EntryLimit {
    /// So many bytes of its JSON.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max }
    }

    pub(super) fn bytes_max(self) -> usize {
        self.bytes_max
    }

    /// Whether what stands in an entry is within the limit.
    pub(super) fn takes(self, text: &[u8]) -> bool {
        text.len() <= self.bytes_max
    }

    /// Whether an event will be, once it stands in one. It may have grown since it came: a timestamp gets all
    /// its digits, and attributes of a CloudEvent may have been headers.
    pub(super) fn takes_event(self, event: &Event) -> bool {
        // By far most events are small, and need not be written out to know that.
        let bound = event.size_bytes() * ESCAPE_BYTES_MAX + FRAME_BYTES_MAX;
        bound <= self.bytes_max || self.takes(&text_of(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EventId, Payload, Source, Timestamp, Topic};

    fn event(text: &str, payload: &str) -> Event {
        Event::new(
            Topic::stored(text.to_owned()),
            EventId::stored(text.to_owned()),
            Timestamp::parse("2026-01-31T12:00:00Z").unwrap(),
            Source::stored(text.to_owned()),
            Payload::parse(payload.to_owned()).unwrap(),
        )
    }

    #[test]
    fn an_event_is_taken_exactly_where_its_entry_is() {
        let control = "\u{1f}".repeat(255);
        let long = format!("{{\"text\":\"{}\"}}", "x".repeat(5000));
        for (text, payload) in [
            ("t", "{}"),
            ("\"\\\"", "{ \"a\" : 1 }"),
            ("ü\u{10ffff}", "{}"),
            (control.as_str(), "{}"),
            ("t", long.as_str()),
        ] {
            let event = event(text, payload);
            let bytes = text_of(&event).len();
            assert!(bytes <= event.size_bytes() * ESCAPE_BYTES_MAX + FRAME_BYTES_MAX);
            for bytes_max in [0, bytes - 1, bytes, bytes + 1, bytes * 2, usize::MAX] {
                let limit = EntryLimit::new(bytes_max);
                assert_eq!(limit.takes_event(&event), bytes <= bytes_max, "{text}");
                assert_eq!(limit.takes(&text_of(&event)), bytes <= bytes_max);
            }
        }
    }
}
