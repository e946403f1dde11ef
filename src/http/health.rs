//! `GET /health`, `/livez` and `/readyz`: for people, for restarts, for load balancers.

use super::{HttpState, json};
use crate::{
    actors::{ActorKind, ActorState, ActorStatus},
    domain::Timestamp,
};
use actix_web::{HttpResponse, http::header::RETRY_AFTER, web::Data};
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::ToSchema;

/// Longer than this the database counts as out of reach.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECTED: &str = "connected";

#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    #[serde(flatten)]
    reach: Reach,
    /// `ok`, or which settings of the database may cost what is committed; `unknown` while it is
    /// out of reach.
    durability: String,
    /// What the database's server is: `primary`; `standby` or `read-only` where it takes no writes;
    /// `unknown` while it is out of reach.
    database_role: &'static str,
    #[schema(format = DateTime)]
    timestamp: String,
}

/// What the process reaches of what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Reach {
    status: &'static str,
    database: &'static str,
    redis: &'static str,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

pub(super) async fn health(state: Data<HttpState>) -> HttpResponse {
    let (reach, durability, database_role) =
        tokio::join!(look(&state), durability(&state), role(&state));
    let health = Health {
        reach,
        durability,
        database_role,
        timestamp: Timestamp::now().to_string(),
    };
    if reach.has_database() {
        return json::ok(&health);
    }
    HttpResponse::ServiceUnavailable()
        .insert_header((RETRY_AFTER, "1"))
        .json(health)
}

async fn durability(state: &HttpState) -> String {
    match timeout(PING_TIMEOUT, state.reader.durability_gaps()).await {
        Ok(Ok(gaps)) if gaps.is_empty() => "ok".to_owned(),
        Ok(Ok(gaps)) => {
            let gaps = gaps.iter().map(|setting| format!("{setting} is off"));
            gaps.collect::<Vec<_>>().join(", ")
        }
        _ => "unknown".to_owned(),
    }
}

async fn role(state: &HttpState) -> &'static str {
    match timeout(PING_TIMEOUT, state.reader.role()).await {
        Ok(Ok(role)) => role,
        _ => "unknown",
    }
}

/// Asks the database and the broker. A database that can be read and not written, as on a full disk,
/// is none.
pub(super) async fn look(state: &HttpState) -> Reach {
    let is_cut_off = |kind| {
        let is_one = |status: &ActorStatus| {
            status.kind() == kind
                && status
                    .disconnected_for()
                    .is_some_and(|time| time >= PING_TIMEOUT)
        };
        state.roster.statuses().any(is_one)
    };
    let database = async {
        let answers = matches!(timeout(PING_TIMEOUT, state.reader.ping()).await, Ok(Ok(())));
        answers && !is_cut_off(ActorKind::Persist)
    };
    let redis = async {
        match &state.broker {
            // Who is answered may still be refused what the bridge is about.
            Some(broker) => Some(broker.client.ping().await && !is_cut_off(ActorKind::RedisBridge)),
            None => None,
        }
    };
    let (has_database, has_redis) = tokio::join!(database, redis);
    Reach::new(has_database, has_redis)
}

impl Reach {
    /// `None` where no broker is configured.
    fn new(has_database: bool, has_redis: Option<bool>) -> Self {
        let connection = |is_there| match is_there {
            true => CONNECTED,
            false => "disconnected",
        };
        Self {
            status: match (has_database, has_redis) {
                (false, _) => "unhealthy",
                (true, Some(false)) => "degraded",
                (true, _) => "healthy",
            },
            database: connection(has_database),
            redis: has_redis.map_or("disabled", connection),
        }
    }

    fn has_database(&self) -> bool {
        self.database == CONNECTED
    }
}

pub(super) async fn live() -> HttpResponse {
    json::ok(&Readiness {
        status: "alive",
        reasons: Vec::new(),
    })
}

pub(super) async fn ready(state: Data<HttpState>) -> HttpResponse {
    let mut reasons = Vec::new();
    // Asked, not remembered: on an idle service no writer has noticed a loss yet.
    if !matches!(timeout(PING_TIMEOUT, state.reader.ping()).await, Ok(Ok(()))) {
        reasons.push("the database does not answer".to_owned());
    }
    if state.lifecycle.is_draining() {
        reasons.push("shutting down".to_owned());
    }
    // Old events that are kept for longer keep nobody from publishing.
    let statuses = state.roster.statuses();
    for status in statuses.filter(|status| status.kind() != ActorKind::Retention) {
        if status.state() == ActorState::Failed {
            reasons.push(format!("{} has failed", status.name()));
        }
        // A lost broker degrades the service; what comes over HTTP is stored all the same.
        if status.kind() != ActorKind::RedisBridge && !status.is_connected() {
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
