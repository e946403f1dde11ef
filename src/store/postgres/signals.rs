//! Carries word of commits between replicas, by `LISTEN` and `NOTIFY` on a connection of its own.
//!
//! Not in the writers' transactions: Postgres commits transactions that notify one after the other,
//! under one lock for the whole cluster, and that would take away what parallel writers are for. A
//! notification that is lost with its process, or comes late, costs a reader a slow poll.

use super::{Database, error::translate, within};
use crate::store::StoreError;
use sqlx::postgres::{PgListener, PgPoolOptions};
use std::{convert::Infallible, time::Duration};
use tokio::time::{Instant, sleep_until};

const CHANNEL: &str = "oncelog_commits";
/// Between two notifications. Each takes a transaction number, so they must not come per commit.
const NOTIFY_PAUSE: Duration = Duration::from_millis(20);

/// Tells other replicas of this process's commits and fires the process's signal for theirs, until
/// the connection is lost.
pub(super) async fn exchange(database: &Database) -> Result<Infallible, StoreError> {
    database.migrate().await?;
    let options = database.options;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(options.connect_timeout)
        // A word that is lost with the server had nobody left to hear it: no need to wait for the disk.
        .connect_lazy_with(
            database
                .named("signals")
                .options([("synchronous_commit", "off")]),
        );
    let mut listener = PgListener::connect_with(&pool).await.map_err(translate)?;
    listener.eager_reconnect(false);
    within(options, "listen", listener.listen(CHANNEL)).await?;
    let own_name = format!("{:08x}", database.instance);
    let mut own_commits = database.own_commits.waiter();
    let mut is_due = false;
    let mut next_notify = Instant::now();
    loop {
        tokio::select! {
            heard = listener.try_recv() => match heard.map_err(translate)? {
                Some(heard) if heard.payload() == own_name => {}
                Some(_) => database.commits.fire(),
                None => return Err(StoreError::TimedOut("listen")),
            },
            () = own_commits.commit(), if !is_due => is_due = true,
            () = sleep_until(next_notify), if is_due => {
                let notify = sqlx::query("select pg_notify($1, $2)")
                    .bind(CHANNEL)
                    .bind(&own_name)
                    .execute(&mut listener);
                within(options, "notify", notify).await?;
                is_due = false;
                next_notify = Instant::now() + NOTIFY_PAUSE;
            }
        }
    }
}
