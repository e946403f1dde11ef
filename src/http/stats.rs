//! `GET /stats`: the counters of all replicas, and what waits here. The dashboard shows the same.

use super::{HttpState, auth::TokenScope, error::ApiError, json};
use crate::{actors::ActorStatus, domain::Timestamp};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Stats {
    received_count: u64,
    pub(super) unique_processed_count: u64,
    pub(super) duplicate_dropped_count: u64,
    conflict_count: u64,
    pub(super) rejected_count: u64,
    topics_count: u64,
    dead_letter_count: u64,
    pub(super) uptime_seconds: f64,
    queue_length: u64,
    #[schema(format = DateTime)]
    last_updated: String,
    retention: Retention,
}

/// What age has taken, over all replicas.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Retention {
    /// As in the setting; null where everything is kept.
    #[schema(required)]
    rules: Option<String>,
    /// At which dead letters are deleted, as in the setting; null where they are kept.
    #[schema(required)]
    dead_letter_age: Option<String>,
    payloads_dropped_count: u64,
    events_deleted_count: u64,
    dead_letters_deleted_count: u64,
    /// When a run last came to its end.
    #[schema(required, format = DateTime)]
    last_run_at: Option<String>,
}

pub(super) async fn totals(
    request: HttpRequest,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.admit(&request, TokenScope::Read)?;
    Ok(json::ok(&read(&state).await?))
}

/// The counters, not older than this call.
pub(super) async fn read(state: &HttpState) -> Result<Stats, ApiError> {
    // The queue first, and the stream before the actors: an event that moves on meanwhile is found
    // in the next place, so a queue of 0 means that the counters are complete.
    let queue_length = queue_length(state).await;
    let totals = state.stats.totals().await?;
    Ok(Stats {
        received_count: totals.received,
        unique_processed_count: totals.unique_processed,
        duplicate_dropped_count: totals.duplicate_dropped,
        conflict_count: totals.conflicts,
        rejected_count: totals.rejected,
        topics_count: totals.topics,
        dead_letter_count: totals.dead_letters,
        uptime_seconds: (state.lifecycle.uptime().as_secs_f64() * 1000.0).round() / 1000.0,
        queue_length,
        last_updated: totals
            .last_updated
            .unwrap_or_else(Timestamp::now)
            .to_string(),
        retention: Retention {
            rules: state.retention.clone(),
            dead_letter_age: state.dead_letter_retention.clone(),
            payloads_dropped_count: totals.payloads_dropped,
            events_deleted_count: totals.events_deleted,
            dead_letters_deleted_count: totals.dead_letters_deleted,
            last_run_at: totals.retention_run_at.map(|at| at.to_string()),
        },
    })
}

/// Events that wait in the stream or in the actors, each counted once.
async fn queue_length(state: &HttpState) -> u64 {
    let (in_stream, in_both) = match &state.broker {
        // A lost broker, or a lost part of it, must not take the counters with it; /health says that
        // it is lost.
        Some(broker) => (broker.depth().await.entries, broker.entries_in_flight()),
        None => (0, 0),
    };
    let statuses = state.roster.statuses();
    let in_actors: usize = statuses.map(ActorStatus::events_waiting).sum();
    in_stream + (in_actors as u64).saturating_sub(in_both)
}
