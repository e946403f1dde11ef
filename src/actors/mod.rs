//! The actors: ingest, persist, stats and retention, and what keeps them alive. Between HTTP or the broker,
//! which hand requests to [`IngestClient`], and the store. Knows neither HTTP nor SQL.
//!
//! ```text
//!              permits                 mailbox                  queue (group: events, bytes)
//! IngestClient ───────► IngestActor ───────────► PersistActor n ──────────────► one transaction
//!      ▲  waits for its oneshot, at most               │                             │
//!      └── publish_timeout ◄───────────────────────────┴────── receipts ◄── commit ──┘
//! ```
//!
//! The permits bound every arrow behind them: whoever holds none is not let in.

mod admission;
mod client;
mod dead_letters;
mod ingest;
mod messages;
mod persist;
mod queue;
mod retention;
mod stats;
mod status;
mod supervisor;
mod turns;

pub use admission::{Admission, BytesPermit, Overloaded, Permit};
pub use client::{AppendError, IngestClient};
pub use dead_letters::{DeadLetterClient, KeepError};
pub use ingest::IngestActor;
pub use messages::{Crash, CrashMode, CrashPoint};
pub use persist::{GroupLimits, PersistActor, PersistSettings};
pub use retention::{RetentionActor, RetentionSettings};
pub use stats::{LocalCounts, SharedCounts, StatsActor, StatsClient, StatsError};
pub use status::{ActorKind, ActorState, ActorStatus, ActorView, NotCrashed, Roster};
pub use supervisor::{Cast, RestartPolicy};
pub use turns::Turns;
