//! A few connections to one server, each lent for one call. Not sqlx's pool: that asks each connection that comes
//! back whether it still answers, and waits for it without a limit, so that one that the network has swallowed
//! is lost, on both ends; and it gives up a connection that is being made with whoever waits for it, so that
//! after an outage many who wait may never get one.
//!
//! Here all that waits for the server has a limit, what has not ended well is closed, and a connection that is being made
//! is made, for the next one where nobody waits any more.

use super::error::translate;
use crate::store::StoreError;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout},
};

/// Then it makes room for a new one: a session's memory at the server only grows.
const LIFETIME_MAX: Duration = Duration::from_secs(1800);

/// Clones share the connections.
#[derive(Clone)]
pub(super) struct Connections(Arc<Shared>);

struct Shared {
    server: PgConnectOptions,
    connect_timeout: Duration,
    seats: Arc<Semaphore>,
    idle: Mutex<Vec<Open>>,
}

struct Open {
    connection: PgConnection,
    since: Instant,
}

/// A connection, for one call. Dropped before that has ended well it is closed.
pub(super) struct Lent {
    open: Open,
    home: Connections,
    seat: OwnedSemaphorePermit,
}

impl Connections {
    /// At most so many to this server, made when they are needed.
    pub(super) fn new(server: PgConnectOptions, count: u32, connect_timeout: Duration) -> Self {
        Self(Arc::new(Shared {
            server,
            connect_timeout,
            seats: Arc::new(Semaphore::new(count.max(1) as usize)),
            idle: Mutex::default(),
        }))
    }

    /// One that answers, as soon as there is one; `None` after [`Self::retire`].
    pub(super) async fn lend(&self) -> Result<Option<Lent>, StoreError> {
        let Ok(seat) = Arc::clone(&self.0.seats).acquire_owned().await else {
            return Ok(None);
        };
        while let Some(mut open) = self.pop() {
            let answer = timeout(self.0.connect_timeout, open.connection.ping()).await;
            if matches!(answer, Ok(Ok(()))) {
                let home = self.clone();
                return Ok(Some(Lent { open, home, seat }));
            }
        }
        let (made, making) = oneshot::channel();
        let home = self.clone();
        tokio::spawn(async move {
            let lent = home.make(seat).await;
            if let Err(Ok(unclaimed)) = made.send(lent) {
                unclaimed.give_back();
            }
        });
        // The task ends early with the runtime only.
        let made = making.await.map_err(|_| StoreError::TimedOut("connect"))?;
        made.map(Some)
    }

    /// Nobody gets one any more. Those that are lent are closed when their calls have ended.
    pub(super) fn retire(&self) {
        self.0.seats.close();
        self.idle().clear();
    }

    /// The same, and says goodbye to the server.
    pub(super) async fn close(&self) {
        self.0.seats.close();
        while let Some(open) = self.pop() {
            // How it parts does not matter.
            let _ = timeout(self.0.connect_timeout, open.connection.close()).await;
        }
    }

    async fn make(self, seat: OwnedSemaphorePermit) -> Result<Lent, StoreError> {
        let connect = timeout(self.0.connect_timeout, self.0.server.connect()).await;
        let connect = connect.map_err(|_| StoreError::TimedOut("connect"))?;
        let open = Open {
            connection: connect.map_err(translate)?,
            since: Instant::now(),
        };
        let home = self;
        Ok(Lent { open, home, seat })
    }

    fn pop(&self) -> Option<Open> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Open>> {
        // Nothing panics while it is locked.
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.open.connection
    }

    /// For others, as the call has ended well.
    pub(super) fn give_back(self) {
        let Self { open, home, seat } = self;
        let mut idle = home.idle();
        if open.since.elapsed() < LIFETIME_MAX && !home.0.seats.is_closed() {
            idle.push(open);
        }
        drop(idle);
        // Whoever waits for it finds what lies there now.
        drop(seat);
    }
}
