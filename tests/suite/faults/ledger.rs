//! The account that is kept outside the process under test: every attempt to publish and every
//! answer. Written by the load, compared with the server's own account when all is quiet.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// An event of the load. What it says follows from its key, so that a repeat is no conflict.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) topic: String,
    pub(crate) event_id: String,
}

impl Key {
    pub(crate) fn payload(&self) -> serde_json::Value {
        let Key { topic, event_id } = self;
        serde_json::json!({ "text": format!("{event_id} of {topic}"), "n": event_id.len() })
    }

    pub(crate) fn event(&self) -> serde_json::Value {
        serde_json::json!({
            "topic": self.topic,
            "event_id": self.event_id,
            "timestamp": "2026-01-31T12:00:00.123456Z",
            "source": "load",
            "payload": self.payload(),
        })
    }
}

/// What one attempt to send some events has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 200: durable.
    Committed,
    /// 202: durable in the broker.
    Queued,
    /// 503 or no answer: it may have been stored all the same.
    Unknown,
}

#[derive(Debug, Default, Clone, Copy)]
struct Record {
    attempts: u64,
    committed: u64,
    queued: u64,
    /// Answers that said "stored": at most one may.
    stored: u64,
}

/// The account. Shared by all tasks of a load.
#[derive(Default)]
pub(crate) struct Ledger {
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    records: HashMap<Key, Record>,
    errors: Vec<String>,
    errors_total: u64,
    conflicts: u64,
    /// Events that answers to batches called stored, which do not say which of them.
    stored_in_batches: u64,
    /// Answers that were no success, by their status.
    refusals: BTreeMap<u16, u64>,
}

