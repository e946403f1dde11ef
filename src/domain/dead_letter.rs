//! What came in through the broker and can be no event. Kept, so that a person can look at it.

use super::Timestamp;

/// The most bytes of an entry that are kept. A longer one is cut and can no longer be retried.
pub const DEAD_LETTER_BYTES_MAX: usize = 64 * 1024;

/// An entry that is about to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDeadLetter {
    origin: String,
    reason: String,
    entry: Vec<u8>,
    is_truncated: bool,
}

impl NewDeadLetter {
    /// A letter of an entry; `origin` names the entry, so that it is kept once however often it is
    /// delivered.
    pub fn new(origin: impl Into<String>, reason: &str, entry: &[u8]) -> Self {
        let kept = entry.len().min(DEAD_LETTER_BYTES_MAX);
        Self {
            origin: origin.into(),
            // Postgres text has no U+0000, and a reason may quote what it is about.
            reason: reason.replace('\0', "\u{fffd}"),
            entry: entry[..kept].to_vec(),
            is_truncated: kept < entry.len(),
        }
    }

    /// A letter as it was kept.
    pub fn kept(origin: String, reason: String, entry: Vec<u8>, is_truncated: bool) -> Self {
        Self {
            origin,
            reason,
            entry,
            is_truncated,
        }
    }

    /// The name of the entry.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Why it can be no event.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Its first [`DEAD_LETTER_BYTES_MAX`] bytes.
    pub fn entry(&self) -> &[u8] {
        &self.entry
    }

    /// Whether there was more of it.
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }
}

/// An entry that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number; later letters have larger ones.
    pub id: i64,
    /// What was kept.
    pub letter: NewDeadLetter,
    /// When it was kept.
    pub received_at: Timestamp,
}
