//! Whether the process takes requests, and how many it still has to answer. Written by `app` and
//! by every request, read at shutdown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How often the end of the last request is looked for.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// The process's life as HTTP sees it.
#[derive(Debug, Clone)]
pub struct Lifecycle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    is_draining: AtomicBool,
    is_refusing: AtomicBool,
    in_flight: AtomicUsize,
    started: Instant,
}

/// A request that has to be answered.
#[derive(Debug)]
pub struct InFlight(Lifecycle);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(Arc::new(Shared {
            is_draining: AtomicBool::new(false),
            is_refusing: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            started: Instant::now(),
        }))
    }
}

impl Lifecycle {
    /// Time since the process was started.
    pub fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// From now on each answer is the last one of its connection. Who has one open is answered as ever,
    /// and so learns of the end without a request that comes to nothing.
    pub fn drain(&self) {
        self.0.is_draining.store(true, Ordering::SeqCst);
    }

    /// Whether the process is going down.
    pub fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::SeqCst)
    }

    /// From now on nothing is stored any more that was not asked for before.
    pub fn refuse(&self) {
        self.0.is_refusing.store(true, Ordering::SeqCst);
    }

    /// Whether the end is so near that a publish might not be answered.
    pub fn is_refusing(&self) -> bool {
        self.0.is_refusing.load(Ordering::SeqCst)
    }

    /// Counts a request until the guard is dropped.
    pub fn enter(&self) -> InFlight {
        self.0.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(self.clone())
    }

    /// Waits until every request is answered; false where some are not by the deadline.
    pub async fn drained(&self, deadline: Instant) -> bool {
        while self.0.in_flight.load(Ordering::SeqCst) > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(DRAIN_POLL).await;
        }
        true
    }
}

impl InFlight {
    /// Whether its answer is the last one of its connection.
    pub fn is_last(&self) -> bool {
        self.0.is_draining()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}
