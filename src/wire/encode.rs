//! An event as JSON, as every answer shows it and the broker's stream carries it. Payloads go out
//! as the text that they are, so their numbers never pass through a float.

use crate::domain::{Event, ForeignPayload, StoredEvent};

/// The five members of an event, without the braces around them.
fn push_event_members(out: &mut Vec<u8>, event: &Event) {
    push_names(out, event);
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(event.payload().as_str().as_bytes());
}

/// The members of an event that was stored. Where retention has dropped its payload that is null, and a
/// sixth member says why. What was put there by hand is shown as the JSON that it is, or as a string.
pub fn push_stored_members(out: &mut Vec<u8>, stored: &StoredEvent) {
    if stored.is_payload_dropped {
        push_names(out, &stored.event);
        out.extend_from_slice(b",\"payload\":null,\"payload_dropped\":true");
        return;
    }
    let Some(foreign) = &stored.foreign_payload else {
        return push_event_members(out, &stored.event);
    };
    push_names(out, &stored.event);
    out.extend_from_slice(b",\"payload\":");
    match foreign {
        ForeignPayload::Json(json) => out.extend_from_slice(json.as_bytes()),
        ForeignPayload::Text(text) => push_string(out, text),
    }
}

fn push_names(out: &mut Vec<u8>, event: &Event) {
    out.extend_from_slice(b"\"topic\":");
    push_string(out, event.topic().as_str());
    out.extend_from_slice(b",\"event_id\":");
    push_string(out, event.event_id().as_str());
    out.extend_from_slice(b",\"timestamp\":\"");
    out.extend_from_slice(event.timestamp().to_string().as_bytes());
    out.extend_from_slice(b"\",\"source\":");
    push_string(out, event.source().as_str());
}

/// An event as a JSON object.
pub fn event_to_json(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.size_bytes() + 128);
    out.push(b'{');
    push_event_members(&mut out, event);
    out.push(b'}');
    out
}

/// A JSON string, quotes included.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    // A string always serializes, and a vector takes every byte.
    let _ = serde_json::to_writer(out, text);
}
