//! Retention as its users meet it: what readers see of an event whose payload is dropped, what is counted,
//! that publishing goes on meanwhile, and that a crash of its actor or a second process changes nothing.

use crate::support::{
    Client, Engine, Exposition, Subscriber, TestApp, TestBroker, event, eventually, large_event,
};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

on_both_engines!(
    what_is_dropped_is_shown_as_dropped_and_known_as_before,
    what_is_deleted_is_stored_anew,
    a_crash_around_a_commit_drops_and_counts_everything_once,
    publishing_goes_on_while_payloads_are_dropped,
    publishing_goes_on_while_events_are_deleted,
    dead_letters_are_deleted_by_age_where_a_setting_says_so,
    payloads_of_megabytes_are_dropped_a_few_at_a_time,
);

/// A run may have to wait for a transaction of another test on the same server.
const PATIENCE: Duration = Duration::from_secs(90);
/// A publish waits for no more than one batch of 50 rows, here beside other tests on a few cores.
const PUBLISH_MAX: Duration = Duration::from_secs(2);

async fn expired(client: &Client) -> (i64, i64) {
    let retention = client.stats().await["retention"].clone();
    let count = |name: &str| retention[name].as_i64().unwrap();
    (
        count("payloads_dropped_count"),
        count("events_deleted_count"),
    )
}

async fn until_expired(client: &Client, expected: (i64, i64)) {
    eventually("what is old has expired", PATIENCE, async || {
        expired(client).await == expected
    })
    .await;
}

async fn store(client: &Client, topic: &str, count: i64) -> Vec<Value> {
    let events: Vec<Value> = (0..count)
        .map(|number| event(topic, &format!("e-{number}")))
        .collect();
    for events in events.chunks(1000) {
        client.batch(events).await.ok();
    }
    events
}

async fn what_is_dropped_is_shown_as_dropped_and_known_as_before(engine: Engine) {
    let app = TestApp::builder(engine)
        .await
        .set("RETENTION", "kept*=keep,1d")
        .set("RETENTION_INTERVAL_MS", 100)
        .start()
        .await;
    let events = store(&app, "t", 3).await;
    store(&app, "kept.a", 1).await;
    app.database().age_two_days().await;
    until_expired(&app, (3, 0)).await;

    let mut shown = events[0].clone();
    shown["payload"] = Value::Null;
    shown["payload_dropped"] = true.into();
    let expected = |found: &Value| {
        let mut expected = shown.clone();
        expected["timestamp"] = "2026-01-02T03:04:05.000000Z".into();
        expected["processed_at"] = found["processed_at"].clone();
        expected
    };
    let found = app.get("/events/t/e-0").await.ok();
    assert_eq!(found, expected(&found));
    let page = app.events("topic=t").await;
    assert_eq!(page.len(), 3);
    assert_eq!(page[2], expected(&page[2]));
    let mut subscriber = Subscriber::open(&app, "cursor=0-0&topic=t").await;
    let streamed = subscriber.next().await.unwrap();
    assert_eq!(streamed, expected(&streamed));
    let kept = app.get("/events/kept.a/e-0").await.ok();
    assert_eq!(kept["payload"], json!({ "of": "e-0" }));
    assert!(kept.get("payload_dropped").is_none());

    let again = app.batch(&events).await.ok();
    assert_eq!(
        (&again["duplicates"], &again["conflicts"]),
        (&3.into(), &0.into())
    );
    let mut other = events[0].clone();
    other["payload"] = json!({});
    assert_eq!(app.publish(&other).await.ok()["outcome"], "conflict");
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["retention"]["rules"], "kept*=keep,*=1d");
    eventually("a run has come to its end", PATIENCE, async || {
        app.stats().await["retention"]["last_run_at"].is_string()
    })
    .await;
    let metrics = Exposition::parse(&app.get("/metrics").await.text);
    let dropped = metrics.value("oncelog_retention_payloads_dropped_total", &[]);
    assert!((dropped - 3.0).abs() < f64::EPSILON);
    metrics.value("oncelog_retention_last_run_timestamp_seconds", &[]);
    let actors = app.actors().await;
    let actor = actors.iter().find(|actor| actor["name"] == "retention");
    assert_eq!(actor.unwrap()["state"], "running");
}

