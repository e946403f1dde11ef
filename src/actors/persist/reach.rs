//! Whether a shard can store: what its actor has seen of the database, and what is said of it, in the status and in
//! the log. Used by the PersistActor.

use crate::{actors::status::ActorStatus, store::StoreError};
use std::time::Duration;

/// Who loses after that long is locked out, as by another process that keeps SQLite's lock.
const LOCKED_OUT_AFTER: Duration = Duration::from_secs(2);

pub(super) struct Reach {
    shard: usize,
    status: ActorStatus,
    /// Attempts to connect, and to store, that have failed since something was stored.
    failed_attempts: u32,
    /// Whether the present connection has stored something. One that was made and cannot write, as
    /// on a full disk, is as good as none.
    is_proven: bool,
    /// Whether it could not write, and nothing has been stored since: being connected says nothing then.
    is_refuted: bool,
}

impl Reach {
    pub(super) fn new(shard: usize, status: ActorStatus) -> Self {
        Self {
            shard,
            status,
            failed_attempts: 0,
            is_proven: false,
            is_refuted: false,
        }
    }

    pub(super) fn is_refuted(&self) -> bool {
        self.is_refuted
    }

    pub(super) fn has_connected(&mut self) {
        tracing::info!(
            shard = self.shard,
            failed_attempts = self.failed_attempts,
            "connected to the database"
        );
        self.is_proven = false;
        if !self.is_refuted {
            self.status.set_connected(true);
        }
    }

    pub(super) fn has_stored(&mut self) {
        self.is_proven = true;
        self.failed_attempts = 0;
        self.has_nothing_to_store();
    }

    /// Nor is anything left to find out with: the next request will tell.
    pub(super) fn has_nothing_to_store(&mut self) {
        self.is_refuted = false;
        self.status.set_connected(true);
    }

    /// A transaction that has taken so long has lost against another one. Whether it was locked out: who cannot have
    /// the lock is no better off than without a connection.
    pub(super) fn has_lost_to_another(
        &mut self,
        error: &StoreError,
        time: Option<Duration>,
    ) -> bool {
        let error = error.on_one_line();
        tracing::debug!(
            shard = self.shard,
            error,
            "transaction lost against another one"
        );
        let is_locked_out = time.is_some_and(|time| time >= LOCKED_OUT_AFTER);
        if is_locked_out {
            if !self.is_refuted {
                tracing::warn!(shard = self.shard, error, "locked out of the database");
            }
            self.is_refuted = true;
            self.status.set_connected(false);
        }
        is_locked_out
    }

    /// A transaction has failed, and its connection is gone. Whether that had been of use before.
    pub(super) fn has_lost(&mut self, error: &StoreError) -> bool {
        self.is_refuted = true;
        if self.is_proven {
            tracing::warn!(
                shard = self.shard,
                error = error.on_one_line(),
                "lost the database connection"
            );
            self.status.set_connected(false);
        }
        self.is_proven
    }

    /// Another attempt has failed; says how many had before.
    pub(super) fn has_failed(&mut self, error: &StoreError) -> u32 {
        self.status.set_connected(false);
        let before = self.failed_attempts;
        if before == 0 {
            tracing::warn!(
                shard = self.shard,
                error = error.on_one_line(),
                "database is out of reach, trying again until it is back"
            );
        }
        self.failed_attempts = before.saturating_add(1);
        before
    }
}
