//! `/dead-letters`: what came through the broker and could not be stored; to look at, to try again,
//! to throw away.

use super::{HttpState, auth::TokenScope, error::ApiError, json, query::Parameters};
use crate::{
    domain::{DeadLetter, EventBatch},
    wire,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde::Serialize;
use std::{borrow::Cow, sync::Arc};
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterPage)]
pub(super) struct Listing<'a> {
    dead_letters: Vec<Shown<'a>>,
    count: usize,
    limit: u32,
    #[schema(required)]
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(super) struct Shown<'a> {
    id: i64,
    reason: &'a str,
    #[schema(value_type = str)]
    entry: Cow<'a, str>,
    truncated: bool,
    origin: &'a str,
    #[schema(format = DateTime)]
    received_at: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Retried {
    status: &'static str,
    #[schema(schema_with = super::openapi::outcome)]
    outcome: &'static str,
    message: &'static str,
}

pub(super) async fn list(
    request: HttpRequest,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.admit(&request, TokenScope::Read)?;
    let parameters = Parameters::parse(request.query_string())?;
    let (limit, _) = parameters.limit()?;
    let before = parameters.parsed("cursor", |value| {
        value
            .parse::<i64>()
            .map_err(|_| "must be a cursor that an earlier answer gave")
    })?;
    let letters = within(&state, state.dead_letters.dead_letters(before, limit)).await?;
    let is_full = letters.len() as u64 == u64::from(limit);
    Ok(json::ok(&Listing {
        count: letters.len(),
        limit,
        next_cursor: letters
            .last()
            .filter(|_| is_full)
            .map(|last| last.id.to_string()),
        dead_letters: letters.iter().map(shown).collect(),
    }))
}

pub(super) async fn delete(
    request: HttpRequest,
    id: Path<String>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.admit_always(&request, TokenScope::Admin)?;
    if within(&state, state.dead_letters.delete(number(&id)?)).await? {
        return Ok(HttpResponse::NoContent().finish());
    }
    Err(no_such_letter())
}

/// Stores the letter's event, should it be one by now, and throws the letter away.
pub(super) async fn retry(
    request: HttpRequest,
    id: Path<String>,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let deadline = Instant::now() + state.limits.publish_timeout;
    state.admit_always(&request, TokenScope::Admin)?;
    let id = number(&id)?;
    let kept = within(&state, state.dead_letters.dead_letter(id)).await?;
    let letter = kept.ok_or_else(no_such_letter)?.letter;
    if letter.is_truncated() {
        return Err(ApiError::Invalid {
            detail: "the entry was too large to be kept whole".to_owned(),
            errors: Vec::new(),
        });
    }
    let event = wire::event_from_json(letter.entry().to_vec().into())?;
    let batch = Arc::new(EventBatch::single(event));
    let admission = state.ingest.admission();
    let permit = admission.admit(1, admission.bytes_permit())?;
    let receipts = state.ingest.append(batch, permit, deadline).await?;
    within(&state, state.dead_letters.delete(id)).await?;
    Ok(json::ok(&Retried {
        status: "accepted",
        outcome: receipts
            .first()
            .map_or("stored", |receipt| receipt.outcome.as_str()),
        message: "the event is stored and its dead letter is gone",
    }))
}

async fn within<T>(
    state: &HttpState,
    call: crate::store::StoreFuture<'_, T>,
) -> Result<T, ApiError> {
    Ok(timeout(state.limits.read_timeout, call)
        .await
        .map_err(|_| ApiError::DatabaseUnavailable)??)
}

fn number(id: &str) -> Result<i64, ApiError> {
    id.parse().map_err(|_| no_such_letter())
}

fn no_such_letter() -> ApiError {
    ApiError::NotFound("there is no dead letter of this id")
}

fn shown(kept: &DeadLetter) -> Shown<'_> {
    Shown {
        id: kept.id,
        reason: kept.letter.reason(),
        entry: String::from_utf8_lossy(kept.letter.entry()),
        truncated: kept.letter.is_truncated(),
        origin: kept.letter.origin(),
        received_at: kept.received_at.to_string(),
    }
}