#[tokio::test]
async fn without_rules_there_is_no_such_actor() {
    let app = TestApp::start(Engine::Sqlite).await;
    let stats = app.stats().await;
    let nothing = json!({ "rules": null, "dead_letter_age": null, "payloads_dropped_count": 0,
        "events_deleted_count": 0, "dead_letters_deleted_count": 0, "last_run_at": null });
    assert_eq!(stats["retention"], nothing);
    assert!(
        app.actors()
            .await
            .iter()
            .all(|actor| actor["name"] != "retention")
    );
    let crash = app.post("/admin/actors/retention/crash", "{}").await;
    crash.problem(404);
}

async fn what_is_deleted_is_stored_anew(engine: Engine) {
    let app = TestApp::builder(engine)
        .await
        .set("RETENTION", "t=1d:delete")
        .set("RETENTION_INTERVAL_MS", 100)
        .start()
        .await;
    let events = store(&app, "t", 5).await;
    store(&app, "other", 5).await;
    app.database().age_two_days().await;
    until_expired(&app, (0, 5)).await;
    assert_eq!(app.get("/events/t/e-0").await.status, 404);
    assert_eq!(app.database().rows().await, 5);
    let again = app.batch(&events).await.ok();
    assert_eq!(again["stored"], 5);
    let stats = app.stats().await;
    assert_eq!(stats["unique_processed_count"], 15);
    assert_eq!(stats["received_count"], 15);
    assert_eq!(app.database().rows().await, 10);
}

