//! `POST /publish` and `POST /publish/batch`: body to events, events to actors, receipts to answer.

use super::{
    HttpState,
    auth::TokenScope,
    body,
    broker::{self, Reason, Shape},
    error::ApiError,
    json,
};
use crate::{
    actors::{AppendError, BytesPermit},
    domain::{EventBatch, Outcome, Receipt},
    wire::{self, WireError},
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data},
};
use serde::Serialize;
use std::sync::Arc;
use tokio::time::Instant;

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
    let started = Instant::now();
    open(&request, &state)?;
    let body::Format::Json = body::format(&request)?;
    let (bytes, permit) = body::read(&request, payload, &state).await?;
    let event = wire::event_from_json(bytes).map_err(|error| refuse(&state, error))?;
    let batch = Arc::new(EventBatch::single(event));
    let arrival = Arrival {
        request: &request,
        started,
        shape: Shape::Single,
    };
    match store(&state, &arrival, &batch, permit).await? {
        Stored::Now(receipts) => Ok(json::ok(&published(&batch, &receipts))),
        Stored::Later(queued) => Ok(queued),
    }
}

pub(super) async fn batch(
    request: HttpRequest,
    payload: web::Payload,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let started = Instant::now();
    open(&request, &state)?;
    let body::Format::Json = body::format(&request)?;
    let (bytes, permit) = body::read(&request, payload, &state).await?;
    let batch = wire::batch_from_json(bytes).map_err(|error| refuse(&state, error))?;
    let arrival = Arrival {
        request: &request,
        started,
        shape: Shape::Batch,
    };
    match store(&state, &arrival, &Arc::new(batch), permit).await? {
        Stored::Now(receipts) => Ok(json::ok(&summary(&receipts))),
        Stored::Later(queued) => Ok(queued),
    }
}

/// What there is to know of a publish beside its events.
struct Arrival<'a> {
    request: &'a HttpRequest,
    started: Instant,
    shape: Shape,
}

/// Where a publish has ended up.
enum Stored {
    /// In the database.
    Now(Vec<Receipt>),
    /// In the broker's stream; this is the answer.
    Later(HttpResponse),
}

/// Stores a publish in the database; or in the broker's stream, where there is one and the client
/// prefers it or the database is out of reach.
async fn store(
    state: &HttpState,
    arrival: &Arrival<'_>,
    batch: &Arc<EventBatch>,
    bytes: BytesPermit,
) -> Result<Stored, ApiError> {
    let instead = broker::instead_of_database(arrival.request, state, batch);
    if let Some((broker, reason)) = instead {
        let queued = broker::queue(broker, batch, arrival.shape, reason).await;
        // A preference may be ignored, and is where the broker fails and the database does not.
        if queued.is_ok() || reason == Reason::Outage {
            return queued.map(Stored::Later);
        }
    }
    let permit = state
        .ingest
        .admission()
        .admit(batch.events().len(), bytes)?;
    let time = broker::time_for_database(state, state.limits.publish_timeout);
    let appended = state
        .ingest
        .append(Arc::clone(batch), permit, arrival.started + time)
        .await;
    match (appended, &state.broker) {
        (Ok(receipts), _) => {
            let took = arrival.started.elapsed();
            state.dashboard.publish_times().add(took);
            Ok(Stored::Now(receipts))
        }
        (Err(AppendError::TimedOut), Some(broker)) if state.ingest.outage(batch).is_some() => {
            let queued = broker::queue(broker, batch, arrival.shape, Reason::Outage).await;
            queued.map(Stored::Later)
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn published<'a>(batch: &'a EventBatch, receipts: &[Receipt]) -> Published<'a> {
    let event = batch.first();
    let outcome = receipts
        .first()
        .map_or(Outcome::Stored, |receipt| receipt.outcome);
    Published {
        status: "accepted",
        event_id: event.event_id().as_str(),
        topic: event.topic().as_str(),
        message: match outcome {
            Outcome::Stored => "event stored",
            Outcome::Duplicate => "event was stored before",
            Outcome::Conflict => "another event with this key was stored before and stays",
        },
        outcome: outcome.as_str(),
    }
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
