//! Postgres and the way to it fail.

use super::{
    Allowance, assert_the_accounts_agree,
    load::Load,
    proxy::{Proxy, Weather},
    seed,
};
use crate::support::{
    Database, PostgresServer, Subscriber, TestApp, TestAppBuilder, event, eventually,
};
use futures_util::future::join_all;
use sqlx::{Connection, PgConnection};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::timeout;

const CLIENTS: u64 = 12;
const READERS: u64 = 16;
const SOON: Duration = Duration::from_secs(20);

/// The server's own timeouts, shorter than an operator's, so that a run is short.
fn impatient(database_url: String) -> TestAppBuilder {
    TestApp::on(Arc::new(Database::at(database_url)))
        .set("DATABASE_STATEMENT_TIMEOUT_MS", 1_000)
        .set("DATABASE_CONNECT_TIMEOUT_MS", 500)
}

/// A Postgres, and a way to it that can be disturbed.
async fn proxied_postgres() -> (PostgresServer, Proxy, String) {
    let postgres = PostgresServer::start().await;
    let proxy = Proxy::start(postgres.address()).await;
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port());
    (postgres, proxy, url)
}

/// An application whose way to its Postgres can be disturbed, and a load on it.
async fn behind_a_proxy() -> (PostgresServer, Proxy, TestApp, Load) {
    let (postgres, proxy, url) = proxied_postgres().await;
    let app = impatient(url).start().await;
    let load = Load::start(seed(), CLIENTS, vec![format!("http://{}", app.address())]);
    load.answers(50).await;
    (postgres, proxy, app, load)
}

#[tokio::test]
async fn a_postgres_that_is_stopped_at_once_has_what_was_answered() {
    let mut postgres = PostgresServer::start().await;
    let app = impatient(postgres.url("postgres")).start().await;
    let load = Load::start(seed(), CLIENTS, vec![format!("http://{}", app.address())]);
    for _ in 0..3 {
        load.answers(50).await;
        postgres.kill().await;
        eventually("health says so", SOON, async || {
            app.status("/health").await == Some(503)
        })
        .await;
        postgres.start_again().await;
        eventually("it is used again", Duration::from_secs(5), async || {
            app.status("/readyz").await == Some(200)
        })
        .await;
    }
    load.answers(50).await;
    let ledger = load.finish().await;
    assert_the_accounts_agree(&app, &ledger, Allowance::default()).await;
}

