//! What will be answered for each event of a group, from what the database said of it. Used by the
//! writer; sends nothing itself.

use super::{answers::stored_time, rows::place_of};
use crate::{
    domain::{Outcome, PayloadDigest, Receipt, Timestamp},
    store::{
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

    /// Of keys that are taken: the first events, and the repeats of those.
    pub(super) fn places_of(&self, firsts: &[usize]) -> Vec<usize> {
        let mut is_taken = vec![false; self.by_place.len()];
        for &place in firsts {
            is_taken[place] = true;
        }
        let repeats = self.plan.repeats().iter();
        let of_taken = repeats.filter(|repeat| is_taken[repeat.first]);
        let mut places = firsts.to_vec();
        places.extend(of_taken.map(|repeat| repeat.place));
        places
    }

    /// All of them, provided that the group inserts its open firsts.
    pub(super) fn if_inserted(&self) -> Vec<Verdict> {
        let mut verdicts = self.clone();
        let mut is_open = vec![false; self.by_place.len()];
        for place in self.open_firsts() {
            is_open[place] = true;
        }
        verdicts.judge_repeats(|first| is_open[first].then_some(None));
        let by_place = verdicts.by_place.into_iter();
        by_place
            .map(|verdict| verdict.unwrap_or(Verdict::stored()))
            .collect()
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
    /// Where its payload was dropped, Postgres has compared the rest, and the digest is compared here.
    pub(super) fn read(row: &PgRow, plan: &GroupPlan<'_>) -> Result<Self, sqlx::Error> {
        let place = place_of(row.try_get("seq")?)?;
        let mut says_the_same: bool = row.try_get("says_the_same")?;
        if let Some(kept) = row.try_get::<Option<Vec<u8>>, _>("payload_digest")? {
            says_the_same =
                says_the_same && PayloadDigest::of(plan.event(place).payload()).is(&kept);
        }
        Ok(Self {
            place,
            stored_txn: row.try_get("txn")?,
            stored_seq: row.try_get("stored_seq")?,
            processed_at: stored_time(row, "processed_at")?,
            says_the_same,
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
    pub(super) fn verdict_after(&self, txn: i64) -> Verdict {
        let is_own = self.stored_txn == txn && usize::try_from(self.stored_seq) == Ok(self.place);
        let mut verdict = self.verdict();
        if is_own {
            verdict.outcome = Outcome::Stored;
        }
        verdict
    }
}
