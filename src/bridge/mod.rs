//! The Redis bridge: events that producers append to a stream are stored as if they had come over
//! HTTP. Between the broker and the actors; knows neither HTTP nor the store.
//!
//! ```text
//!  of each stream:
//!  XADD ─► stream ─► read (own pending, then new) ─┐  channel (1)   at most K batches at a time,
//!                    claim (a dead consumer's) ────┴──────────────► over all streams, in turn
//!                                                                    parse ─► append ─► XACK + XDEL
//!                                                                     └─► dead letter ─┘
//! ```
//!
//! An entry is acknowledged after its event is committed, or after it is kept as a dead letter. What
//! a crash leaves in between is pending in Redis and is read again; the store knows it by its key.
//!
//! Each stream has a session of its own, as the nodes of a cluster fail one by one: `nodes` finds the
//! one that serves a stream, and whatever fails ends that session, which begins anew from there.

mod actor;
mod client;
mod entry;
mod link;
mod names;
mod nodes;
mod session;
mod stream;

pub use actor::{BridgeSettings, Pause, RedisBridgeActor};
pub use client::{BrokerClient, BrokerError, Depth};
pub use entry::EntryLimit;
pub use names::StreamNames;
pub use nodes::BrokerNodes;
