//! Word of commits, within the process. Fired by the engines' writers, waited for by whoever
//! follows the log through the seam.

use tokio::sync::watch;

/// Says that something was committed, and not what: whoever hears it reads on.
#[derive(Debug, Clone, Default)]
pub struct CommitSignal(watch::Sender<()>);

/// One who waits for commits.
#[derive(Debug)]
pub struct CommitWaiter(watch::Receiver<()>);

impl CommitSignal {
    pub(super) fn fire(&self) {
        self.0.send_replace(());
    }

    /// A waiter for the commits that follow.
    pub fn waiter(&self) -> CommitWaiter {
        CommitWaiter(self.0.subscribe())
    }
}

impl CommitWaiter {
    /// Waits for a commit since this was last asked for, or since the last [`Self::forget`].
    pub async fn commit(&mut self) {
        if self.0.changed().await.is_err() {
            // The store is gone: nothing will ever be committed again.
            std::future::pending::<()>().await;
        }
    }

    /// Forgets the commits so far; for the moment before reading.
    pub fn forget(&mut self) {
        self.0.borrow_and_update();
    }
}
