//! `GET /events` and `GET /events/{topic}/{event_id}`: what is stored, a page at a time, or one
//! event by its key.

use super::{HttpState, auth::TokenScope, error::ApiError, json, query};
use crate::{
    domain::{EventId, EventPage, EventQuery, Order, Topic},
    store::{EventReader, StoreError},
    wire,
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use std::time::Duration;
use tokio::time::timeout;

/// For so long the end of an ascending walk waits for transactions that are under way. A publish takes
/// milliseconds; whoever keeps one open for longer, in any database of the server, holds back those
/// who follow the log.
const RUNNING_PATIENCE: Duration = Duration::from_millis(250);

pub(super) async fn list(
    request: HttpRequest,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.admit(&request, TokenScope::Read)?;
    let (query, is_clamped) = query::events(request.query_string())?;
    let page = timeout(state.limits.read_timeout, page(&*state.reader, &query))
        .await
        .map_err(|_| ApiError::DatabaseUnavailable)??;
    Ok(json::bytes(listing(&query, &page, is_clamped)))
}

/// A page, which at the end of an ascending walk holds all that was answered as stored before it was
/// asked for, unless an older transaction stays open for longer than we have patience.
async fn page(reader: &dyn EventReader, query: &EventQuery) -> Result<EventPage, StoreError> {
    let page = reader.page(query).await?;
    let is_full = page.events.len() as u64 >= u64::from(query.limit);
    if query.order == Order::Descending || is_full || page.has_more {
        return Ok(page);
    }
    reader.wait_for_running(RUNNING_PATIENCE).await?;
    reader.page(query).await
}

pub(super) async fn one(
    request: HttpRequest,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.admit(&request, TokenScope::Read)?;
    // What can be no key is the key of no event.
    let (topic, event_id) = key(request.uri().path()).ok_or_else(no_such_event)?;
    let finding = state.reader.find(&topic, &event_id);
    let stored = timeout(state.limits.read_timeout, finding)
        .await
        .map_err(|_| ApiError::DatabaseUnavailable)??
        .ok_or_else(no_such_event)?;
    let mut out = Vec::with_capacity(stored.event.size_bytes() + 160);
    json::push_event(&mut out, &stored);
    Ok(json::bytes(out))
}

fn no_such_event() -> ApiError {
    ApiError::NotFound("there is no event of this topic and id")
}

/// The key in a path, from its raw segments: a decoded one no longer tells a `%2F` of the topic
/// from the slash behind it.
fn key(path: &str) -> Option<(Topic, EventId)> {
    let (topic, event_id) = path.strip_prefix("/events/")?.split_once('/')?;
    let decoded = |segment| {
        let bytes = percent_encoding::percent_decode_str(segment);
        bytes.decode_utf8().ok().map(std::borrow::Cow::into_owned)
    };
    Some((
        Topic::parse(decoded(topic)?).ok()?,
        EventId::parse(decoded(event_id)?).ok()?,
    ))
}

fn listing(query: &EventQuery, page: &EventPage, is_clamped: bool) -> Vec<u8> {
    let bytes = page.events.iter().map(|stored| stored.event.size_bytes());
    let mut out = Vec::with_capacity(256 + bytes.map(|bytes| bytes + 160).sum::<usize>());
    out.extend_from_slice(b"{\"events\":[");
    for (index, stored) in page.events.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::push_event(&mut out, stored);
    }
    out.extend_from_slice(
        format!("],\"count\":{},\"topic_filter\":", page.events.len()).as_bytes(),
    );
    match &query.topic {
        Some(topic) => wire::push_string(&mut out, topic.as_str()),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(
        format!(
            ",\"limit\":{},\"limit_clamped\":{is_clamped},\"next_cursor\":",
            query.limit
        )
        .as_bytes(),
    );
    match page.next {
        Some(cursor) => wire::push_string(&mut out, &cursor.to_string()),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
    out
}