/// The account, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sums {
    /// Events sent, repeats and retries among them.
    pub(crate) attempts: u64,
    /// Events answered with 200.
    pub(crate) committed: u64,
    /// Events answered with 202.
    pub(crate) queued: u64,
    /// Keys that were sent at least once.
    pub(crate) keys: u64,
    /// Keys that were promised at least once.
    pub(crate) promised: u64,
    /// Requests without a good answer.
    pub(crate) errors: u64,
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            attempts,
            committed,
            queued,
            keys,
            promised,
            errors,
        } = self;
        write!(
            f,
            "{attempts} sends, {committed} committed, {queued} queued, {keys} keys, \
             {promised} promised, {errors} errors"
        )
    }
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what is about to be sent: before, so that a lost answer is no lost attempt.
    pub(crate) fn attempt(&self, keys: &[Key]) {
        let mut book = self.book();
        for key in keys {
            book.records.entry(key.clone()).or_default().attempts += 1;
        }
    }

    /// Writes down the answer to some events.
    pub(crate) fn answer(&self, keys: &[Key], answer: Answer) {
        let mut book = self.book();
        for key in keys {
            let record = book.records.entry(key.clone()).or_default();
            match answer {
                Answer::Committed => record.committed += 1,
                Answer::Queued => record.queued += 1,
                Answer::Unknown => {}
            }
        }
    }

    /// Writes down that an answer called this event stored.
    pub(crate) fn stored(&self, key: &Key) {
        self.book().records.entry(key.clone()).or_default().stored += 1;
    }

    /// Writes down how many events of a batch its answer called stored.
    pub(crate) fn stored_in_batch(&self, count: u64) {
        self.book().stored_in_batches += count;
    }

    pub(crate) fn conflict(&self) {
        self.book().conflicts += 1;
    }

    /// Writes down the status of an answer that was no success.
    pub(crate) fn refused(&self, status: u16) {
        *self.book().refusals.entry(status).or_default() += 1;
    }

    /// How many answers were no success, by their status.
    pub(crate) fn refusals(&self) -> BTreeMap<u16, u64> {
        self.book().refusals.clone()
    }

    /// Writes down a request without a good answer.
    pub(crate) fn error(&self, what: String) {
        let mut book = self.book();
        book.errors_total += 1;
        if book.errors.len() < 5 {
            book.errors.push(what);
        }
    }

    pub(crate) fn first_errors(&self) -> Vec<String> {
        self.book().errors.clone()
    }

    pub(crate) fn sums(&self) -> Sums {
        let book = self.book();
        let mut sums = Sums {
            keys: book.records.len() as u64,
            errors: book.errors_total,
            ..Sums::default()
        };
        for record in book.records.values() {
            sums.attempts += record.attempts;
            sums.committed += record.committed;
            sums.queued += record.queued;
            sums.promised += u64::from(record.committed + record.queued > 0);
        }
        sums
    }

    /// Whether this key was ever sent.
    pub(crate) fn knows(&self, key: &Key) -> bool {
        self.book().records.contains_key(key)
    }

    /// Takes another account over into this one; their keys differ.
    pub(crate) fn absorb(&self, other: &Self) {
        let mut book = self.book();
        let other = other.book();
        for (key, record) in &other.records {
            book.records.insert(key.clone(), *record);
        }
        book.conflicts += other.conflicts;
        book.stored_in_batches += other.stored_in_batches;
    }

    /// Everything in which the server's account differs from this one.
    pub(crate) fn differences(&self, served: &Served) -> Vec<String> {
        let sums = self.sums();
        let book = self.book();
        let mut differences = Vec::new();
        let mut claim = |holds: bool, what: String| {
            if !holds {
                differences.push(what);
            }
        };
        for (key, record) in &book.records {
            let is_there = served.rows.contains_key(key);
            let promised = record.committed + record.queued > 0;
            claim(
                is_there || !promised || served.may_lack(key),
                format!("{key:?} was promised and is not stored: {record:?}"),
            );
            claim(
                record.stored <= 1,
                format!("{key:?} was called stored {} times", record.stored),
            );
        }
        for (key, payload) in &served.rows {
            claim(
                book.records.contains_key(key),
                format!("{key:?} is stored and was never sent"),
            );
            claim(
                *payload == key.payload(),
                format!("{key:?} is stored with another payload: {payload}"),
            );
        }
        let rows = served.rows.len() as u64;
        // Each row is called stored by one answer at most, so all answers together by no more than there are.
        let singles: u64 = book.records.values().map(|record| record.stored).sum();
        let told = singles + book.stored_in_batches;
        claim(
            told <= rows,
            format!("answers called {told} events stored, rows {rows}"),
        );
        claim(
            served.unique == rows,
            format!("unique_processed_count is {}, rows {rows}", served.unique),
        );
        claim(
            served.received == served.unique + served.duplicates,
            format!(
                "received_count is {}, unique + duplicates {} + {}",
                served.received, served.unique, served.duplicates
            ),
        );
        // What was answered counts once; what was not answered may count, too.
        claim(
            (sums.committed..=sums.attempts + served.redelivered_max).contains(&served.received),
            format!(
                "received_count is {}, answered {}, sent {}",
                served.received, sums.committed, sums.attempts
            ),
        );
        claim(
            (book.conflicts..=served.conflicts_max).contains(&served.conflicts),
            format!(
                "{} conflicts counted, {} answered, {} sent at most",
                served.conflicts, book.conflicts, served.conflicts_max
            ),
        );
        differences
    }
}

/// The server's account, read when all is quiet.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pub(crate) received: u64,
    pub(crate) unique: u64,
    pub(crate) duplicates: u64,
    pub(crate) conflicts: u64,
    /// The table itself, not the API.
    pub(crate) rows: HashMap<Key, serde_json::Value>,
    /// How often a broker may have delivered something once more than it was sent.
    pub(crate) redelivered_max: u64,
    /// How often something was sent that may have been a conflict.
    pub(crate) conflicts_max: u64,
    /// Keys that a fault has destroyed in the broker before they were stored, as a flush does.
    pub(crate) destroyed: std::collections::HashSet<Key>,
}

impl Served {
    fn may_lack(&self, key: &Key) -> bool {
        self.destroyed.contains(key)
    }
}
