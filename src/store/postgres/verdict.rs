//! What will be answered for each event of a group, from what the database said of it. Used by the
//! writer; sends nothing itself.

use super::{reader::timestamp, rows::place_of};
use crate::{
    domain::{Outcome, Receipt, Timestamp},
    store::{
        TxnId,
        plan::{GroupPlan, compared},
        recent::Recollection,
    },
};
use sqlx::{Row, postgres::PgRow};

/// The verdicts of a group, as far as they are known yet.
#[derive(Clone)]
pub(super) struct Verdicts<'a> {
    plan: &'a GroupPlan<'a>,
    by_place: Vec<Option<Verdict>>,
}

impl<'a> Verdicts<'a> {
    pub(super) fn new(plan: &'a GroupPlan<'a>) -> Self {
        Self {
            plan,
            by_place: vec![None; plan.len()],
        }
    }

    /// What is known to be stored, and the repeats of that.
    pub(super) fn recall(&mut self, recollection: &Recollection) {
        for &place in self.plan.firsts() {
            self.by_place[place] = recollection.of(place).map(|processed_at| Verdict {
                outcome: Outcome::Duplicate,
                processed_at: Some(processed_at),
            });
        }
        self.judge_repeats(|first| recollection.of(first).map(Some));
    }

    /// What this group has inserted, and the repeats of that.
    pub(super) fn insert(&mut self, inserted: &[usize]) {
        let mut is_inserted = vec![false; self.plan.len()];
        for &place in inserted {
            is_inserted[place] = true;
            self.by_place[place] = Some(Verdict::stored());
        }
        self.judge_repeats(|first| is_inserted[first].then_some(None));
    }

    /// Repeats of a first event that says what is stored: comparing with it is enough.
    fn judge_repeats(&mut self, stored_at: impl Fn(usize) -> Option<Option<Timestamp>>) {
        for &repeat in self.plan.repeats() {
            if let Some(processed_at) = stored_at(repeat.first) {
                self.by_place[repeat.place] = Some(Verdict {
                    outcome: self.plan.repeat_of_own(repeat),
                    processed_at,
                });
            }
        }
    }

    /// What the table says.
    pub(super) fn compare(&mut self, rows: Vec<StoredRow>) {
        for row in rows {
            self.by_place[row.place] = Some(row.verdict());
        }
    }

    /// First events without a verdict.
    pub(super) fn open_firsts(&self) -> Vec<usize> {
        let firsts = self.plan.firsts().iter().copied();
        firsts
            .filter(|&place| self.by_place[place].is_none())
            .collect()
    }

    /// All places without a verdict.
    pub(super) fn open(&self) -> Vec<usize> {
        (0..self.by_place.len())
            .filter(|&place| self.by_place[place].is_none())
            .collect()
    }

    /// All of them, provided that the group inserts the events at these places: its open firsts.
    pub(super) fn if_inserted(&self, places: &[usize]) -> Vec<Verdict> {
        let mut verdicts = self.clone();
        verdicts.insert(places);
        verdicts
            .by_place
            .into_iter()
            .map(|verdict| verdict.unwrap_or(Verdict::stored()))
            .collect()
    }

    /// All of them, where none is open.
    pub(super) fn complete(self) -> Option<Vec<Verdict>> {
        self.by_place.into_iter().collect()
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
    pub(super) fn stored() -> Self {
        Self {
            outcome: Outcome::Stored,
            processed_at: None,
        }
    }

    pub(super) fn receipt(self, now: Timestamp) -> Receipt {
        Receipt {
            outcome: self.outcome,
            processed_at: self.processed_at.unwrap_or(now),
        }
    }
}

/// What is stored under an event's key, compared with the event.
pub(super) struct StoredRow {
    pub(super) place: usize,
    stored_txn: i64,
    stored_seq: i32,
    processed_at: Timestamp,
    says_the_same: bool,
}

impl StoredRow {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the shape that try_map asks for"
    )]
    pub(super) fn read(row: PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            place: place_of(row.try_get("seq")?)?,
            stored_txn: row.try_get("txn")?,
            stored_seq: row.try_get("stored_seq")?,
            processed_at: timestamp(row.try_get("processed_at")?)?,
            says_the_same: row.try_get("says_the_same")?,
        })
    }

    fn verdict(&self) -> Verdict {
        Verdict {
            outcome: compared(self.says_the_same),
            processed_at: Some(self.processed_at),
        }
    }

    /// The verdict where `txn` is our own, committed transaction: what it inserted from this very
    /// place is stored, not a duplicate.
    pub(super) fn verdict_after(&self, txn: TxnId) -> Verdict {
        let is_own = self.stored_txn == txn.0 && usize::try_from(self.stored_seq) == Ok(self.place);
        let mut verdict = self.verdict();
        if is_own {
            verdict.outcome = Outcome::Stored;
        }
        verdict
    }
}
