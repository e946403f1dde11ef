//! The disk is full, fails to sync or is slow, and the clock jumps: what is answered meanwhile, and that
//! nothing answered is lost.

use crate::support::{
    Database, Engine, PostgresServer, Sabotage, Subscriber, TestApp, Volume, event, eventually,
};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

on_both_engines!(
    a_full_disk_is_503_until_there_is_room_again,
    a_sync_that_fails_loses_nothing_that_was_answered,
    a_slow_disk_makes_answers_late_and_nothing_else,
    a_clock_that_jumps_moves_no_deadline_and_no_order,
);

const SOON: Duration = Duration::from_secs(30);
const HOUR_S: i64 = 3_600;

/// A database and what it lives in.
struct Home {
    database: Arc<Database>,
    _server: Option<PostgresServer>,
    _directory: Option<TempDir>,
}

impl Home {
    async fn on(volume: &Volume, engine: Engine) -> Self {
        match engine {
            Engine::Postgres => {
                let mut server = PostgresServer::prepared_in(volume.path());
                server.start_again().await;
                Self::of(server)
            }
            Engine::Sqlite => Self {
                database: Arc::new(Database::below(volume.path())),
                _server: None,
                _directory: None,
            },
        }
    }

    async fn sabotaged(sabotage: &Sabotage, engine: Engine) -> Self {
        match engine {
            Engine::Postgres => {
                let mut server = PostgresServer::prepared().sabotaged(sabotage);
                server.start_again().await;
                Self::of(server)
            }
            Engine::Sqlite => {
                let directory = tempfile::tempdir().unwrap();
                Self {
                    database: Arc::new(Database::below(directory.path())),
                    _server: None,
                    _directory: Some(directory),
                }
            }
        }
    }

    fn of(server: PostgresServer) -> Self {
        Self {
            database: Arc::new(Database::at(server.url("postgres"))),
            _server: Some(server),
            _directory: None,
        }
    }

    /// The service, whose answers are not waited for too long.
    async fn serve(&self, sabotage: Option<&Sabotage>) -> TestApp {
        let mut builder = TestApp::on(Arc::clone(&self.database)).set("PUBLISH_TIMEOUT_MS", 3_000);
        for (variable, value) in sabotage.map(Sabotage::variables).into_iter().flatten() {
            builder = builder.set(variable, value);
        }
        builder.start().await
    }
}

/// Events that need room.
fn batch(number: usize) -> Vec<Value> {
    let large = |place: usize| {
        let mut event = event("disk", &format!("{number}-{place}"));
        event["payload"] = json!({ "text": format!("{number:0>2000}") });
        event
    };
    (0..50).map(large).collect()
}

/// Sends batches until one is refused, with 503 and `Retry-After`; gives how many were stored.
async fn publish_until_refused(app: &TestApp) -> usize {
    for number in 0..1_000 {
        let answer = app.batch(&batch(number)).await;
        if answer.status != 200 {
            answer.problem(503);
            assert!(!answer.header("retry-after").is_empty());
            return number;
        }
        assert_eq!(answer.json()["stored"], 50);
    }
    panic!("a thousand batches found room");
}

async fn becomes(app: &TestApp, path: &str, status: u16) {
    eventually(&format!("{path} is {status}"), SOON, async || {
        app.status(path).await == Some(status)
    })
    .await;
}

async fn a_full_disk_is_503_until_there_is_room_again(engine: Engine) {
    let Some(volume) = Volume::mount(128) else {
        return;
    };
    let home = Home::on(&volume, engine).await;
    let app = home.serve(None).await;
    app.publish(&event("disk", "before")).await.ok();
    volume.fill();
    let stored = publish_until_refused(&app).await;

    becomes(&app, "/readyz", 503).await;
    becomes(&app, "/health", 503).await;
    assert_eq!(app.status("/livez").await, Some(200));
    let is_there = app.events("limit=1000&source=suite").await.len();
    assert!(is_there > 0, "what is stored can be read");
    // Nobody waits any more, and it is as full as before: asked again and again, it says so.
    for _ in 0..20 {
        assert_eq!(app.status("/readyz").await, Some(503));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    volume.make_room();
    becomes(&app, "/readyz", 200).await;
    becomes(&app, "/health", 200).await;
    let again = app.batch(&batch(stored)).await.ok();
    assert_eq!(again["conflicts"], 0, "{again}");
    for number in 0..stored {
        let again = app.batch(&batch(number)).await.ok();
        assert_eq!(again["duplicates"], 50, "answered with 200: {again}");
    }
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["unique_processed_count"], (stored + 1) * 50 + 1);
}

