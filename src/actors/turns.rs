//! Small groups take turns, across the persist actors. A transaction costs as much as a dozen events
//! and more, whatever it holds: two small ones at a time are two such prices, and one after the other
//! the second is twice as large. For the same reason a small group takes along what waits at other shards. Large
//! groups and those that have waited long enough need no turn.

use super::queue::{Group, Queue};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The turns of the persist actors of one process.
#[derive(Debug, Clone)]
pub struct Turns {
    permits: Arc<Semaphore>,
    queues: Arc<[Queue]>,
}

/// Leave to start a small group; the next one's turn comes when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    /// None: waited long enough, and goes beside the one whose turn it is.
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Turns for one group at a time, of so many shards.
    pub fn new(shards: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(1)),
            queues: (0..shards).map(|_| Queue::default()).collect(),
        }
    }

    /// Where a shard's requests wait.
    pub(super) fn queue(&self, shard: usize) -> Queue {
        self.queues[shard].clone()
    }

    /// Moves what waits at any shard, where that is small, into the group whose turn it is, as far as it has room.
    pub(super) fn take_along(&self, group: &mut Group) {
        self.queues.iter().for_each(|queue| queue.lend_to(group));
    }

    /// A turn, where nobody else has it or waits for it.
    pub(super) fn take_now(&self) -> Option<Turn> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        Some(Turn {
            permit: Some(permit),
        })
    }

    /// The next turn, in the order asked; after so long one all the same.
    pub(super) async fn take(self, patience: Duration) -> Turn {
        let permit = timeout(patience, self.permits.acquire_owned()).await;
        Turn {
            permit: permit.ok().and_then(Result::ok),
        }
    }
}

impl Turn {
    /// Whether it is this one's turn, and not only its patience that is over.
    pub(super) fn is_due(&self) -> bool {
        self.permit.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn turns_come_one_at_a_time_in_the_order_asked() {
        let turns = Turns::new(1);
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
        let turns = Turns::new(1);
        let first = turns.take_now().unwrap();
        let impatient = turns.clone().take(Duration::from_millis(1)).await;
        assert!(!impatient.is_due() && first.is_due());
        drop((first, impatient));
        assert!(turns.take_now().is_some());
    }
}
