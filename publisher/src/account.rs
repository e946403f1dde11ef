//! The publisher's own account. What was not answered may have been stored all the same, so the
//! server's number of received events lies between two bounds; the number of stored ones does not.

use hdrhistogram::Histogram;
use std::time::Duration;

/// The first wrong answers, to be shown.
const SHOWN_MAX: usize = 5;

/// What has become of all sends.
#[derive(Debug)]
pub(crate) struct Account {
    /// Events answered with 200, by outcome; conflicts are counted within duplicates.
    pub(crate) stored: u64,
    pub(crate) duplicates: u64,
    pub(crate) conflicts: u64,
    /// Events that the broker has taken.
    pub(crate) queued: u64,
    /// Events of attempts without a good answer: the server may have counted each of them.
    pub(crate) uncertain: u64,
    /// Attempts beyond the first.
    pub(crate) retries: u64,
    /// Attempts that a client saw fail, each of them retried or given up.
    pub(crate) failed_attempts: u64,
    /// Events that were given up or refused.
    pub(crate) errors: u64,
    pub(crate) shown: Vec<String>,
    /// Microseconds from the first attempt to the good answer, by request.
    pub(crate) latency_us: Histogram<u64>,
}

/// What one attempt has come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Durable in the database.
    Committed {
        stored: u64,
        duplicates: u64,
        conflicts: u64,
    },
    /// Durable in the broker.
    Queued,
    /// Nobody knows; the same again tells.
    Unknown {
        why: String,
        retry_after: Option<Duration>,
    },
    /// It will never be taken.
    Refused { why: String },
}

impl Account {
    pub(crate) fn new() -> Self {
        Self {
            stored: 0,
            duplicates: 0,
            conflicts: 0,
            queued: 0,
            uncertain: 0,
            retries: 0,
            failed_attempts: 0,
            errors: 0,
            shown: Vec::new(),
            latency_us: histogram(),
        }
    }

    /// Enters the answer to an attempt with so many events.
    pub(crate) fn enter(&mut self, events: u64, answer: &Answer) {
        match answer {
            Answer::Committed {
                stored,
                duplicates,
                conflicts,
            } => {
                self.stored += stored;
                self.duplicates += duplicates;
                self.conflicts += conflicts;
            }
            Answer::Queued => self.queued += events,
            Answer::Unknown { why, .. } => {
                self.uncertain += events;
                self.failed_attempts += 1;
                self.show(why);
            }
            Answer::Refused { why } => {
                self.failed_attempts += 1;
                self.errors += events;
                self.show(why);
            }
        }
    }

    /// Enters events that were sent again in vain for too long.
    pub(crate) fn give_up(&mut self, events: u64) {
        self.errors += events;
    }

    pub(crate) fn took(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        // Only a value beyond u64's half could be refused.
        let _ = self.latency_us.record(us.max(1));
    }

    /// Events with a good answer.
    pub(crate) fn answered(&self) -> u64 {
        self.stored + self.duplicates + self.queued
    }

    /// What the server's received_count may have grown by.
    pub(crate) fn received(&self) -> std::ops::RangeInclusive<u64> {
        self.answered()..=self.answered() + self.uncertain
    }

    fn show(&mut self, why: &str) {
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(why.to_owned());
        }
    }
}

/// Three significant digits, growing with what it has to hold.
#[expect(clippy::expect_used, reason = "three digits are a valid precision")]
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("a histogram of three digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_answered_widens_the_bounds() {
        let mut account = Account::new();
        let unknown = Answer::Unknown {
            why: "reset".to_owned(),
            retry_after: None,
        };
        account.enter(10, &unknown);
        assert_eq!(account.received(), 0..=10);
        let committed = Answer::Committed {
            stored: 4,
            duplicates: 6,
            conflicts: 1,
        };
        account.enter(10, &committed);
        account.enter(3, &Answer::Queued);
        assert_eq!(account.received(), 13..=23);
        account.enter(2, &Answer::Refused { why: String::new() });
        assert_eq!((account.received(), account.errors), (13..=23, 2));
    }
}
