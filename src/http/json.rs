//! Answers as JSON. Payloads go out as the text that the store gave, so their numbers never pass
//! through a float.

use crate::domain::StoredEvent;
use actix_web::HttpResponse;
use serde::Serialize;

/// A 200 with a JSON body.
pub(super) fn ok(body: &impl Serialize) -> HttpResponse {
    bytes(serde_json::to_vec(body).unwrap_or_default())
}

/// A 200 with a body that is JSON already.
pub(super) fn bytes(body: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(body)
}

/// An event as every answer shows it.
pub(super) fn push_event(out: &mut Vec<u8>, stored: &StoredEvent) {
    let event = &stored.event;
    out.extend_from_slice(b"{\"topic\":");
    push_string(out, event.topic().as_str());
    out.extend_from_slice(b",\"event_id\":");
    push_string(out, event.event_id().as_str());
    out.extend_from_slice(b",\"timestamp\":\"");
    out.extend_from_slice(event.timestamp().to_string().as_bytes());
    out.extend_from_slice(b"\",\"source\":");
    push_string(out, event.source().as_str());
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(event.payload().as_str().as_bytes());
    out.extend_from_slice(b",\"processed_at\":\"");
    out.extend_from_slice(stored.processed_at.to_string().as_bytes());
    out.extend_from_slice(b"\"}");
}

/// A JSON string, quotes included.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    // A string always serializes, and a vector takes every byte.
    let _ = serde_json::to_writer(out, text);
}
