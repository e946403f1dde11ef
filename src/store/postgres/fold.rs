//! Sums up what writers' transactions have done for their topics, on a connection of its own: it takes as
//! long as several transactions, and whoever publishes meanwhile would wait for it. Used by the writer.

use super::{Database, turn::Setup, within};
use crate::store::StoreError;
use sqlx::{PgConnection, postgres::PgConnectOptions};
use std::sync::Arc;
use tokio::{sync::Mutex, task::JoinHandle};

/// Transactions after which a writer has them folded.
const UNFOLDED_MAX: u32 = 256;
/// After so many the writer does it itself: nothing has come of it so far.
const UNFOLDED_LATE: u32 = 8 * UNFOLDED_MAX;

const ROLE: &str = "fold";
const SETTINGS: [(&str, &str); 4] = [
    // As a writer's.
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    // It would read all that was deleted since the last vacuum, each time; an index scan marks what it finds dead.
    ("enable_bitmapscan", "off"),
];

/// The connection, once it was needed.
#[derive(Default)]
pub(super) struct Folder(Mutex<Option<Connected>>);

struct Connected {
    connection: PgConnection,
    setup: Setup,
    server: usize,
}

/// How far a writer's rows in `topic_deltas` are folded.
pub(super) struct Backlog {
    /// Rows of its slot, about.
    rows: u32,
    /// As many as there have to be before the next attempt.
    wanted: u32,
    attempt: Option<Attempt>,
}

struct Attempt {
    rows: u32,
    task: JoinHandle<bool>,
}

impl Backlog {
    /// Whoever had the slot before may have left some.
    pub(super) fn unknown() -> Self {
        Self {
            rows: UNFOLDED_MAX,
            wanted: UNFOLDED_MAX,
            attempt: None,
        }
    }

    /// One more.
    pub(super) fn add(&mut self) {
        self.rows = self.rows.saturating_add(1);
    }

    /// Has them folded where there are enough. Whether they have to be folded at once.
    pub(super) async fn see_to(
        &mut self,
        database: &Arc<Database>,
        server: usize,
        slot: i32,
    ) -> bool {
        if let Some(Attempt { rows, task }) =
            self.attempt.take_if(|attempt| attempt.task.is_finished())
        {
            let is_done = task.await.unwrap_or(false);
            if is_done {
                self.rows = self.rows.saturating_sub(rows);
            }
            self.wanted = match is_done {
                true => UNFOLDED_MAX,
                false => self.rows.saturating_add(UNFOLDED_MAX),
            };
        }
        if self.rows >= UNFOLDED_LATE {
            // Should it be rolled back, the rows are still there for the next time.
            *self = Self {
                rows: 0,
                wanted: UNFOLDED_MAX,
                attempt: None,
            };
            return true;
        }
        if self.attempt.is_none() && self.rows >= self.wanted {
            self.attempt = Some(Attempt {
                rows: self.rows,
                task: tokio::spawn(attempt(Arc::clone(database), server, slot)),
            });
        }
        false
    }
}

async fn attempt(database: Arc<Database>, server: usize, slot: i32) -> bool {
    let attempt = database.folder.fold(&database, server, slot).await;
    if let Err(error) = &attempt {
        let error = error.on_one_line();
        tracing::debug!(slot, error, "counters of topics are folded later");
    }
    attempt.is_ok()
}

impl Folder {
    async fn fold(&self, database: &Database, server: usize, slot: i32) -> Result<(), StoreError> {
        let mut kept = self.0.lock().await;
        // Comes back when all has gone well, and with the writer's server only.
        let connected = kept.take().filter(|connected| connected.server == server);
        let mut connected = match connected {
            Some(connected) => connected,
            None => Connected::new(database).await?,
        };
        if connected.server != server {
            return Err(StoreError::TimedOut("the writer's server"));
        }
        let fold = fold(&mut connected.connection, &connected.setup, slot);
        within(database.options, "fold", fold).await?;
        *kept = Some(connected);
        Ok(())
    }
}

impl Connected {
    async fn new(database: &Database) -> Result<Self, StoreError> {
        let set_up = |server: &PgConnectOptions| database.set_up(ROLE, server, &SETTINGS);
        let connection = database.servers.connect(|server| set_up(server).0);
        let (server, connection) = connection.await?;
        let (_, setup) = set_up(database.servers.options(server));
        Ok(Self {
            connection,
            setup,
            server,
        })
    }
}

/// Takes the rows of a slot that are there and adds them to its sums.
pub(super) async fn fold(
    connection: &mut PgConnection,
    setup: &Setup,
    slot: i32,
) -> Result<(), sqlx::Error> {
    let mut turn = setup.turn(connection).await?;
    sqlx::query(
        "with d as ( \
             delete from topic_deltas where slot = $1 \
             returning topics, unique_counts, duplicate_counts, stored_at \
         ) \
         insert into topic_stats as s \
             (topic, slot, unique_count, duplicate_count, last_stored_at) \
         select t.topic, $1, sum(t.unique_count), sum(t.duplicate_count), \
                max(t.stored_at) filter (where t.unique_count > 0) \
         from (select unnest(topics) as topic, unnest(unique_counts) as unique_count, \
                      unnest(duplicate_counts) as duplicate_count, stored_at from d) as t \
         group by t.topic order by t.topic collate \"C\" \
         on conflict (topic, slot) do update set \
             unique_count = s.unique_count + excluded.unique_count, \
             duplicate_count = s.duplicate_count + excluded.duplicate_count, \
             last_stored_at = coalesce(excluded.last_stored_at, s.last_stored_at)",
    )
    .persistent(setup.keeps_statements())
    .bind(slot)
    .execute(turn.connection())
    .await?;
    turn.end().await
}
