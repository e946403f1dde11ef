//! `GET /events/stream`: the live feed as Server-Sent Events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use super::{HttpState, auth::TokenScope, error::ApiError, json, query};
use crate::{
    domain::{Cursor, StoredEvent},
    feed::Subscription,
};
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{
        Method, Version,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    web::Data,
};
use bytes::Bytes;
use std::{convert::Infallible, time::Duration};
use tokio::time::timeout;

/// A client that has lost its stream comes back after that long.
const RETRY_MS: u32 = 1000;
/// Bytes handed to the connection at a time, which is what it holds of a client that does not read.
const CHUNK_BYTES_MAX: usize = 16 * 1024;
/// A comment: clients ignore it, proxies see that the connection lives, and a dead one is noticed.
const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

pub(super) async fn subscribe(
    request: HttpRequest,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.admit(&request, TokenScope::Read)?;
    let (filter, cursor) = query::feed(request.query_string())?;
    let after = last_event_id(&request)?.or(cursor);
    let subscribing = state.feed.subscribe(filter, after);
    let subscription = timeout(state.limits.read_timeout, subscribing)
        .await
        .map_err(|_| ApiError::DatabaseUnavailable)??;
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx keeps an answer back until it is complete, if it is not told otherwise.
        .insert_header(("X-Accel-Buffering", "no"));
    if request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    let frames = frames(subscription, state.limits.heartbeat);
    Ok(endless(&request, response, frames))
}

/// A stream as an answer: in chunks, or up to the end of the connection where the client speaks
/// HTTP/1.0 and so knows none (RFC 9112, section 6.1).
pub(super) fn endless(
    request: &HttpRequest,
    mut response: HttpResponseBuilder,
    frames: impl futures_util::Stream<Item = Result<Bytes, Infallible>> + 'static,
) -> HttpResponse {
    if request.version() != Version::HTTP_10 {
        return response.streaming(frames);
    }
    let mut response = response.force_close().streaming(frames);
    response.head_mut().no_chunking(true);
    response
}

/// An event as a frame of the stream.
pub fn push_frame(out: &mut Vec<u8>, stored: &StoredEvent) {
    out.extend_from_slice(format!("id: {}\nevent: event\ndata: ", stored.cursor).as_bytes());
    let start = out.len();
    json::push_event(out, stored);
    // In JSON a line break is only white space, and here it would end the field.
    for byte in &mut out[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\n\n");
}

/// What a browser sends when it comes back. An empty one is none.
fn last_event_id(request: &HttpRequest) -> Result<Option<Cursor>, ApiError> {
    let Some(value) = request.headers().get("Last-Event-ID") else {
        return Ok(None);
    };
    let malformed = || {
        ApiError::BadRequest(
            "Last-Event-ID must be a cursor that an earlier answer gave".to_owned(),
        )
    };
    match value.to_str().map_err(|_| malformed())?.trim() {
        "" => Ok(None),
        cursor => cursor.parse().map(Some).map_err(|_| malformed()),
    }
}

/// Frames until the feed is closed or the client is gone.
fn frames(
    subscription: Subscription,
    heartbeat: Duration,
) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    // With the place at once: who loses the stream before its first event goes on from here.
    let hello = format!("retry: {RETRY_MS}\nid: {}\n\n", subscription.place());
    let start = (subscription, Bytes::from(hello));
    futures_util::stream::unfold(start, move |(mut subscription, mut rest)| async move {
        if rest.is_empty() {
            rest = match timeout(heartbeat, subscription.next()).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return None,
                Err(_) => HEARTBEAT,
            };
        }
        let chunk = rest.split_to(rest.len().min(CHUNK_BYTES_MAX));
        Some((Ok(chunk), (subscription, rest)))
    })
}
