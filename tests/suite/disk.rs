//! The disk is full, fails to sync or is slow, and the clock jumps: what is answered meanwhile, and that
//! nothing answered is lost.

use crate::support::{
    Answer, Database, Engine, PostgresServer, Sabotage, Subscriber, TestApp, TestAppBuilder,
    Volume, event, eventually,
};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::task::JoinSet;

on_both_engines!(
    a_full_disk_is_503_until_there_is_room_again,
    a_sync_that_fails_loses_nothing_that_was_answered,
    a_slow_disk_makes_answers_late_and_nothing_else,
    a_disk_too_slow_for_any_publish_is_503_in_time_until_it_is_fast_again,
    a_clock_that_jumps_moves_no_deadline_and_no_order,
    a_clock_that_jumps_drops_nothing_before_its_time_and_retention_goes_on,
);

const SOON: Duration = Duration::from_secs(30);
/// No answer may take longer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
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
        self.builder(sabotage).start().await
    }

    fn builder(&self, sabotage: Option<&Sabotage>) -> TestAppBuilder {
        let mut builder = TestApp::on(Arc::clone(&self.database)).set("PUBLISH_TIMEOUT_MS", 3_000);
        for (variable, value) in sabotage.map(Sabotage::variables).into_iter().flatten() {
            builder = builder.set(variable, value);
        }
        builder
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

/// What this is answered with, which has to come in time.
async fn in_time(answer: impl Future<Output = Answer>) -> Answer {
    let asked = Instant::now();
    let answer = answer.await;
    assert!(asked.elapsed() < ANSWER_MAX, "{:?}", asked.elapsed());
    answer
}

fn assert_is_refused_for_now(answer: &Answer) {
    answer.problem(503);
    assert!(!answer.header("retry-after").is_empty());
}

/// Sends batches until one is refused, with 503 and `Retry-After`; gives how many were stored.
async fn publish_until_refused(app: &TestApp) -> usize {
    for number in 0..1_000 {
        let answer = in_time(app.batch(&batch(number))).await;
        if answer.status != 200 {
            assert_is_refused_for_now(&answer);
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
    let claim = "a_full_disk_is_503_until_there_is_room_again";
    let engine_name = format!("{engine:?}").to_lowercase();
    let test = format!("disk::{claim}::{engine_name}");
    let Some(volume) = Volume::mount(128, &test).await else {
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
        let answer = in_time(app.get("/readyz")).await;
        assert_eq!(answer.status, 503);
        assert!(!answer.header("retry-after").is_empty());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // And so it says to who publishes, each time.
    for _ in 0..5 {
        assert_is_refused_for_now(&in_time(app.batch(&batch(stored))).await);
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
        let answer = in_time(app.publish(event)).await;
        if answer.status != 200 {
            assert_is_refused_for_now(&answer);
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

async fn a_disk_too_slow_for_any_publish_is_503_in_time_until_it_is_fast_again(engine: Engine) {
    // Twice what a publish waits, so that no commit comes in time.
    const SYNC_MS: i64 = 6_000;
    const AT_ONCE: usize = 10;
    let sabotage = Sabotage::prepare();
    let home = Home::sabotaged(&sabotage, engine).await;
    let app = match engine {
        Engine::Postgres => home.serve(None).await,
        Engine::Sqlite => home.serve(Some(&sabotage)).await,
    };
    app.publish(&event("slow", "before")).await.ok();
    sabotage.slow_syncs(SYNC_MS);
    let mut sent = Vec::new();
    for round in 0..2 {
        let mut publishers = JoinSet::new();
        for number in 0..AT_ONCE {
            let event = event("slow", &format!("{round}-{number}"));
            sent.push(event.clone());
            let client = app.client();
            publishers.spawn(async move { in_time(client.publish(&event)).await });
        }
        // A 200 would be one before its sync.
        let answers = publishers.join_all().await;
        answers.iter().for_each(assert_is_refused_for_now);
    }
    assert!(in_time(app.get("/livez")).await.status == 200);

    sabotage.slow_syncs(0);
    // The sync that is under way still takes its time.
    becomes(&app, "/readyz", 200).await;
    for event in &sent {
        let outcome = publish(&app, event).await;
        assert!(["stored", "duplicate"].contains(&outcome.as_str()));
        assert_eq!(publish(&app, event).await, "duplicate");
    }
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["unique_processed_count"], sent.len() + 1);
}

async fn a_clock_that_jumps_moves_no_deadline_and_no_order(engine: Engine) {
    let sabotage = Sabotage::prepare();
    let home = Home::sabotaged(&sabotage, engine).await;
    let app = home.serve(Some(&sabotage)).await;
    let mut subscriber = Subscriber::open(&app, "").await;
    let mut ids = Vec::new();
    for (number, jump_s) in [0, HOUR_S, 0, -HOUR_S, 0].into_iter().enumerate() {
        // The clock jumps while the request waits for the disk: its deadline must not.
        sabotage.slow_syncs(500);
        let during = event("clock", &format!("{number}-during"));
        let (client, waits) = (app.client(), during.clone());
        let waiting = tokio::spawn(async move { client.publish(&waits).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        sabotage.shift_clock(jump_s);
        assert_eq!(waiting.await.unwrap().ok()["outcome"], "stored");
        sabotage.slow_syncs(0);
        assert_has_jumped(&home, &app, engine, jump_s).await;

        let after = event("clock", &format!("{number}-after"));
        let stored = app.publish(&after).await.ok();
        assert_eq!(stored["outcome"], "stored");
        assert_ahead_by(seconds_of(&stored["processed_at"]), jump_s);
        // What was stored by the other clock is known as ever.
        for known in [&during, &after] {
            assert_eq!(app.publish(known).await.ok()["outcome"], "duplicate");
            let mut other = known.clone();
            other["payload"] = json!({});
            assert_eq!(app.publish(&other).await.ok()["outcome"], "conflict");
        }
        ids.extend([during, after].map(|event| event["event_id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(subscriber.next_ids(ids.len()).await, ids);
    let events = app.events("order=asc").await;
    let found: Vec<&Value> = events.iter().map(|event| &event["event_id"]).collect();
    assert_eq!(found, ids.iter().collect::<Vec<_>>());
    becomes(&app, "/readyz", 200).await;
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["unique_processed_count"], ids.len());
    assert_eq!(stats["duplicate_dropped_count"], 2 * ids.len());
}

/// Else nothing has jumped: the service, and whoever Postgres starts now.
async fn assert_has_jumped(home: &Home, app: &TestApp, engine: Engine, jump_s: i64) {
    let health = app.get("/health").await.ok();
    assert_ahead_by(seconds_of(&health["timestamp"]), jump_s);
    if engine == Engine::Postgres {
        let now = "select extract(epoch from now())::bigint";
        assert_ahead_by(home.database.number(now).await, jump_s);
    }
}

#[track_caller]
fn assert_ahead_by(clock_s: i64, jump_s: i64) {
    let off_s = clock_s - chrono::Utc::now().timestamp() - jump_s;
    assert!(off_s.abs() < 60, "{off_s} s beside a jump of {jump_s} s");
}

/// Of an answer's timestamp.
fn seconds_of(timestamp: &Value) -> i64 {
    let timestamp = chrono::DateTime::parse_from_rfc3339(timestamp.as_str().unwrap());
    timestamp.unwrap().timestamp()
}

async fn a_clock_that_jumps_drops_nothing_before_its_time_and_retention_goes_on(engine: Engine) {
    let sabotage = Sabotage::prepare();
    let home = Home::sabotaged(&sabotage, engine).await;
    let app = home
        .builder(Some(&sabotage))
        .set("RETENTION", "deleted=2h:delete,2h")
        .set("RETENTION_INTERVAL_MS", 100)
        .start()
        .await;
    // One event at each of these times; none of them is two hours old by any of the others.
    let mut stored = 0;
    for jump_s in [0, HOUR_S, -HOUR_S + 60, 0] {
        sabotage.shift_clock(jump_s);
        for topic in ["dropped", "deleted"] {
            let event = event(topic, &stored.to_string());
            assert_eq!(in_time(app.publish(&event)).await.ok()["outcome"], "stored");
        }
        stored += 1;
        run_retention(&app).await;
        assert_eq!(expired(&app).await, (0, 0), "at {jump_s} s");
    }
    assert_eq!(app.database().rows().await, 2 * stored);

    // The first is due now; what comes after it in the log was stored an hour later, and keeps the rest waiting.
    sabotage.shift_clock(2 * HOUR_S);
    eventually("the first has expired", SOON, async || {
        expired(&app).await == (1, 1)
    })
    .await;
    run_retention(&app).await;
    assert_eq!(expired(&app).await, (1, 1));
    for topic in ["dropped", "deleted"] {
        let second = app.get(&format!("/events/{topic}/1")).await.ok();
        assert_eq!(second["payload"], json!({ "of": "1" }));
    }
    sabotage.shift_clock(3 * HOUR_S);
    eventually("all have expired", SOON, async || {
        expired(&app).await == (stored, stored)
    })
    .await;

    // Back by three hours: what is gone is new, what is known is known.
    sabotage.shift_clock(0);
    for (topic, outcome) in [("dropped", "duplicate"), ("deleted", "stored")] {
        let again = in_time(app.publish(&event(topic, "0"))).await.ok();
        assert_eq!(again["outcome"], outcome);
    }
    run_retention(&app).await;
    assert_eq!(expired(&app).await, (stored, stored));
    let stats = app.stats().await;
    assert_eq!(stats["unique_processed_count"], 2 * stored + 1);
    assert_eq!(stats["duplicate_dropped_count"], 1);
    assert_eq!(app.database().rows().await, stored + 1);
}

/// Payloads dropped, and events deleted.
async fn expired(app: &TestApp) -> (i64, i64) {
    let retention = app.stats().await["retention"].clone();
    let count = |name: &str| retention[name].as_i64().unwrap();
    (
        count("payloads_dropped_count"),
        count("events_deleted_count"),
    )
}

/// Waits for a run that has begun after this: the second one that ends.
async fn run_retention(app: &TestApp) {
    for _ in 0..2 {
        let last_run = async || app.stats().await["retention"]["last_run_at"].clone();
        let before = last_run().await;
        eventually("retention goes on", SOON, async || {
            last_run().await != before
        })
        .await;
    }
}
