//! The HTTP API: routes, one file each. Between clients and the actors (writing) or the store's
//! reader (reading). Knows no SQL and no settings; status codes are chosen in `error`.

mod admin;
mod auth;
mod body;
mod broker;
mod dashboard;
mod dead_letters;
mod encoding;
mod error;
mod events;
mod forwarded;
mod health;
mod hosts;
mod json;
mod lifecycle;
mod media;
mod metrics;
mod openapi;
mod prefer;
mod publish;
mod query;
mod rate;
mod stats;
mod stream;
mod topics;

pub use auth::{AccessRules, Token, TokenScope};
pub use broker::Broker;
pub use dashboard::{Dashboard, watch};
pub use encoding::Decoders;
pub use error::HeldBack;
pub use forwarded::TrustedProxies;
pub use hosts::AllowedHosts;
pub use lifecycle::Lifecycle;
pub use metrics::RequestMeter;
pub use rate::RateLimiter;
pub use stream::push_frame;

use crate::{
    actors::{IngestClient, Roster, StatsClient},
    feed::Feed,
    store::{DeadLetterStore, EventReader},
};
use actix_web::{HttpResponse, Resource, Route, guard, web};
use error::ApiError;
use std::{sync::Arc, time::Duration};

/// What the routes work with; one for the whole process.
#[derive(Clone)]
pub struct HttpState {
    /// Writing.
    pub ingest: IngestClient,
    /// Counters.
    pub stats: StatsClient,
    /// Reading.
    pub reader: Arc<dyn EventReader>,
    /// Following.
    pub feed: Feed,
    /// What could not be stored.
    pub dead_letters: Arc<dyn DeadLetterStore>,
    /// The broker, where one is configured.
    pub broker: Option<Broker>,
    /// The actors, to look at and to crash.
    pub roster: Roster,
    /// What the dashboard's viewers are shown.
    pub dashboard: Dashboard,
    /// The requests so far.
    pub requests: RequestMeter,
    /// The rules of retention as they are written, for show; `None` = everything is kept.
    pub retention: Option<String>,
    /// The age at which dead letters are deleted, likewise.
    pub dead_letter_retention: Option<String>,
    /// The store's engine, for show.
    pub engine: &'static str,
    /// Whether the process is going down, and what it still has to answer.
    pub lifecycle: Lifecycle,
    /// Who may do what.
    pub access: AccessRules,
    /// Under which names the service is asked for.
    pub hosts: AllowedHosts,
    /// How often.
    pub rates: RateLimiter,
    /// Who may decompress a body now.
    pub decoders: Decoders,
    /// The numbers.
    pub limits: HttpLimits,
}

/// The numbers of the HTTP side.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// The largest body, after decompression.
    pub body_bytes_max: usize,
    /// The longest a body may take to arrive.
    pub body_timeout: Duration,
    /// The longest a publish may take until it is answered.
    pub publish_timeout: Duration,
    /// The longest a read may take.
    pub read_timeout: Duration,
    /// Between two signs of life on a stream that has nothing else to say.
    pub heartbeat: Duration,
}

/// Puts the routes into an application.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        // Routes are tried in this order.
        .service(resource("/publish", "POST", web::post().to(publish::one)))
        .service(resource(
            "/publish/batch",
            "POST",
            web::post().to(publish::batch),
        ))
        .configure(dashboard::routes)
        .configure(openapi::routes)
        .service(readable("/events", get().to(events::list)))
        .service(readable("/events/stream", get().to(stream::subscribe)))
        .service(readable(
            "/events/{topic}/{event_id}",
            get().to(events::one),
        ))
        .service(readable("/topics", get().to(topics::list)))
        .service(readable("/stats", get().to(stats::totals)))
        .service(readable("/metrics", get().to(metrics::metrics)))
        .service(readable("/health", get().to(health::health)))
        .service(readable("/livez", get().to(health::live)))
        .service(readable("/readyz", get().to(health::ready)))
        .service(readable("/dead-letters", get().to(dead_letters::list)))
        .service(resource(
            "/dead-letters/{id}",
            "DELETE",
            web::delete().to(dead_letters::delete),
        ))
        .service(resource(
            "/dead-letters/{id}/retry",
            "POST",
            web::post().to(dead_letters::retry),
        ))
        .service(readable("/admin/actors", get().to(admin::actors)))
        .service(resource(
            "/admin/actors/{name}/crash",
            "POST",
            web::post().to(admin::crash),
        ))
        .default_service(web::to(not_found));
}

fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

fn readable(path: &'static str, route: Route) -> Resource {
    resource(path, "GET, HEAD", route)
}

fn resource(path: &'static str, allow: &'static str, route: Route) -> Resource {
    metrics::measured(path)
        .route(route)
        .default_service(web::to(move || async move {
            Err::<HttpResponse, _>(ApiError::MethodNotAllowed { allow })
        }))
}

async fn not_found() -> Result<HttpResponse, ApiError> {
    Err(ApiError::NotFound("there is nothing under this path"))
}
