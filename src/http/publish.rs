//! `POST /publish` and `POST /publish/batch`: body to events, events to actors, receipts to answer.

use super::{HttpState, auth::TokenScope, body, error::ApiError, json};
use crate::{
    domain::{EventBatch, Outcome, Receipt},
    wire::{self, WireError},
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data},
};
use serde::Serialize;

#[derive(Serialize)]
struct Published<'a> {
    status: &'static str,
    event_id: &'a str,
    topic: &'a str,
    message: &'static str,
    outcome: &'static str,
}

#[derive(Serialize)]
struct BatchPublished {
    status: &'static str,
    count: usize,
    stored: usize,
    duplicates: usize,
    conflicts: usize,
    message: &'static str,
}

pub(super) async fn one(
    request: HttpRequest,
    payload: web::Payload,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let deadline = state.ingest.deadline();
    open(&request, &state)?;
    let body::Format::Json = body::format(&request)?;
    let (bytes, permit) = body::read(&request, payload, &state).await?;
    let event = wire::event_from_json(bytes).map_err(|error| refuse(&state, error))?;
    let (topic, event_id) = (event.topic().clone(), event.event_id().clone());
    let permit = state.ingest.admission().admit(1, permit)?;
    let receipts = state
        .ingest
        .append(EventBatch::single(event), permit, deadline)
        .await?;
    let outcome = receipts
        .first()
        .map_or(Outcome::Stored, |receipt| receipt.outcome);
    Ok(json::ok(&Published {
        status: "accepted",
        event_id: event_id.as_str(),
        topic: topic.as_str(),
        message: match outcome {
            Outcome::Stored => "event stored",
            Outcome::Duplicate => "event was stored before",
            Outcome::Conflict => "another event with this key was stored before and stays",
        },
        outcome: outcome.as_str(),
    }))
}

pub(super) async fn batch(
    request: HttpRequest,
    payload: web::Payload,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let deadline = state.ingest.deadline();
    open(&request, &state)?;
    let body::Format::Json = body::format(&request)?;
    let (bytes, permit) = body::read(&request, payload, &state).await?;
    let batch = wire::batch_from_json(bytes).map_err(|error| refuse(&state, error))?;
    let permit = state
        .ingest
        .admission()
        .admit(batch.events().len(), permit)?;
    let receipts = state.ingest.append(batch, permit, deadline).await?;
    Ok(json::ok(&summary(&receipts)))
}

fn summary(receipts: &[Receipt]) -> BatchPublished {
    let count = |outcome| {
        let all = receipts.iter();
        all.filter(|receipt| receipt.outcome == outcome).count()
    };
    let stored = count(Outcome::Stored);
    BatchPublished {
        status: "accepted",
        count: receipts.len(),
        stored,
        duplicates: receipts.len() - stored,
        conflicts: count(Outcome::Conflict),
        message: "every event is stored",
    }
}

fn open(request: &HttpRequest, state: &HttpState) -> Result<(), ApiError> {
    state.access.check(request, TokenScope::Publish)?;
    if state.lifecycle.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    Ok(())
}

fn refuse(state: &HttpState, error: WireError) -> ApiError {
    state.stats.reject(error.events);
    error.into()
}