#[tokio::test]
async fn connections_may_be_cut_at_any_moment() {
    let (_postgres, proxy, app, load) = behind_a_proxy().await;
    for _ in 0..15 {
        proxy.cut();
        load.answers(20).await;
    }
    let ledger = load.finish().await;
    assert!(app.log().contains("lost the database connection"));
    assert_the_accounts_agree(&app, &ledger, Allowance::default()).await;
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_neither_guessed_nor_repeated() {
    let (_postgres, proxy, app, load) = behind_a_proxy().await;
    for round in 1..=8 {
        proxy.set(Weather::SwallowCommitAnswer);
        eventually("an answer to a commit is lost", SOON, async || {
            proxy.swallowed() >= round
        })
        .await;
        load.answers(20).await;
    }
    let ledger = load.finish().await;
    assert_eq!(ledger.first_errors(), Vec::<String>::new());
    assert_the_accounts_agree(&app, &ledger, Allowance::default()).await;
}

#[tokio::test]
async fn a_way_that_swallows_everything_is_given_up_and_found_again() {
    let (postgres, proxy, app, load) = behind_a_proxy().await;
    for _ in 0..6 {
        let held_back = proxy.held_back_bytes();
        // What each of the readers' connections has asked last is swallowed.
        while_all_read(&app, "/events?limit=1", async |readings| {
            proxy.set(Weather::BlackHole);
            eventually("it is noticed", SOON, async || {
                app.status("/readyz").await == Some(503) && readings.refusals() > 3 * READERS
            })
            .await;
        })
        .await;
        assert!(proxy.held_back_bytes() > held_back);
        proxy.set(Weather::Fair);
        eventually("it is used again", Duration::from_secs(5), async || {
            app.status("/readyz").await == Some(200)
                && app.status("/events?limit=1").await == Some(200)
        })
        .await;
        load.answers(20).await;
        none_is_left_over(&postgres).await;
    }
    let ledger = load.finish().await;
    assert_the_accounts_agree(&app, &ledger, Allowance::default()).await;
}

/// A connection whose answer has ended in its middle says nothing more, and nobody ends it. Each of those that
/// readers share may be one.
#[tokio::test]
async fn connections_that_the_network_forgets_are_given_up_for_others() {
    let (postgres, proxy, app, load) = behind_a_proxy().await;
    load.answers(2_000).await;
    for _ in 0..3 {
        while_all_read(&app, "/events?limit=1000", async |readings| {
            proxy.forget();
            let before = readings.answers();
            eventually("all read again", SOON, async || {
                readings.answers() > before + 4 * READERS
            })
            .await;
        })
        .await;
        eventually("it is ready", SOON, async || {
            app.status("/readyz").await == Some(200)
        })
        .await;
        load.answers(20).await;
        none_is_left_over(&postgres).await;
    }
    let ledger = load.finish().await;
    assert_the_accounts_agree(&app, &ledger, Allowance::default()).await;
}

/// Connections that nobody uses any more are closed: else there is no room for others one day.
async fn none_is_left_over(postgres: &PostgresServer) {
    let mut connection = PgConnection::connect(&postgres.url("postgres"))
        .await
        .unwrap();
    eventually("no connection is left over", SOON, async || {
        let count = "select count(*) from pg_stat_activity where application_name like 'oncelog-%'";
        let count: i64 = sqlx::query_scalar(count)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        // Two writers, four readers, and one each to fold and to tell others.
        count <= 8
    })
    .await;
}

/// Who only follows asks nothing on the connection on which he is told, and would never learn that it is dead.
#[tokio::test]
async fn word_of_others_commits_is_heard_again_where_the_network_forgot_who_is_told() {
    let (postgres, proxy, url) = proxied_postgres().await;
    let publishing = impatient(postgres.url("postgres")).start().await;
    // By the poll alone an event is seen after ten seconds, and the next one after ten more.
    let following = impatient(url).set("FEED_POLL_MS", 10_000).start().await;
    let mut subscriber = Subscriber::open(&following.client(), "topic=t").await;
    let mut numbers = 0..;
    let mut is_seen_at_once = async || {
        let id = format!("e-{}", numbers.next().unwrap());
        publishing.publish(&event("t", &id)).await.ok();
        let answered = Instant::now();
        let seen = timeout(SOON, subscriber.next_ids(1)).await;
        assert_eq!(seen.unwrap(), [id]);
        answered.elapsed() < Duration::from_secs(2)
    };
    assert!(is_seen_at_once().await);
    proxy.forget();
    eventually("he is told again", 3 * SOON, async || {
        is_seen_at_once().await && is_seen_at_once().await
    })
    .await;
}

/// What became of requests that were sent one after the other.
#[derive(Default)]
struct Readings {
    answers: AtomicU64,
    refusals: AtomicU64,
}

impl Readings {
    fn answers(&self) -> u64 {
        self.answers.load(Ordering::SeqCst)
    }

    fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::SeqCst)
    }
}

/// Does something while more readers read than there are connections for them.
async fn while_all_read(app: &TestApp, path: &str, something: impl AsyncFnOnce(&Readings)) {
    let readings = Readings::default();
    let is_over = AtomicBool::new(false);
    let readers = (0..READERS).map(async |_| {
        while !is_over.load(Ordering::SeqCst) {
            match app.status(path).await {
                Some(200) => readings.answers.fetch_add(1, Ordering::SeqCst),
                _ => readings.refusals.fetch_add(1, Ordering::SeqCst),
            };
        }
    });
    let something = async {
        eventually("all read", SOON, async || readings.answers() > 10 * READERS).await;
        something(&readings).await;
        is_over.store(true, Ordering::SeqCst);
    };
    tokio::join!(join_all(readers), something);
}
