//! `GET /health`, `/livez` and `/readyz`: for people, for restarts, for load balancers.

use super::{HttpState, json};
use crate::{actors::ActorState, domain::Timestamp};
use actix_web::{HttpResponse, http::header::RETRY_AFTER, web::Data};
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;

/// Longer than this the database counts as out of reach.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Health {
    status: &'static str,
    database: &'static str,
    redis: &'static str,
    timestamp: String,
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

pub(super) async fn health(state: Data<HttpState>) -> HttpResponse {
    let is_connected = matches!(timeout(PING_TIMEOUT, state.reader.ping()).await, Ok(Ok(())));
    let health = Health {
        status: if is_connected { "healthy" } else { "unhealthy" },
        database: if is_connected {
            "connected"
        } else {
            "disconnected"
        },
        redis: "disabled",
        timestamp: Timestamp::now().to_string(),
    };
    if is_connected {
        return json::ok(&health);
    }
    HttpResponse::ServiceUnavailable()
        .insert_header((RETRY_AFTER, "1"))
        .json(health)
}

pub(super) async fn live() -> HttpResponse {
    json::ok(&Readiness {
        status: "alive",
        reasons: Vec::new(),
    })
}

pub(super) async fn ready(state: Data<HttpState>) -> HttpResponse {
    let mut reasons = Vec::new();
    if state.lifecycle.is_draining() {
        reasons.push("shutting down".to_owned());
    }
    for status in state.roster.statuses() {
        if status.state() == ActorState::Failed {
            reasons.push(format!("{} has failed", status.name()));
        }
        if !status.is_connected() {
            reasons.push(format!("{} is not connected", status.name()));
        }
    }
    if reasons.is_empty() {
        return json::ok(&Readiness {
            status: "ready",
            reasons,
        });
    }
    HttpResponse::ServiceUnavailable()
        .insert_header((RETRY_AFTER, "1"))
        .json(Readiness {
            status: "not ready",
            reasons,
        })
}
