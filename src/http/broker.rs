//! Publishing through the broker: when a client asks for it, and when the database is out of reach.
//! Used by `publish`.

use super::{
    HttpState,
    error::ApiError,
    json,
    prefer::{self, Preferences},
};
use crate::{
    actors::{ActorStatus, AppendError},
    bridge::{BrokerClient, Depth},
    domain::{EventBatch, Receipt},
};
use actix_web::HttpResponse;
use serde::Serialize;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::sleep;
use utoipa::ToSchema;

/// A shard that is without its database for that long is not waited for.
const OUTAGE_BEFORE_QUEUEING: Duration = Duration::from_secs(1);
/// How often a publish that waits looks whether its database is away.
const OUTAGE_POLL: Duration = Duration::from_millis(200);
/// What a publish keeps of its time for the broker, should the database not answer.
const RESERVED_FOR_BROKER: Duration = Duration::from_millis(2500);

/// The broker as HTTP sees it.
#[derive(Clone)]
pub struct Broker {
    /// Appends to the streams.
    pub client: BrokerClient,
    /// The bridge's status.
    pub bridge: ActorStatus,
    /// Entries that are both in a stream and in the actors.
    pub entries_in_flight: Arc<AtomicUsize>,
}

impl Broker {
    /// Entries of the streams: each is there until its event is stored.
    pub(super) async fn depth(&self) -> Depth {
        self.client.depth().await
    }

    /// Entries that wait in the actors, too.
    pub(super) fn entries_in_flight(&self) -> u64 {
        self.entries_in_flight.load(Ordering::Relaxed) as u64
    }
}

/// The broker that a request may be queued in, whole. One with an event that the bridge would make a dead
/// letter is for the database alone, as all are where there is no broker.
pub(super) fn for_batch<'a>(state: &'a HttpState, batch: &EventBatch) -> Option<&'a Broker> {
    let broker = state.broker.as_ref()?;
    broker.client.takes(batch.events()).then_some(broker)
}

/// How long to wait for the database, so that there is time left to queue instead.
pub(super) fn time_for_database(broker: Option<&Broker>, time: Duration) -> Duration {
    match broker {
        Some(_) => time.saturating_sub(RESERVED_FOR_BROKER),
        None => time,
    }
}

/// The broker, where it is to be used at once: it was asked for, or the database is away.
pub(super) fn instead_of_database<'a>(
    broker: Option<&'a Broker>,
    preferences: &Preferences,
    state: &HttpState,
    batch: &EventBatch,
) -> Option<(&'a Broker, Reason)> {
    let broker = broker?;
    if preferences.respond_async {
        return Some((broker, Reason::Preferred));
    }
    let outage = state.ingest.outage(batch)?;
    (outage >= OUTAGE_BEFORE_QUEUEING).then_some((broker, Reason::Outage))
}

/// Waits for the database; gives it up early where there is a broker and the database is away.
pub(super) async fn unless_outage(
    broker: Option<&Broker>,
    state: &HttpState,
    batch: &EventBatch,
    append: impl Future<Output = Result<Vec<Receipt>, AppendError>>,
) -> Result<Vec<Receipt>, AppendError> {
    if broker.is_none() {
        return append.await;
    }
    let outage = async {
        while state.ingest.outage(batch).unwrap_or_default() < OUTAGE_BEFORE_QUEUEING {
            sleep(OUTAGE_POLL).await;
        }
    };
    tokio::select! {
        biased;
        appended = append => appended,
        () = outage => Err(AppendError::TimedOut),
    }
}

/// Why a publish is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Preferred,
    Outage,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Queued<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    message: &'static str,
    outcome: &'static str,
}

/// What a publish is answered that is queued: as a single event, or as a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Single,
    Batch,
}

/// Appends a request to a stream and answers 202.
pub(super) async fn queue(
    broker: &Broker,
    batch: &EventBatch,
    shape: Shape,
    reason: Reason,
) -> Result<HttpResponse, ApiError> {
    broker
        .client
        .append(batch.events())
        .await
        .map_err(|error| {
            tracing::debug!(%error, "failed to queue a publish");
            ApiError::DatabaseUnavailable
        })?;
    let first = batch.first();
    let is_single = shape == Shape::Single;
    let body = Queued {
        status: "accepted",
        event_id: is_single.then(|| first.event_id().as_str()),
        topic: is_single.then(|| first.topic().as_str()),
        count: (!is_single).then(|| batch.events().len()),
        message: match reason {
            Reason::Preferred => "queued in the broker, to be stored from there",
            Reason::Outage => {
                "the database is out of reach; queued in the broker, to be stored from there"
            }
        },
        outcome: "queued",
    };
    let mut response = json::accepted(&body);
    if reason == Reason::Preferred {
        prefer::applied(&mut response, "respond-async");
    }
    Ok(response)
}