/// The outcome of the attempt that is not refused for now.
async fn publish(app: &TestApp, event: &Value) -> String {
    let mut outcome = String::new();
    eventually("it is taken", SOON, async || {
        let answer = app.publish(event).await;
        if answer.status != 200 {
            answer.problem(503);
            assert!(!answer.header("retry-after").is_empty());
            return false;
        }
        answer.json()["outcome"]
            .as_str()
            .unwrap()
            .clone_into(&mut outcome);
        true
    })
    .await;
    outcome
}

async fn a_sync_that_fails_loses_nothing_that_was_answered(engine: Engine) {
    let sabotage = Sabotage::prepare();
    let home = Home::sabotaged(&sabotage, engine).await;
    let app = match engine {
        // The server's disk, not ours. One failure is a panic of all of its processes.
        Engine::Postgres => home.serve(None).await,
        Engine::Sqlite => home.serve(Some(&sabotage)).await,
    };
    let mut sent = 0;
    for round in 0..3 {
        sabotage.failing_syncs(match engine {
            Engine::Postgres => 1,
            Engine::Sqlite => 3,
        });
        for number in 0..5 {
            let event = event("disk", &format!("{round}-{number}"));
            assert!(["stored", "duplicate"].contains(&publish(&app, &event).await.as_str()));
            assert_eq!(publish(&app, &event).await, "duplicate");
            sent += 1;
        }
        assert_eq!(sabotage.syncs_that_will_fail(), 0, "no sync has failed");
        becomes(&app, "/readyz", 200).await;
    }
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["unique_processed_count"], sent);
}

async fn a_slow_disk_makes_answers_late_and_nothing_else(engine: Engine) {
    const SYNC: Duration = Duration::from_millis(200);
    let sabotage = Sabotage::prepare();
    let home = Home::sabotaged(&sabotage, engine).await;
    let app = match engine {
        Engine::Postgres => home.serve(None).await,
        Engine::Sqlite => home.serve(Some(&sabotage)).await,
    };
    sabotage.slow_syncs(200);
    for number in 0..5 {
        let started = Instant::now();
        let answer = app.publish(&event("slow", &number.to_string())).await.ok();
        assert_eq!(answer["outcome"], "stored");
        // Sooner would be before it was on the disk.
        assert!(started.elapsed() >= SYNC, "{:?}", started.elapsed());
    }
    becomes(&app, "/readyz", 200).await;
    sabotage.slow_syncs(0);
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["received_count"], 5);
}

async fn a_clock_that_jumps_moves_no_deadline_and_no_order(engine: Engine) {
    let sabotage = Sabotage::prepare();
    let home = Home::sabotaged(&sabotage, engine).await;
    let app = home.serve(Some(&sabotage)).await;
    let mut subscriber = Subscriber::open(&app, "").await;
    let jumps = [0, HOUR_S, 0, -HOUR_S, 0];
    let ids: Vec<String> = (0..jumps.len()).map(|id| id.to_string()).collect();
    for (id, jump) in ids.iter().zip(jumps) {
        // The clock jumps while the request waits for the disk: its deadline must not.
        sabotage.slow_syncs(500);
        let (client, event) = (app.client(), event("clock", id));
        let waiting = tokio::spawn(async move { client.publish(&event).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        sabotage.shift_clock(jump);
        assert_eq!(waiting.await.unwrap().ok()["outcome"], "stored");
        sabotage.slow_syncs(0);
    }
    assert_eq!(subscriber.next_ids(ids.len()).await, ids);
    let events = app.events("order=asc").await;
    let found: Vec<&Value> = events.iter().map(|event| &event["event_id"]).collect();
    assert_eq!(found, ids.iter().collect::<Vec<_>>());
    becomes(&app, "/readyz", 200).await;
    let health = app.get("/health").await.ok();
    sabotage.shift_clock(HOUR_S);
    let ahead = app.get("/health").await.ok();
    // Else nothing has jumped.
    assert!(
        minutes_of(&ahead) - minutes_of(&health) >= 59,
        "{health} {ahead}"
    );
    app.assert_counters_are_exact().await;
}

/// Of an answer's timestamp, since some day.
fn minutes_of(health: &Value) -> i64 {
    let timestamp = health["timestamp"].as_str().unwrap();
    let timestamp = chrono::DateTime::parse_from_rfc3339(timestamp).unwrap();
    timestamp.timestamp() / 60
}
