//! The keys that were stored lately, so that a repeat of one need not be asked of the database.
//! Shared by the writers of one database; knows no SQL.
//!
//! What is remembered was committed, and is forgotten with the first sign that it may be gone: when
//! a writer has lost its connection, and when the database's [`Epoch`] has changed. A writer reads
//! the epoch within the transaction that relies on what was recalled, so an answer from memory is
//! as exact as one from the table.
//!
//! Retention announces up to which time of storing it will delete before it does, which is an epoch of its
//! own. What is as old is then no longer recalled, nor remembered anew where the table still has
//! it; everything else is.
//!
//! Keys and contents are kept as 128-bit SipHash values under a key of this process's own, which
//! nobody can aim at. That two of a million million events meet by chance has a probability of
//! less than 10^-14. Only equal texts are recognised: whatever differs is compared by the database.

use super::plan::GroupPlan;
use crate::domain::{Event, Timestamp};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Says whether the database may have lost rows since it was last read: differs from an earlier
/// one when rows were deleted or changed, or when another server answers, or another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch {
    /// The number of the server, of those that the database has.
    pub(super) server: usize,
    /// Statements that have deleted or changed events.
    pub(super) deletions: i64,
    /// When the server was started, in microseconds. SQLite has none.
    pub(super) server_started: i64,
    /// On SQLite the last number that was given to an event: nothing else says that another file was copied
    /// into the open one, or that a row was replaced. Moves on with what this process stores.
    pub(super) log_end: i64,
}

/// What the database says of its losses at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Losses {
    pub(super) epoch: Epoch,
    /// How many of the epoch's deletions were only announcements of retention.
    pub(super) announcements: i64,
    /// Events that were stored up to then may be deleted without another word.
    pub(super) expires_through: Option<Timestamp>,
}

/// The latest keys.
pub(super) struct RecentKeys {
    hash_key: [u64; 2],
    keys_max: usize,
    memory: Mutex<Memory>,
}

/// Two halves: when the young one is full it becomes the old one, and what was old is forgotten.
#[derive(Default)]
struct Memory {
    losses: Option<Losses>,
    /// Raised whenever everything is forgotten.
    session: u64,
    young: Keys,
    old: Keys,
}

type Keys = HashMap<Digest, Recent, BuildHasherDefault<AlreadyHashed>>;

/// What is remembered of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Recent {
    content: Digest,
    processed_at: Timestamp,
}

/// An event as it is remembered.
#[derive(Debug, Clone, Copy)]
struct Fingerprint {
    key: Digest,
    content: Digest,
}

/// 128 bits. Not a `u128`, whose alignment would make every entry a fifth larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digest(u64, u64);

/// What is remembered of a group.
pub(super) struct Recollection {
    session: u64,
    epoch: Option<Epoch>,
    /// Of the first event of each key, in the plan's order; empty where nothing is remembered.
    fingerprints: Vec<Fingerprint>,
    /// By place: when an equal event was stored. Of first events only.
    known: Vec<Option<Timestamp>>,
    is_relied_on: bool,
    /// A key is remembered, but what is stored under it has to be compared, or may be deleted by now.
    has_taken: bool,
}

impl RecentKeys {
    /// A memory of at most so many keys; none remembers nothing and costs nothing.
    pub(super) fn new(keys_max: usize) -> Self {
        Self {
            hash_key: rand::random(),
            keys_max,
            memory: Mutex::default(),
        }
    }

    /// Looks for the first event of each key. What another server knows is not taken from memory:
    /// this one may have been promoted without it.
    pub(super) fn recall(&self, plan: &GroupPlan<'_>, server: usize) -> Recollection {
        let mut recollection = Recollection {
            session: 0,
            epoch: None,
            fingerprints: Vec::new(),
            known: vec![None; plan.len()],
            is_relied_on: false,
            has_taken: false,
        };
        if self.keys_max == 0 {
            return recollection;
        }
        recollection.fingerprints = plan
            .firsts()
            .iter()
            .map(|&place| self.fingerprint(plan.event(place)))
            .collect();
        let memory = self.memory();
        recollection.session = memory.session;
        recollection.epoch = memory.epoch();
        if recollection
            .epoch
            .is_some_and(|epoch| epoch.server != server)
        {
            return recollection;
        }
        for (&place, fingerprint) in plan.firsts().iter().zip(&recollection.fingerprints) {
            let Some(recent) = memory.find(fingerprint.key) else {
                continue;
            };
            if recent.content == fingerprint.content && !memory.may_expire(recent.processed_at) {
                recollection.known[place] = Some(recent.processed_at);
                recollection.is_relied_on = true;
            } else {
                recollection.has_taken = true;
            }
        }
        recollection
    }

