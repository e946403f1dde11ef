//! `GET /admin/actors` and `POST /admin/actors/{name}/crash`: look at the actors, and kill them.

use super::{HttpState, auth::TokenScope, body, error::ApiError, json, media};
use crate::actors::{ActorKind, ActorStatus, ActorView, CrashMode, CrashPoint, NotCrashed};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data, Path},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub(super) struct Actors {
    actors: Vec<Actor>,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Actor {
    name: String,
    kind: &'static str,
    #[schema(required)]
    shard: Option<usize>,
    state: &'static str,
    restarts: u64,
    #[schema(format = DateTime)]
    started_at: String,
    #[schema(required)]
    last_failure: Option<Failure>,
    mailbox_depth: usize,
    connected: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Failure {
    reason: String,
    #[schema(format = DateTime)]
    at: String,
}

#[derive(Deserialize, Default, ToSchema)]
pub(super) struct CrashRequest {
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    at: At,
}

#[derive(Deserialize, Default, Clone, Copy, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    #[default]
    Panic,
    Stop,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum At {
    #[default]
    Now,
    Idle,
    BeforeCommit,
    AfterCommit,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Crashing<'a> {
    status: &'static str,
    actor: &'a str,
    incarnation: u64,
}

pub(super) async fn actors(
    request: HttpRequest,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.admit_always(&request, TokenScope::Admin)?;
    Ok(json::ok(&Actors {
        actors: all(&state),
    }))
}

/// The actors as they are now.
pub(super) fn all(state: &HttpState) -> Vec<Actor> {
    let views = state.roster.statuses().map(ActorStatus::view);
    views.map(shown).collect()
}

impl Actor {
    /// Takes away why its last life ended, which may name what is inside the process.
    pub(super) fn hide_reason(&mut self) {
        if let Some(failure) = &mut self.last_failure {
            failure.reason.clear();
        }
    }
}

pub(super) async fn crash(
    request: HttpRequest,
    name: Path<String>,
    payload: web::Payload,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.admit_always(&request, TokenScope::Admin)?;
    media::check_json(&request)?;
    let (bytes, _permit) = body::read(&request, payload, &state).await?;
    let asked = crash_request(&bytes)?;
    let has_commits = name.starts_with("persist-") || *name == ActorKind::Retention.as_str();
    if asked.at != At::Now && !has_commits {
        return Err(ApiError::Invalid {
            detail: "only persist actors and retention take \"at\"".to_owned(),
            errors: Vec::new(),
        });
    }
    if matches!(asked.mode, Mode::Stop) && matches!(asked.at, At::BeforeCommit | At::AfterCommit) {
        return Err(ApiError::Invalid {
            detail: "around a commit an actor can only panic; stop goes with now and idle"
                .to_owned(),
            errors: Vec::new(),
        });
    }
    let mode = match asked.mode {
        Mode::Panic => CrashMode::Panic,
        Mode::Stop => CrashMode::Stop,
    };
    let at = match asked.at {
        At::Now => CrashPoint::Now,
        At::Idle => CrashPoint::Idle,
        At::BeforeCommit => CrashPoint::BeforeCommit,
        At::AfterCommit => CrashPoint::AfterCommit,
    };
    match state.roster.crash(&name, mode, at) {
        Ok(incarnation) => Ok(HttpResponse::Accepted().json(Crashing {
            status: "crashing",
            actor: &name,
            incarnation,
        })),
        Err(NotCrashed::Restarting) => Err(ApiError::ActorRestarting),
        Err(NotCrashed::Unknown) => {
            let names: Vec<_> = state.roster.statuses().map(ActorStatus::name).collect();
            Err(ApiError::NoSuchActor(names.join(", ")))
        }
    }
}

/// No body at all is the default crash.
fn crash_request(body: &[u8]) -> Result<CrashRequest, ApiError> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Ok(CrashRequest::default());
    }
    let invalid = |detail: String| ApiError::Invalid {
        detail: format!("the body is no crash request: {detail}"),
        errors: Vec::new(),
    };
    // A derived reader would take an array for the struct of its fields.
    if !body.starts_with(b"{") {
        return Err(invalid("it must be a JSON object".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))
}

fn shown(view: ActorView) -> Actor {
    Actor {
        name: view.name,
        kind: view.kind.as_str(),
        shard: view.shard,
        state: view.state.as_str(),
        restarts: view.restarts,
        started_at: view.started_at.to_string(),
        last_failure: view.last_failure.map(|(reason, at)| Failure {
            reason,
            at: at.to_string(),
        }),
        mailbox_depth: view.mailbox_depth,
        connected: view.is_connected,
    }
}
