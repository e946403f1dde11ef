//! oncelog stores each `(topic, event_id)` exactly once, for ever.
pub mod actors;
pub mod app;
pub mod bridge;
pub mod config;
pub mod domain;
pub mod feed;
#[cfg(test)]
mod fuzzed;
pub mod healthcheck;
pub mod http;
pub mod metrics;
pub mod store;
pub mod tail;
pub mod telemetry;
pub mod tls;
pub mod wire;