    /// Whether what is remembered is of this epoch. Where it is not, somebody has to look at the losses.
    pub(super) fn is_of(&self, epoch: Epoch) -> bool {
        self.keys_max == 0 || self.memory().epoch() == Some(epoch)
    }

    /// Takes note of what the database says now. Everything is forgotten, unless nothing has happened but
    /// announcements.
    pub(super) fn learn(&self, losses: Losses) {
        let mut memory = self.memory();
        if memory.losses.map(Losses::uncounted) != Some(losses.uncounted()) {
            memory.forget();
        }
        memory.losses = Some(losses);
    }

    /// One epoch ends and the next begins with what this process is about to commit, which is no loss.
    pub(super) fn advance(&self, from: Epoch, to: Epoch) {
        let mut memory = self.memory();
        if let Some(losses) = memory.losses.as_mut().filter(|losses| losses.epoch == from) {
            losses.epoch = to;
        }
    }

    /// After the commit, which was in this epoch: what the group has stored or found stored, by the plan's
    /// order of first events. Ignored if something was forgotten since the recollection, or is to be.
    pub(super) fn remember(
        &self,
        recollection: &Recollection,
        epoch: Epoch,
        stored_at: impl IntoIterator<Item = Option<Timestamp>>,
    ) {
        let mut memory = self.memory();
        if memory.session != recollection.session || memory.epoch() != Some(epoch) {
            return;
        }
        for (fingerprint, stored_at) in recollection.fingerprints.iter().zip(stored_at) {
            if let Some(processed_at) = stored_at {
                memory.keep(fingerprint, processed_at, self.keys_max);
            }
        }
    }

    /// Forgets everything, because the database that said so may be gone.
    pub(super) fn forget(&self) {
        self.memory().forget();
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing is called while it is locked that could leave it half changed.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fingerprint(&self, event: &Event) -> Fingerprint {
        let [low, high] = self.hash_key;
        let mut key = SipHasher13::new_with_keys(low, high);
        event.key().hash(&mut key);
        let mut content = SipHasher13::new_with_keys(low, high);
        content.write_i64(event.timestamp().unix_us());
        event.source().as_str().hash(&mut content);
        content.write(event.payload().as_str().as_bytes());
        Fingerprint {
            key: Digest::of(&key),
            content: Digest::of(&content),
        }
    }
}

impl Recollection {
    /// The epoch of the database in which what was recalled holds, where anything was.
    pub(super) fn relied_on(&self) -> Option<Epoch> {
        self.epoch.filter(|_| self.is_relied_on)
    }

    /// Changes whenever everything was forgotten.
    pub(super) fn session(&self) -> u64 {
        self.session
    }

    /// Whether the table is likely to have a key of the group of which nothing is recalled.
    pub(super) fn has_taken(&self) -> bool {
        self.has_taken
    }

    /// Whether an equal event with this key is stored, and since when.
    pub(super) fn of(&self, place: usize) -> Option<Timestamp> {
        self.known[place]
    }
}

impl Losses {
    /// What is the same before and after an announcement.
    fn uncounted(self) -> Epoch {
        Epoch {
            deletions: self.epoch.deletions - self.announcements,
            ..self.epoch
        }
    }
}

impl Memory {
    fn epoch(&self) -> Option<Epoch> {
        self.losses.map(|losses| losses.epoch)
    }

    /// Whether an event that was stored then may be deleted at any moment.
    fn may_expire(&self, processed_at: Timestamp) -> bool {
        let through = self.losses.and_then(|losses| losses.expires_through);
        through.is_some_and(|through| processed_at <= through)
    }

    fn find(&self, key: Digest) -> Option<Recent> {
        let recent = self.young.get(&key);
        recent.or_else(|| self.old.get(&key)).copied()
    }

    fn keep(&mut self, fingerprint: &Fingerprint, processed_at: Timestamp, keys_max: usize) {
        if self.may_expire(processed_at) {
            return;
        }
        if self.young.len() >= keys_max.div_ceil(2) {
            mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        let recent = Recent {
            content: fingerprint.content,
            processed_at,
        };
        self.young.insert(fingerprint.key, recent);
    }

    fn forget(&mut self) {
        self.losses = None;
        self.session += 1;
        self.young.clear();
        self.old.clear();
    }
}

impl Digest {
    fn of(hasher: &SipHasher13) -> Self {
        let digest = hasher.finish128();
        Self(digest.h1, digest.h2)
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Takes a number that is a hash already as its hash.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
}

#[cfg(test)]
mod tests;
