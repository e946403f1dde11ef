//! The Redis bridge: events that producers append to a stream are stored as if they had come over
//! HTTP. Between the broker and the actors; knows neither HTTP nor the store.
//!
//! ```text
//!  XADD ─► stream ─► read (own pending, then new) ─┐  channel (1)   at most K batches at a time
//!                    claim (a dead consumer's) ────┴──────────────► parse ─► append ─► XACK + XDEL
//!                                                                     └─► dead letter ─┘
//! ```
//!
//! An entry is acknowledged after its event is committed, or after it is kept as a dead letter. What
//! a crash leaves in between is pending in Redis and is read again; the store knows it by its key.

mod actor;
mod client;
mod stream;

pub use actor::{BridgeSettings, Pause, RedisBridgeActor};
pub use client::{BrokerClient, BrokerError};
pub use stream::StreamNames;
