//! Carries word of commits between replicas, by `LISTEN` and `NOTIFY` on a connection of its own.
//!
//! Not in the writers' transactions: Postgres commits transactions that notify one after the other,
//! under one lock for the whole cluster, and that would take away what parallel writers are for. A
//! notification that is lost with its process, or comes late, costs a reader a slow poll.

use super::{Database, error::translate, within};
use crate::{
    domain::Cursor,
    store::{Commits, StoreError, TopicMarks},
};
use sqlx::postgres::{PgListener, PgPoolOptions};
use std::{convert::Infallible, time::Duration};
use tokio::{
    runtime,
    time::{Instant, sleep_until},
};

const CHANNEL: &str = "oncelog_commits";
/// Between two notifications. Each takes a transaction number, so they must not come per commit.
const NOTIFY_PAUSE: Duration = Duration::from_millis(20);
/// After so long a time in which nothing was asked the connection is asked whether it is still there: one that
/// the network has forgotten hears nothing, and says nothing of it.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Topics that are told of one by one. Postgres takes less than 8000 bytes, and each takes four.
const MARKS_MAX: usize = 1800;

/// Tells other replicas of this process's commits and fires the process's signal for theirs, until
/// the connection is lost.
pub(super) async fn exchange(database: &Database) -> Result<Infallible, StoreError> {
    if database.options.is_pooled {
        // Who listens needs a connection of his own: the poll has to do.
        return std::future::pending().await;
    }
    let server = database.servers.find().await?;
    database.migrate().await?;
    // Every way out of here is the loss of the connection.
    let _doubt = database.servers.doubt();
    let options = database.options;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(options.connect_timeout)
        // A word that is lost with the server had nobody left to hear it: no need to wait for the disk.
        .connect_lazy_with(
            database
                .named("signals", database.servers.options(server))
                .options([("synchronous_commit", "off")]),
        );
    let mut ears = Ears(Some(
        PgListener::connect_with(&pool).await.map_err(translate)?,
    ));
    let Some(listener) = &mut ears.0 else {
        return Err(StoreError::TimedOut("listen"));
    };
    listener.eager_reconnect(false);
    within(options, "listen", listener.listen(CHANNEL)).await?;
    let own_name = format!("{:08x}", database.instance);
    let own_commits = database.own_commits.waiter();
    let mut is_due = false;
    let mut next_notify = Instant::now();
    let mut last_answer = Instant::now();
    loop {
        tokio::select! {
            heard = listener.try_recv() => match heard.map_err(translate)? {
                Some(heard) if heard.payload().starts_with(&own_name) => {}
                Some(heard) => {
                    let commits = read(heard.payload()).unwrap_or_else(Commits::unknown);
                    database.commits.fire(&commits);
                }
                None => return Err(StoreError::TimedOut("listen")),
            },
            () = database.servers.moved_from(server) => {
                return Err(StoreError::TimedOut("the server that is used no more"));
            }
            () = own_commits.heard(), if !is_due => is_due = true,
            () = sleep_until(next_notify), if is_due => {
                is_due = false;
                let Some(commits) = own_commits.take() else { continue };
                let notify = sqlx::query("select pg_notify($1, $2)")
                    .bind(CHANNEL)
                    .bind(written(&own_name, &commits))
                    .execute(&mut *listener);
                within(options, "notify", notify).await?;
                last_answer = Instant::now();
                next_notify = last_answer + NOTIFY_PAUSE;
            }
            () = sleep_until(last_answer + SILENCE_MAX) => {
                let one = sqlx::query("select 1").execute(&mut *listener);
                within(options, "signals", one).await?;
                last_answer = Instant::now();
            }
        }
    }
}

/// Who listens. Dropped as it is it would have a task ask the server to stop, without a limit, and a
/// connection that the network has swallowed would stay for ever, on both ends.
struct Ears(Option<PgListener>);

impl Drop for Ears {
    fn drop(&mut self) {
        // The task goes with the runtime that it is on, and the connection with the task.
        if let Ok(nowhere) = runtime::Builder::new_current_thread().build() {
            let context = nowhere.enter();
            drop(self.0.take());
            drop(context);
            nowhere.shutdown_background();
        }
    }
}

/// `name txn marks`. Of an older version the name alone.
fn written(name: &str, commits: &Commits) -> String {
    let marks = commits.topics.to_text(MARKS_MAX);
    format!("{name} {} {marks}", commits.visible_at.txn)
}

/// What another process has committed; `None` where it does not say so in these words.
fn read(payload: &str) -> Option<Commits> {
    let mut words = payload.splitn(3, ' ').skip(1);
    let visible_at = Cursor {
        txn: words.next()?.parse().ok()?,
        seq: 0,
    };
    let topics = TopicMarks::from_text(words.next()?)?;
    Some(Commits { visible_at, topics })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_replica_writes_another_one_reads() {
        let commits = Commits {
            visible_at: Cursor { txn: 730, seq: 0 },
            topics: TopicMarks::of(["a", "b"]),
        };
        assert_eq!(read(&written("0000c0de", &commits)), Some(commits));
    }

    #[test]
    fn of_many_topics_it_says_that_it_may_be_any() {
        let names: Vec<String> = (0..5000).map(|number| number.to_string()).collect();
        let commits = Commits {
            visible_at: Cursor { txn: 730, seq: 0 },
            topics: TopicMarks::of(names.iter().map(String::as_str)),
        };
        let payload = written("0000c0de", &commits);
        assert_eq!(payload, "0000c0de 730 *");
        let read = read(&payload).unwrap();
        assert_eq!(read.topics, TopicMarks::all());
    }

    #[test]
    fn what_others_say_is_taken_as_word_of_something() {
        for payload in [
            "",
            "0000c0de",
            "0000c0de 1",
            "0000c0de x *",
            "a 1 2 3",
            "a 1 zzzz",
        ] {
            assert_eq!(read(payload), None, "{payload}");
        }
    }
}
