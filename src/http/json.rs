//! Answers as JSON.

use crate::{domain::StoredEvent, wire};
use actix_web::HttpResponse;
use serde::Serialize;

/// A 200 with a JSON body.
pub(super) fn ok(body: &impl Serialize) -> HttpResponse {
    bytes(serde_json::to_vec(body).unwrap_or_default())
}

/// A 202 with a JSON body.
pub(super) fn accepted(body: &impl Serialize) -> HttpResponse {
    HttpResponse::Accepted()
        .content_type("application/json")
        .body(serde_json::to_vec(body).unwrap_or_default())
}

/// A 200 with a body that is JSON already.
pub(super) fn bytes(body: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(body)
}

/// A stored event as every answer shows it.
pub(super) fn push_event(out: &mut Vec<u8>, stored: &StoredEvent) {
    out.push(b'{');
    wire::push_stored_members(out, stored);
    out.extend_from_slice(b",\"processed_at\":\"");
    out.extend_from_slice(stored.processed_at.to_string().as_bytes());
    out.extend_from_slice(b"\"}");
}
