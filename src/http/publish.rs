//! `POST /publish` and `POST /publish/batch`: body to events, events to actors, receipts to answer.

use super::{
    HttpState,
    auth::TokenScope,
    body,
    broker::{self, Broker, Reason, Shape},
    error::ApiError,
    json,
    media::{self, BatchFormat, EventFormat},
    prefer::{self, Preferences},
    rate::Caller,
};
use crate::{
    actors::{AppendError, BytesPermit},
    domain::{Event, EventBatch, Outcome, Receipt},
    wire::{self, WireError},
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Bytes, Data},
};
use serde::Serialize;
use std::sync::Arc;
use tokio::time::Instant;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub(super) struct Published<'a> {
    status: &'static str,
    event_id: &'a str,
    topic: &'a str,
    message: &'static str,
    #[schema(schema_with = super::openapi::outcome)]
    outcome: &'static str,
    #[schema(required, format = DateTime)]
    processed_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct BatchPublished<'a> {
    status: &'static str,
    count: usize,
    stored: usize,
    duplicates: usize,
    conflicts: usize,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<Vec<EventResult<'a>>>,
}

/// What became of one event of a batch.
#[derive(Serialize, ToSchema)]
pub(super) struct EventResult<'a> {
    topic: &'a str,
    event_id: &'a str,
    #[schema(schema_with = super::openapi::outcome)]
    outcome: &'static str,
    /// When its key was stored for the first time.
    #[schema(format = DateTime)]
    processed_at: String,
}

pub(super) async fn one(
    request: HttpRequest,
    payload: web::Payload,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let arrival = Arrival::of(&request, &state, Shape::Single)?;
    let format = media::of_event(&request)?;
    let (bytes, permit) = body::read(&request, payload, &state).await?;
    refuse_if_full(&state)?;
    let event = read_event(format, &request, bytes).map_err(|error| refuse(&state, error))?;
    let batch = Arc::new(EventBatch::single(event));
    let answer = match store(&state, &arrival, &batch, permit).await? {
        Stored::Now(receipts) => json::ok(&published(&batch, &receipts)),
        Stored::Later(queued) => return Ok(queued),
    };
    Ok(arrival.represented(answer))
}

pub(super) async fn batch(
    request: HttpRequest,
    payload: web::Payload,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    let arrival = Arrival::of(&request, &state, Shape::Batch)?;
    let format = media::of_batch(&request)?;
    let (bytes, permit) = body::read(&request, payload, &state).await?;
    refuse_if_full(&state)?;
    let batch = read_batch(format, bytes).map_err(|error| refuse(&state, error))?;
    arrival.caller.bring(batch.events().len() - 1)?;
    let batch = Arc::new(batch);
    let answer = match store(&state, &arrival, &batch, permit).await? {
        Stored::Now(receipts) => json::ok(&summary(&arrival, &batch, &receipts)),
        Stored::Later(queued) => return Ok(queued),
    };
    Ok(arrival.represented(answer))
}

/// Before the events are read, which takes most of the time that a refusal costs. A broker may take them.
fn refuse_if_full(state: &HttpState) -> Result<(), ApiError> {
    if state.broker.is_none() && state.ingest.admission().is_full() {
        return Err(ApiError::Overloaded);
    }
    Ok(())
}

fn read_event(format: EventFormat, request: &HttpRequest, body: Bytes) -> Result<Event, WireError> {
    match format {
        EventFormat::Json => wire::event_from_json(body),
        EventFormat::CloudEventStructured => wire::event_from_cloudevents_structured(body),
        EventFormat::CloudEventBinary => {
            let headers = request.headers().iter();
            let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
            wire::event_from_cloudevents_binary(headers, body)
        }
    }
}

fn read_batch(format: BatchFormat, body: Bytes) -> Result<EventBatch, WireError> {
    match format {
        BatchFormat::Json => wire::batch_from_json(body),
        BatchFormat::Ndjson => wire::batch_from_ndjson(body),
        BatchFormat::CloudEvents => wire::batch_from_cloudevents(body),
    }
}

