//! `GET /events`: what is stored, a page at a time.

use super::{HttpState, auth::TokenScope, error::ApiError, json, query};
use crate::{
    domain::{EventPage, EventQuery},
    wire,
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use tokio::time::timeout;

pub(super) async fn list(
    request: HttpRequest,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.access.check(&request, TokenScope::Read)?;
    let (query, is_clamped) = query::events(request.query_string())?;
    let page = timeout(state.limits.read_timeout, state.reader.page(&query))
        .await
        .map_err(|_| ApiError::DatabaseUnavailable)??;
    Ok(json::bytes(listing(&query, &page, is_clamped)))
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
