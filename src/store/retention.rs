//! How retention goes through the log, the same for both engines: from where, how far, and which of
//! the rows that it meets are due. Knows no SQL.
//!
//! A *walk* goes through the whole log in the order of storing, for one age and what is to happen then. It
//! remembers how far it has come and stops at the first event that is too young, so each event is
//! looked at once for each walk, and no index is needed that publishing would have to pay for.

use crate::domain::{Cursor, Expiry, PayloadDigest, RetentionMode, RetentionRules, Timestamp};
use sha2::{Digest, Sha256};
use std::{collections::VecDeque, fmt::Write as _, ops::AddAssign};

/// When so many bytes of payloads have been read for a batch, it ends: it has to be read in a part of the time that a
/// statement may take.
pub(super) const BATCH_BYTES_MAX: usize = 8 << 20;

/// Rows whose time is over, and how far the log has been looked at with them.
#[derive(Debug)]
pub struct ExpiredBatch {
    pub(super) rows: Vec<ExpiredRow>,
    pub(super) place: Cursor,
    /// Changes and deletions by others, counted when these were read. SQLite's.
    pub(super) changes: i64,
}

impl ExpiredBatch {
    /// How many rows it would change.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it only says how far the log has been looked at.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// One of them.
#[derive(Debug)]
pub(super) struct ExpiredRow {
    pub(super) topic: String,
    pub(super) event_id: String,
    pub(super) place: Cursor,
    /// Which version of the row was read: one that was changed since is left alone.
    pub(super) version: String,
    /// Of its payload, where that is to be dropped.
    pub(super) digest: Option<PayloadDigest>,
}

/// What a batch has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Events that have lost their payload.
    pub payloads_dropped: u64,
    /// Events that are gone.
    pub events_deleted: u64,
    /// Dead letters that are gone.
    pub dead_letters_deleted: u64,
}

impl AddAssign for Expired {
    fn add_assign(&mut self, other: Self) {
        self.payloads_dropped += other.payloads_dropped;
        self.events_deleted += other.events_deleted;
        self.dead_letters_deleted += other.dead_letters_deleted;
    }
}

/// A row as a walk meets it.
pub(super) struct MetRow {
    pub(super) topic: String,
    pub(super) event_id: String,
    pub(super) place: Cursor,
    pub(super) version: String,
    pub(super) is_due: bool,
    pub(super) is_dropped: bool,
}

/// One way through the log.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    pub(super) expiry: Expiry,
    /// Under which its place is kept: with other rules it starts anew.
    pub(super) name: String,
    pub(super) place: Cursor,
    /// Whether it has come to what is too young or not there yet.
    pub(super) is_over: bool,
    /// Up to which time of storing it has been announced in this run that it deletes. Postgres's.
    pub(super) announced_through: Option<Timestamp>,
}

/// The walks of a run that are still to be gone, the present one first.
pub(super) struct Walks(VecDeque<Walk>);

impl Walks {
    /// Those of these rules, from the beginning of the log.
    pub(super) fn of(rules: &RetentionRules) -> Self {
        let hash = Sha256::digest(rules.to_string());
        let rules_id = hash[..8].iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let expiries = rules.expiries().into_iter();
        let walks = expiries.map(|expiry| Walk {
            expiry,
            name: format!("{expiry} of {rules_id}"),
            place: Cursor::START,
            is_over: false,
            announced_through: None,
        });
        Self(walks.collect())
    }

    /// All of them, to be told how far they have come.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Walk> {
        self.0.iter_mut()
    }

    pub(super) fn present(&mut self) -> Option<&mut Walk> {
        self.0.front_mut()
    }

    /// Leaves what a batch has behind so many rows for the next one.
    pub(super) fn end_batch_after(&mut self, rows: usize, batch: &mut ExpiredBatch) {
        if rows == batch.rows.len() {
            return;
        }
        batch.rows.truncate(rows);
        if let Some(last) = batch.rows.last() {
            batch.place = last.place;
        }
        if let Some(walk) = self.present() {
            walk.is_over = false;
        }
    }

    /// So many rows of a batch were changed. Where that is not all of them the walk looks again.
    pub(super) fn has_changed(&mut self, batch: &ExpiredBatch, changed: u64) -> Expired {
        let Some(walk) = self.0.front_mut() else {
            return Expired::default();
        };
        let expired = match walk.expiry.mode {
            RetentionMode::DropPayload => Expired {
                payloads_dropped: changed,
                ..Expired::default()
            },
            RetentionMode::Delete => Expired {
                events_deleted: changed,
                ..Expired::default()
            },
        };
        if changed == batch.rows.len() as u64 {
            walk.place = batch.place;
            if walk.is_over {
                self.0.pop_front();
            }
        }
        expired
    }
}

