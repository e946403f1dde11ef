//! What became of one event. Made by the store, told to the producer.

use super::Timestamp;

/// What the database said of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Its key was new: it is stored now.
    Stored,
    /// Its key was stored before, with the same timestamp, source and payload.
    Duplicate,
    /// Its key was stored before, with another timestamp, source or payload; the first one stays.
    Conflict,
}

impl Outcome {
    /// The name in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
        }
    }
}

/// The durable answer to one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// What became of it.
    pub outcome: Outcome,
    /// When its key was stored for the first time.
    pub processed_at: Timestamp,
}
