//! oncelog stores each `(topic, event_id)` exactly once, for ever.
pub mod config;
pub mod domain;
pub mod store;
pub mod telemetry;
pub mod wire;