impl Walk {
    /// Of the next rows of the log, those that this walk is to change; where it then stands; and whether
    /// that is the end. `is_all`: there are no more rows behind these.
    pub(super) fn choose(
        &self,
        rules: &RetentionRules,
        rows: Vec<MetRow>,
        is_all: bool,
    ) -> (ExpiredBatch, bool) {
        let mut place = self.place;
        let mut is_over = is_all;
        let mut chosen = Vec::new();
        for row in rows {
            if !row.is_due {
                is_over = true;
                break;
            }
            place = row.place;
            let is_ours = rules.expiry(&row.topic) == Some(self.expiry);
            let is_done = row.is_dropped && self.expiry.mode == RetentionMode::DropPayload;
            if is_ours && !is_done {
                chosen.push(ExpiredRow {
                    topic: row.topic,
                    event_id: row.event_id,
                    place: row.place,
                    version: row.version,
                    digest: None,
                });
            }
        }
        let batch = ExpiredBatch {
            rows: chosen,
            place,
            changes: 0,
        };
        (batch, is_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{RetentionRule, TopicPattern};
    use std::time::Duration;

    fn rules() -> RetentionRules {
        let rule = |prefix: &str, mode| RetentionRule {
            pattern: TopicPattern::Prefix(prefix.to_owned()),
            expiry: Some(Expiry {
                age: Duration::from_secs(60),
                mode,
            }),
        };
        RetentionRules::new(vec![
            rule("", RetentionMode::DropPayload),
            rule("d", RetentionMode::Delete),
        ])
        .unwrap()
    }

    fn row(topic: &str, txn: i64, is_due: bool, is_dropped: bool) -> MetRow {
        MetRow {
            topic: topic.to_owned(),
            event_id: txn.to_string(),
            place: Cursor { txn, seq: 0 },
            version: String::new(),
            is_due,
            is_dropped,
        }
    }

    fn ids(batch: &ExpiredBatch) -> Vec<&str> {
        batch.rows.iter().map(|row| row.event_id.as_str()).collect()
    }

    #[test]
    fn each_walk_takes_what_is_its_own_and_stops_before_what_is_too_young() {
        let rules = rules();
        let rows = || {
            vec![
                row("a", 1, true, false),
                row("d", 2, true, true),
                row("a", 3, true, true),
                row("d", 4, true, false),
                row("a", 5, true, false),
                row("a", 6, false, false),
                row("a", 7, true, false),
            ]
        };
        let walks = Walks::of(&rules).0;
        let (delete, drop) = (&walks[0], &walks[1]);
        let (batch, is_over) = drop.choose(&rules, rows(), false);
        assert_eq!(ids(&batch), ["1", "5"]);
        assert_eq!(batch.place, Cursor { txn: 5, seq: 0 });
        assert!(is_over);
        let (batch, _) = delete.choose(&rules, rows(), false);
        assert_eq!(ids(&batch), ["2", "4"]);
    }

    #[test]
    fn a_full_look_goes_on_and_an_empty_one_is_the_end() {
        let rules = rules();
        let walk = &Walks::of(&rules).0[1];
        let (batch, is_over) = walk.choose(&rules, vec![row("a", 1, true, false)], false);
        assert_eq!((batch.len(), is_over), (1, false));
        let (batch, is_over) = walk.choose(&rules, vec![], true);
        assert_eq!((batch.is_empty(), is_over), (true, true));
        assert_eq!(batch.place, Cursor::START);
    }

    #[test]
    fn with_other_rules_a_walk_has_another_name() {
        let one = &Walks::of(&rules()).0[1].name;
        let other = RetentionRules::new(vec![RetentionRule {
            pattern: TopicPattern::Prefix(String::new()),
            expiry: rules().expiry("a"),
        }]);
        assert_ne!(*one, Walks::of(&other.unwrap()).0[0].name);
    }
}
