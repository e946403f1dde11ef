//! The database goes away and comes back: what is answered meanwhile, and that nothing is lost.

use crate::support::{Client, Database, Engine, PostgresServer, TestApp, event, eventually};
use sqlx::{Connection, SqliteConnection};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// No publish waits longer for its answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const RECOVERY_MAX: Duration = Duration::from_secs(5);
/// A transaction waits three seconds for its turn, and is without it for two more before `/health` says so.
const LOCK_OUT_MAX: Duration = Duration::from_secs(20);

/// Publishes until it is told to stop, each event until it is stored; gives how many it sent.
async fn publish_stubbornly(client: Client, topic: String, stop: Arc<AtomicBool>) -> usize {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let event = event(&topic, &format!("e-{number}"));
        loop {
            let started = Instant::now();
            let answer = client.publish(&event).await;
            assert!(started.elapsed() < ANSWER_MAX + Duration::from_secs(1));
            if answer.status == 200 {
                break;
            }
            answer.problem(503);
            assert!(!answer.header("retry-after").is_empty());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        number += 1;
    }
    number
}

#[tokio::test]
async fn a_lost_database_is_503_until_it_is_back_and_nothing_answered_is_lost() {
    let mut server = PostgresServer::start().await;
    let database = Arc::new(Database::at(server.url("postgres")));
    let app = TestApp::on(database).start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut publishers = JoinSet::new();
    for number in 0..4 {
        let topic = format!("topic-{number}");
        publishers.spawn(publish_stubbornly(app.client(), topic, Arc::clone(&stop)));
    }
    eventually("the load runs", ANSWER_MAX, async || {
        app.database().rows().await > 50
    })
    .await;

    server.kill().await;
    eventually("not ready", RECOVERY_MAX, async || {
        app.status("/readyz").await == Some(503)
    })
    .await;
    let health = app.get("/health").await;
    assert_eq!(health.status, 503);
    assert_eq!(health.json()["status"], "unhealthy");
    assert_eq!(health.json()["database"], "disconnected");
    let refused = app.publish(&event("meanwhile", "e")).await;
    refused.problem(503);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(app.status("/livez").await, Some(200));

    server.start_again().await;
    eventually("ready again", RECOVERY_MAX, async || {
        app.status("/readyz").await == Some(200)
    })
    .await;
    let before = app.database().rows().await;
    eventually("the load goes on", RECOVERY_MAX, async || {
        app.database().rows().await > before + 20
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    let sent: usize = publishers.join_all().await.into_iter().sum();

    // The one that was refused may be stored all the same: its answer says so.
    let stats = app.assert_counters_are_exact().await;
    let unique = stats["unique_processed_count"].as_u64().unwrap();
    assert!(
        (sent as u64..=sent as u64 + 1).contains(&unique),
        "{sent} sent, {stats}"
    );
}

#[tokio::test]
async fn a_database_that_is_not_there_at_the_start_is_waited_for() {
    let mut server = PostgresServer::prepared();
    let database = Arc::new(Database::at(server.url("postgres")));
    let app = TestApp::on(database).wait_for("/livez").start().await;
    assert_eq!(app.status("/readyz").await, Some(503));
    server.start_again().await;
    eventually("ready", RECOVERY_MAX, async || {
        app.status("/readyz").await == Some(200)
    })
    .await;
    assert_eq!(
        app.publish(&event("t", "e")).await.ok()["outcome"],
        "stored"
    );
}

async fn a_database_that_lets_in_and_stores_nothing_is_not_stormed(engine: Engine) {
    let app = TestApp::builder(engine)
        .await
        .set("PERSIST_ACTORS", 1)
        .set("PUBLISH_TIMEOUT_MS", 3_000)
        .start()
        .await;
    let connections = || app.log().matches("connected to the database").count();
    app.publish(&event("t", "before")).await.ok();
    // As a full disk does: connecting works, storing does not.
    let database = app.database();
    database
        .execute("alter table processed_events rename to elsewhere")
        .await;
    let before = connections();
    app.publish(&event("t", "meanwhile")).await.problem(503);
    let attempts = connections() - before;
    // In three seconds, with pauses from 50 ms that double: about seven.
    assert!((2..=12).contains(&attempts), "{attempts} connections");
    database
        .execute("alter table elsewhere rename to processed_events")
        .await;
    eventually("it stores again", RECOVERY_MAX, async || {
        app.publish(&event("t", "after")).await.status == 200
    })
    .await;
    app.assert_counters_are_exact().await;
}

on_both_engines!(a_database_that_lets_in_and_stores_nothing_is_not_stormed);

async fn becomes(app: &TestApp, path: &str, status: u16) {
    eventually(&format!("{path} is {status}"), LOCK_OUT_MAX, async || {
        app.status(path).await == Some(status)
    })
    .await;
}

async fn a_file_to_lock() -> (TestApp, SqliteConnection) {
    let app = TestApp::builder(Engine::Sqlite)
        .await
        .set("PUBLISH_TIMEOUT_MS", 3_000)
        .start()
        .await;
    let other = SqliteConnection::connect(app.database().url()).await;
    (app, other.unwrap())
}

#[tokio::test]
async fn a_file_that_another_process_has_locked_is_503_until_it_lets_go() {
    let (app, mut other) = a_file_to_lock().await;
    let stop = Arc::new(AtomicBool::new(false));
    let publishing = publish_stubbornly(app.client(), "t".to_owned(), Arc::clone(&stop));
    let publishing = tokio::spawn(publishing);
    eventually("the load runs", ANSWER_MAX, async || {
        app.database().rows().await > 10
    })
    .await;

    let lock = other.begin_with("begin immediate").await.unwrap();
    becomes(&app, "/readyz", 503).await;
    becomes(&app, "/health", 503).await;
    // New attempts, of which each waits for the lock again, make it no better in between.
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        for path in ["/readyz", "/health"] {
            let answer = app.get(path).await;
            assert_eq!(answer.status, 503, "{path}: {}", answer.text);
            assert!(!answer.header("retry-after").is_empty());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(app.status("/livez").await, Some(200));

    let before = app.database().rows().await;
    lock.rollback().await.unwrap();
    becomes(&app, "/readyz", 200).await;
    becomes(&app, "/health", 200).await;
    eventually("the load goes on", ANSWER_MAX, async || {
        app.database().rows().await > before + 10
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    let sent = publishing.await.unwrap();
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["unique_processed_count"], sent);
}

#[tokio::test]
async fn a_locked_file_is_ready_again_although_nobody_publishes_any_more() {
    let (app, mut other) = a_file_to_lock().await;
    let lock = other.begin_with("begin immediate").await.unwrap();
    app.publish(&event("t", "meanwhile")).await.problem(503);
    becomes(&app, "/readyz", 503).await;
    becomes(&app, "/health", 503).await;
    lock.rollback().await.unwrap();
    becomes(&app, "/readyz", 200).await;
    becomes(&app, "/health", 200).await;
    // To find out, it has stored what it had not promised.
    let again = app.publish(&event("t", "meanwhile")).await.ok();
    assert_eq!(again["outcome"], "duplicate");
    app.assert_counters_are_exact().await;
}
