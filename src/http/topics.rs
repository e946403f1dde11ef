//! `GET /topics`: what there is to read, by name, a page at a time.

use super::{HttpState, auth::TokenScope, error::ApiError, json, query::Parameters};
use crate::{
    domain::{PAGE_EVENTS_MAX, Topic},
    store::TopicSummary,
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

/// Topics on a page, where the client names no smaller number.
const PAGE_TOPICS_MAX: u32 = PAGE_EVENTS_MAX;

#[derive(Serialize, ToSchema)]
#[schema(as = TopicPage)]
pub(super) struct Listing<'a> {
    topics: Vec<Shown<'a>>,
    count: usize,
    limit: u32,
    /// The last topic's name, where there are more.
    #[schema(required)]
    next_cursor: Option<&'a str>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TopicCounts)]
pub(super) struct Shown<'a> {
    topic: &'a str,
    unique_count: u64,
    duplicate_count: u64,
    #[schema(format = DateTime)]
    first_stored_at: String,
    #[schema(format = DateTime)]
    last_stored_at: String,
}

pub(super) async fn list(
    request: HttpRequest,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.admit(&request, TokenScope::Read)?;
    let parameters = Parameters::parse(request.query_string())?;
    let (limit, _) = parameters.limit_or(PAGE_TOPICS_MAX)?;
    let after = parameters.parsed("cursor", |value| Topic::parse(value.to_owned()))?;
    // One more than asked for tells whether there is another page.
    let reading = state.reader.topics(after.as_ref(), limit + 1);
    let mut found = timeout(state.limits.read_timeout, reading)
        .await
        .map_err(|_| ApiError::DatabaseUnavailable)??;
    let has_more = found.len() as u64 > u64::from(limit);
    if has_more {
        found.pop();
    }
    let last = found.last().filter(|_| has_more);
    Ok(json::ok(&Listing {
        count: found.len(),
        limit,
        next_cursor: last.map(|last| last.topic.as_str()),
        topics: found.iter().map(shown).collect(),
    }))
}

fn shown(summary: &TopicSummary) -> Shown<'_> {
    Shown {
        topic: summary.topic.as_str(),
        unique_count: summary.unique,
        duplicate_count: summary.duplicates,
        first_stored_at: summary.first_stored_at.to_string(),
        last_stored_at: summary.last_stored_at.to_string(),
    }
}
