//! Rows that somebody has put into the table by hand, as no publisher could have sent them: they
//! are read, told from what is published, and their time ends, as that of any other.

use crate::support::{Client, Engine, Subscriber, TestApp, event, eventually};
use serde_json::{Value, json};
use std::time::Duration;

on_both_engines!(
    a_payload_that_is_no_object_is_read_and_told_from_every_event,
    a_payload_that_is_no_object_does_not_stop_retention,
    names_and_times_that_nobody_could_have_sent_stop_nothing,
);

/// A run may have to wait for a transaction of another test on the same server.
const PATIENCE: Duration = Duration::from_secs(90);

/// Stores five events, puts something else into three of them, and says what readers are to see, by id.
async fn with_foreign_rows(app: &TestApp, engine: Engine) -> Vec<(&'static str, Value)> {
    let events: Vec<Value> = (0..5).map(|id| event("t", &id.to_string())).collect();
    app.batch(&events).await.ok();
    for by_hand in [
        "update processed_events set payload = '[1, \"a\"]' where event_id = '1'",
        "update processed_events set payload = 'null' where event_id = '2'",
    ] {
        app.database().execute(by_hand).await;
    }
    let (deep, shown) = match engine {
        // As deep as Postgres takes it and a payload may not be.
        Engine::Postgres => (
            "update processed_events \
             set payload = (repeat('[', 200) || repeat(']', 200))::jsonb where event_id = '3'",
            Value::String(format!("{}{}", "[".repeat(200), "]".repeat(200))),
        ),
        Engine::Sqlite => (
            "update processed_events set payload = cast(x'7bff22' as text) where event_id = '3'",
            Value::String("{\u{fffd}\"".to_owned()),
        ),
    };
    app.database().execute(deep).await;
    let own = |id: &str| json!({ "of": id });
    vec![
        ("0", own("0")),
        ("1", json!([1, "a"])),
        ("2", Value::Null),
        ("3", shown),
        ("4", own("4")),
    ]
}

async fn outcome(client: &Client, id: &str) -> Value {
    client.publish(&event("t", id)).await.ok()["outcome"].clone()
}

async fn a_payload_that_is_no_object_is_read_and_told_from_every_event(engine: Engine) {
    let app = TestApp::start(engine).await;
    let expected = with_foreign_rows(&app, engine).await;
    let mut page = Vec::new();
    eventually("all are to be read", PATIENCE, async || {
        page = app.events("topic=t&order=asc").await;
        page.len() == 5
    })
    .await;
    let mut subscriber = Subscriber::open(&app, "cursor=0-0&topic=t").await;
    let newest_first = app.events("").await;
    for (number, (id, payload)) in expected.iter().enumerate() {
        let one = app.get(&format!("/events/t/{id}")).await.ok();
        let streamed = subscriber.next().await.unwrap();
        for found in [&one, &streamed, &page[number], &newest_first[4 - number]] {
            assert_eq!(
                (&found["event_id"], &found["payload"]),
                (&json!(id), payload)
            );
            assert!(found.get("payload_dropped").is_none());
        }
    }
    for (id, expected) in ["duplicate", "conflict", "conflict", "conflict", "duplicate"]
        .iter()
        .enumerate()
    {
        assert_eq!(outcome(&app, &id.to_string()).await, *expected, "{id}");
    }
    app.assert_counters_are_exact().await;
}

async fn a_payload_that_is_no_object_does_not_stop_retention(engine: Engine) {
    let app = TestApp::builder(engine)
        .await
        .set("RETENTION", "1d")
        .set("RETENTION_INTERVAL_MS", 100)
        .set("RETENTION_BATCH", 2)
        .start()
        .await;
    with_foreign_rows(&app, engine).await;
    app.database().age_two_days().await;
    eventually("all payloads are dropped", PATIENCE, async || {
        app.stats().await["retention"]["payloads_dropped_count"] == 5
    })
    .await;
    let page = app.events("topic=t").await;
    assert_eq!(page.len(), 5);
    assert!(page.iter().all(|event| event["payload_dropped"] == true));
    for (id, expected) in ["duplicate", "conflict", "conflict", "conflict", "duplicate"]
        .iter()
        .enumerate()
    {
        assert_eq!(outcome(&app, &id.to_string()).await, *expected, "{id}");
    }
    app.assert_counters_are_exact().await;
}

async fn names_and_times_that_nobody_could_have_sent_stop_nothing(engine: Engine) {
    let app = TestApp::builder(engine)
        .await
        .set("RETENTION_INTERVAL_MS", 100)
        .set("RETENTION", "t=1d")
        .start()
        .await;
    let events: Vec<Value> = (0..7).map(|id| event("t", &id.to_string())).collect();
    app.batch(&events).await.ok();
    let foreign: [&str; 5] = match engine {
        Engine::Postgres => [
            "update processed_events set topic = E'a\\nb' where event_id = '1'",
            "update processed_events set source = '' where event_id = '2'",
            "update processed_events set timestamp = 'infinity' where event_id = '3'",
            "update processed_events set processed_at = '-infinity', timestamp = '290000-01-01' \
             where event_id = '4'",
            "update processed_events set event_id = repeat('5', 300) where event_id = '5'",
        ],
        Engine::Sqlite => [
            "update processed_events set topic = 'a' || char(10) || 'b' where event_id = '1'",
            "update processed_events set source = cast(x'ff' as text) where event_id = '2'",
            "update processed_events set timestamp = 9223372036854775807 where event_id = '3'",
            "update processed_events set processed_at = -9000000000000000000 where event_id = '4'",
            "update processed_events set event_id = replace(hex(zeroblob(150)), '0', '5') \
             where event_id = '5'",
        ],
    };
    for by_hand in foreign {
        app.database().execute(by_hand).await;
    }
    let long_id = "5".repeat(300);
    let expected = ["0", "1", "2", "3", "4", &long_id, "6"];
    let ids = |page: &[Value]| -> Vec<String> {
        let ids = page.iter().map(|event| event["event_id"].as_str().unwrap());
        ids.map(str::to_owned).collect()
    };
    let mut page = Vec::new();
    eventually("all are to be read", PATIENCE, async || {
        page = app.events("order=asc").await;
        page.len() == 7
    })
    .await;
    assert_eq!(ids(&page), expected);
    assert_eq!(page[1]["topic"], "a\nb");
    assert_eq!(page[3]["timestamp"], "9999-12-31T23:59:59.999999Z");
    assert_eq!(page[4]["processed_at"], "0000-01-01T00:00:00.000000Z");
    let mut subscriber = Subscriber::open(&app, "cursor=0-0").await;
    for id in expected {
        assert_eq!(subscriber.next().await.unwrap()["event_id"], id);
    }
    for (id, expected) in [("0", "duplicate"), ("2", "conflict"), ("3", "conflict")] {
        assert_eq!(outcome(&app, id).await, expected, "{id}");
    }
    // What has got another key has freed its own.
    for id in ["1", "5"] {
        assert_eq!(outcome(&app, id).await, "stored", "{id}");
    }
    app.database().age_two_days().await;
    eventually(
        "all payloads of the topic are dropped",
        PATIENCE,
        async || app.stats().await["retention"]["payloads_dropped_count"] == 8,
    )
    .await;
}