async fn a_crash_around_a_commit_drops_and_counts_everything_once(engine: Engine) {
    let app = TestApp::builder(engine)
        .await
        .set("RETENTION", "1d")
        // After the run at its start it is at work only when it has crashed.
        .set("RETENTION_INTERVAL_MS", 86_400_000)
        .set("RETENTION_BATCH", 7)
        .start()
        .await;
    let mut total = 0;
    for at in ["before-commit", "after-commit"] {
        store(&app, at, 40).await;
        app.database().age_two_days().await;
        total += 40;
        let restarts = async || {
            let actors = app.actors().await;
            let actor = actors.iter().find(|actor| actor["name"] == "retention");
            actor.unwrap()["restarts"].as_i64().unwrap()
        };
        let before = restarts().await;
        let order = json!({ "at": at }).to_string();
        // Where a transaction of another test holds back what is due, the order waits for the next run.
        eventually(
            "it has crashed and dropped the rest",
            PATIENCE,
            async || {
                if restarts().await == before || expired(&app).await.0 < total {
                    let crash = app.post("/admin/actors/retention/crash", order.clone());
                    assert!([202, 409].contains(&crash.await.status));
                }
                restarts().await > before && expired(&app).await.0 == total
            },
        )
        .await;
    }
    let dropped = "select count(*) from processed_events where payload_digest is not null";
    assert_eq!(app.database().number(dropped).await, total);
    assert_eq!(expired(&app).await, (total, 0));
    app.assert_counters_are_exact().await;
    let idle = app.post("/admin/actors/retention/crash", r#"{"at":"idle"}"#);
    assert!([202, 409].contains(&idle.await.status));
}

async fn publishing_goes_on_while_payloads_are_dropped(engine: Engine) {
    publishing_goes_on(engine, "old=1d", |old| (old, 0)).await;
}

async fn publishing_goes_on_while_events_are_deleted(engine: Engine) {
    publishing_goes_on(engine, "old=1d:delete", |old| (0, old)).await;
}

async fn publishing_goes_on(engine: Engine, rule: &str, taken: fn(i64) -> (i64, i64)) {
    const OLD: i64 = 3000;
    let app = TestApp::builder(engine)
        .await
        .set("RETENTION", rule)
        .set("RETENTION_INTERVAL_MS", 100)
        .set("RETENTION_BATCH", 50)
        .start()
        .await;
    store(&app, "old", OLD).await;
    app.database().age_two_days().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let publisher = {
        let (client, is_over) = (app.client(), Arc::clone(&is_over));
        tokio::spawn(async move {
            let (mut answered, mut slowest) = (0, Duration::ZERO);
            while !is_over.load(Ordering::Relaxed) || answered == 0 {
                let sent = event("new", &format!("e-{answered}"));
                let start = Instant::now();
                assert_eq!(client.publish(&sent).await.ok()["outcome"], "stored");
                slowest = slowest.max(start.elapsed());
                answered += 1;
            }
            (answered, slowest)
        })
    };
    let expected = taken(OLD);
    until_expired(&app, expected).await;
    is_over.store(true, Ordering::Relaxed);
    let (answered, slowest): (i64, _) = publisher.await.unwrap();
    eprintln!("{answered} publishes meanwhile, the slowest took {slowest:?}");
    assert!(slowest < PUBLISH_MAX, "{slowest:?}");
    let stats = app.stats().await;
    assert_eq!(stats["unique_processed_count"], OLD + answered);
    assert_eq!(stats["received_count"], OLD + answered);
    let (_, deleted) = expected;
    assert_eq!(app.database().rows().await, OLD + answered - deleted);
    assert_eq!(
        app.events("topic=new&limit=1").await[0]["payload_dropped"],
        Value::Null
    );
}

async fn dead_letters_are_deleted_by_age_where_a_setting_says_so(engine: Engine) {
    let broker = TestBroker::create().await;
    let app = TestApp::builder(engine)
        .await
        .broker(&broker)
        .set("DEAD_LETTER_RETENTION", "36h")
        .set("RETENTION_INTERVAL_MS", 100)
        .start()
        .await;
    let redis = redis::Client::open(broker.url()).unwrap();
    let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
    let mut add = async |text: &str| {
        let mut entry = redis::cmd("XADD");
        let entry = entry.arg(broker.stream()).arg("*").arg("event").arg(text);
        entry.query_async::<()>(&mut redis).await.unwrap();
    };
    let letters = async || {
        let stats = app.stats().await;
        let deleted = stats["retention"]["dead_letters_deleted_count"].clone();
        (stats["dead_letter_count"].clone(), deleted)
    };
    add("no event").await;
    eventually("it is a dead letter", PATIENCE, async || {
        letters().await == (json!(1), json!(0))
    })
    .await;
    let age = match engine {
        Engine::Postgres => "update dead_letters set received_at = received_at - interval '2 days'",
        Engine::Sqlite => "update dead_letters set received_at = received_at - 172800000000",
    };
    app.database().execute(age).await;
    add("no event either").await;
    eventually("the old one is gone", PATIENCE, async || {
        letters().await == (json!(1), json!(1))
    })
    .await;
    let kept = app.get("/dead-letters").await.ok();
    assert_eq!(kept["count"], 1);
    let stats = app.stats().await;
    assert_eq!(stats["retention"]["dead_letter_age"], "36h");
    assert_eq!(stats["retention"]["rules"], Value::Null);
    let metrics = Exposition::parse(&app.get("/metrics").await.text);
    let deleted = metrics.value("oncelog_retention_dead_letters_deleted_total", &[]);
    assert!((deleted - 1.0).abs() < f64::EPSILON);
    store(&app, "t", 1).await;
    app.database().age_two_days().await;
    eventually("another run has come to its end", PATIENCE, async || {
        app.stats().await["retention"]["last_run_at"].as_str() > stats["last_updated"].as_str()
    })
    .await;
    assert_eq!(expired(&app).await, (0, 0));
}

#[tokio::test]
async fn two_replicas_drop_each_payload_once() {
    const OLD: i64 = 1000;
    let first = TestApp::builder(Engine::Postgres)
        .await
        .set("RETENTION", "1d")
        .set("RETENTION_INTERVAL_MS", 100)
        .set("RETENTION_BATCH", 20)
        .start()
        .await;
    let second = TestApp::on(Arc::clone(first.database()))
        .set("RETENTION", "1d")
        .set("RETENTION_INTERVAL_MS", 100)
        .set("RETENTION_BATCH", 30)
        .start()
        .await;
    let events = store(&first, "t", OLD).await;
    first.database().age_two_days().await;
    until_expired(&first, (OLD, 0)).await;
    let dropped = "select count(*) from processed_events where payload_digest is not null";
    assert_eq!(first.database().number(dropped).await, OLD);
    assert_eq!(expired(&second).await, (OLD, 0));
    let again = second.batch(&events).await.ok();
    assert_eq!(
        (&again["duplicates"], &again["conflicts"]),
        (&OLD.into(), &0.into())
    );
}

/// All of them together take longer to read than a statement may.
async fn payloads_of_megabytes_are_dropped_a_few_at_a_time(engine: Engine) {
    let app = TestApp::builder(engine)
        .await
        .set("DATABASE_STATEMENT_TIMEOUT_MS", 1_000)
        .set("RETENTION", "1d")
        .set("RETENTION_INTERVAL_MS", 100)
        .start()
        .await;
    let events = (0..30).map(|number| large_event("t", &format!("e-{number}")));
    app.batch(&events.collect::<Vec<_>>()).await.ok();
    app.database().age_two_days().await;
    until_expired(&app, (30, 0)).await;
    app.assert_counters_are_exact().await;
}
