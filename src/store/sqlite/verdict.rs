//! What will be answered for each event of a group, from what is stored under its key. Used by the writer;
//! sends nothing itself.

use super::reader::{stored_payload, stored_text};
use crate::{
    domain::{Event, Outcome, Payload, PayloadDigest, Receipt, Timestamp},
    store::{
        TxnId,
        plan::{GroupPlan, compared},
        recent::Recollection,
    },
};
use sqlx::{Row, sqlite::SqliteRow};

/// What is known of a key.
pub(super) enum Found {
    Free,
    /// From memory: an event equal to the first one of the group, stored at that time.
    Equal(Timestamp),
    /// In the table.
    Row(StoredRow),
}

impl Found {
    /// By the plan's order of first events.
    pub(super) fn recalled(plan: &GroupPlan<'_>, recollection: &Recollection) -> Vec<Self> {
        let recalled = |&place: &usize| recollection.of(place).map_or(Self::Free, Self::Equal);
        plan.firsts().iter().map(recalled).collect()
    }

    pub(super) fn is_free(&self) -> bool {
        matches!(self, Self::Free)
    }
}

/// What will be answered for an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    /// `None`: with this very transaction.
    processed_at: Option<Timestamp>,
}

impl Verdict {
    pub(super) fn receipt(self, now: Timestamp) -> Receipt {
        Receipt {
            outcome: self.outcome,
            processed_at: self.processed_at.unwrap_or(now),
        }
    }
}

/// By place, from what is known of each key. `own`: the transaction whose rows are not found
/// but our own.
pub(super) fn verdicts(plan: &GroupPlan<'_>, found: &[Found], own: Option<TxnId>) -> Vec<Verdict> {
    let stored = Verdict {
        outcome: Outcome::Stored,
        processed_at: None,
    };
    let mut verdicts = vec![stored; plan.len()];
    // By the first place of each key, for its repeats.
    let mut of_first = vec![&Found::Free; plan.len()];
    for (&place, found) in plan.firsts().iter().zip(found) {
        of_first[place] = found;
        verdicts[place] = match found {
            Found::Free => continue,
            Found::Equal(processed_at) => Verdict {
                outcome: Outcome::Duplicate,
                processed_at: Some(*processed_at),
            },
            Found::Row(row) => Verdict {
                outcome: match own {
                    Some(txn) if row.txn == txn.0 => Outcome::Stored,
                    _ => row.compared_with(plan.event(place)),
                },
                processed_at: Some(row.processed_at),
            },
        };
    }
    for &repeat in plan.repeats() {
        verdicts[repeat.place] = Verdict {
            outcome: match of_first[repeat.first] {
                Found::Row(row) => row.compared_with(plan.event(repeat.place)),
                // The first one says what is stored.
                Found::Free | Found::Equal(_) => plan.repeat_of_own(repeat),
            },
            processed_at: verdicts[repeat.first].processed_at,
        };
    }
    verdicts
}

/// What is stored under an event's key.
pub(super) struct StoredRow {
    timestamp_us: i64,
    /// An error: by hand, and no text.
    source: Result<String, String>,
    payload: StoredPayload,
    processed_at: Timestamp,
    txn: i64,
}

enum StoredPayload {
    Kept(Payload),
    /// By hand: no event is the same.
    Foreign,
    /// By retention; what is left is its digest.
    Dropped(Vec<u8>),
}

impl StoredRow {
    pub(super) fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            timestamp_us: row.try_get("timestamp")?,
            source: stored_text(row, "source")?,
            payload: match row.try_get("payload_digest")? {
                Some(digest) => StoredPayload::Dropped(digest),
                None => stored_payload(row)?.map_or(StoredPayload::Foreign, StoredPayload::Kept),
            },
            processed_at: Timestamp::nearest_to_unix_us(row.try_get("processed_at")?),
            txn: row.try_get("txn")?,
        })
    }

    fn compared_with(&self, event: &Event) -> Outcome {
        compared(
            self.timestamp_us == event.timestamp().unix_us()
                && self.source.as_deref() == Ok(event.source().as_str())
                && match &self.payload {
                    StoredPayload::Kept(payload) => payload.is_same_value_as(event.payload()),
                    StoredPayload::Foreign => false,
                    StoredPayload::Dropped(digest) => PayloadDigest::of(event.payload()).is(digest),
                },
        )
    }
}