/// What there is to know of a publish beside its events.
struct Arrival {
    started: Instant,
    caller: Caller,
    shape: Shape,
    preferences: Preferences,
}

impl Arrival {
    /// Lets a publish in, before its body is read.
    fn of(request: &HttpRequest, state: &HttpState, shape: Shape) -> Result<Self, ApiError> {
        let caller = state.admit(request, TokenScope::Publish)?;
        if state.lifecycle.is_refusing() {
            return Err(ApiError::ShuttingDown);
        }
        Ok(Self {
            started: Instant::now(),
            caller,
            shape,
            preferences: Preferences::of(request),
        })
    }

    fn represented(&self, mut answer: HttpResponse) -> HttpResponse {
        if self.preferences.representation {
            prefer::applied(&mut answer, "return=representation");
        }
        answer
    }
}

/// Where a publish has ended up.
enum Stored {
    /// In the database.
    Now(Vec<Receipt>),
    /// In the broker's stream; this is the answer.
    Later(HttpResponse),
}

/// Stores a publish in the database; or in the broker's stream, where there is one that takes
/// it and the client prefers it or the database is out of reach.
async fn store(
    state: &HttpState,
    arrival: &Arrival,
    batch: &Arc<EventBatch>,
    bytes: BytesPermit,
) -> Result<Stored, ApiError> {
    let broker = broker::for_batch(state, batch);
    let instead = broker::instead_of_database(broker, &arrival.preferences, state, batch);
    if let Some((broker, reason)) = instead {
        let queued = queue(state, broker, arrival, batch, reason).await;
        // A preference may be ignored, and is where the broker fails and the database does not.
        if queued.is_ok() || reason == Reason::Outage {
            return queued;
        }
    }
    let permit = state
        .ingest
        .admission()
        .admit(batch.events().len(), bytes)?;
    let time = broker::time_for_database(broker, state.limits.publish_timeout);
    let deadline = arrival.started + time;
    let append = state.ingest.append(Arc::clone(batch), permit, deadline);
    let appended = broker::unless_outage(broker, state, batch, append).await;
    match (appended, broker) {
        (Ok(receipts), _) => {
            let took = arrival.started.elapsed();
            state.dashboard.publish_times().add(took);
            Ok(Stored::Now(receipts))
        }
        (Err(AppendError::TimedOut), Some(broker)) if state.ingest.outage(batch).is_some() => {
            queue(state, broker, arrival, batch, Reason::Outage).await
        }
        (Err(error), _) => Err(error.into()),
    }
}

async fn queue(
    state: &HttpState,
    broker: &Broker,
    arrival: &Arrival,
    batch: &EventBatch,
    reason: Reason,
) -> Result<Stored, ApiError> {
    // Boxed: its future is ten times as large as all else of a publish, which would hold the room for it.
    let queued = Box::pin(broker::queue(broker, batch, arrival.shape, reason)).await?;
    state.stats.queue(batch.events().len() as u64);
    Ok(Stored::Later(queued))
}

fn published<'a>(batch: &'a EventBatch, receipts: &[Receipt]) -> Published<'a> {
    let event = batch.first();
    let receipt = receipts.first();
    let outcome = receipt.map_or(Outcome::Stored, |receipt| receipt.outcome);
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
        processed_at: receipt.map(|receipt| receipt.processed_at.to_string()),
    }
}

fn summary<'a>(
    arrival: &Arrival,
    batch: &'a EventBatch,
    receipts: &[Receipt],
) -> BatchPublished<'a> {
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
        results: arrival
            .preferences
            .representation
            .then(|| results(batch, receipts)),
    }
}

fn results<'a>(batch: &'a EventBatch, receipts: &[Receipt]) -> Vec<EventResult<'a>> {
    let events = batch.events().iter().zip(receipts);
    events
        .map(|(event, receipt)| EventResult {
            topic: event.topic().as_str(),
            event_id: event.event_id().as_str(),
            outcome: receipt.outcome.as_str(),
            processed_at: receipt.processed_at.to_string(),
        })
        .collect()
}

fn refuse(state: &HttpState, error: WireError) -> ApiError {
    state.stats.reject(error.rejection, error.events);
    error.into()
}
