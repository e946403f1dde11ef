//! Small groups take turns, across the persist actors. A transaction costs as much as a dozen events
//! and more, whatever it holds: two small ones at a time are two such prices, and one after the other
//! the second is twice as large. Large groups and those that have waited long enough need no turn.

use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The turns of the persist actors of one process.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Semaphore>);

/// Leave to start a small group; the next one's turn comes when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    /// None: waited long enough, and goes beside the one whose turn it is.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Turns for one group at a time.
    #[expect(clippy::new_without_default, reason = "two of them would not be equal")]
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// A turn, where nobody else has it or waits for it.
    pub(super) fn take_now(&self) -> Option<Turn> {
        let permit = Arc::clone(&self.0).try_acquire_owned().ok()?;
        Some(Turn {
            _permit: Some(permit),
        })
    }

    /// The next turn, in the order asked; after so long one all the same.
    pub(super) async fn take(self, patience: Duration) -> Turn {
        let permit = timeout(patience, self.0.acquire_owned()).await;
        Turn {
            _permit: permit.ok().and_then(Result::ok),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn turns_come_one_at_a_time_in_the_order_asked() {
        let turns = Turns::new();
        let first = turns.take_now().unwrap();
        assert!(turns.take_now().is_none());
        let second = tokio::spawn(turns.clone().take(LONG));
        tokio::task::yield_now().await;
        drop(first);
        assert!(turns.take_now().is_none(), "it is the second one's");
        drop(second.await.unwrap());
        assert!(turns.take_now().is_some());
    }

    #[tokio::test]
    async fn whoever_has_waited_long_enough_goes_all_the_same() {
        let turns = Turns::new();
        let first = turns.take_now().unwrap();
        let impatient = turns.clone().take(Duration::from_millis(1)).await;
        assert!(impatient._permit.is_none() && first._permit.is_some());
        drop((first, impatient));
        assert!(turns.take_now().is_some());
    }
}
