//! What clients of the reference API rely on: its twenty cases, on both engines.

use crate::support::{Engine, TestApp, TestBroker, event, eventually};
use serde_json::{Value, json};
use std::{collections::HashSet, time::Duration};
use tokio::task::JoinSet;

on_both_engines!(
    a_healthy_service_says_so,
    one_event_is_accepted_and_stored,
    a_repeat_is_answered_as_a_duplicate_and_stored_once,
    a_batch_of_five_is_stored,
    events_are_listed_with_and_without_a_topic,
    the_stats_have_every_field_of_the_reference,
    an_event_with_a_missing_or_wrong_field_is_refused,
    five_publishers_of_ten_events_lose_none,
    one_event_from_ten_publishers_at_once_is_stored_once,
    what_is_stored_survives_a_restart,
    a_batch_of_a_hundred_is_stored,
    a_batch_tells_new_events_from_repeats,
    one_id_in_two_topics_is_two_events,
    the_newest_stored_comes_first_and_keeps_its_timestamp,
    malformed_json_is_422,
    five_new_events_and_two_repeats_are_counted_exactly,
    a_thousand_events_over_a_thousand_topics_are_a_thousand_topics,
    the_queue_is_empty_when_nothing_waits,
    the_uptime_grows,
    a_payload_comes_back_as_the_same_json,
);

fn numbered(topic: &str, count: usize) -> Vec<Value> {
    (0..count)
        .map(|number| event(topic, &format!("e-{number}")))
        .collect()
}

async fn a_healthy_service_says_so(engine: Engine) {
    let app = TestApp::start(engine).await;
    let health = app.get("/health").await.ok();
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["database"], "connected");
    assert_eq!(health["redis"], "disabled");
    assert!(health["timestamp"].as_str().unwrap().ends_with('Z'));
}

async fn one_event_is_accepted_and_stored(engine: Engine) {
    let app = TestApp::start(engine).await;
    let answer = app.publish(&event("orders", "o-1")).await.ok();
    assert_eq!(answer["status"], "accepted");
    assert_eq!(answer["event_id"], "o-1");
    assert_eq!(answer["topic"], "orders");
    assert_eq!(answer["outcome"], "stored");
    assert!(answer["message"].is_string());
    assert_eq!(app.database().rows().await, 1);
}

async fn a_repeat_is_answered_as_a_duplicate_and_stored_once(engine: Engine) {
    let app = TestApp::start(engine).await;
    let first = event("orders", "o-1");
    assert_eq!(app.publish(&first).await.ok()["outcome"], "stored");
    assert_eq!(app.publish(&first).await.ok()["outcome"], "duplicate");
    let mut other = first.clone();
    other["payload"] = json!({ "of": "somebody else" });
    assert_eq!(app.publish(&other).await.ok()["outcome"], "conflict");

    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["received_count"], 3);
    assert_eq!(stats["unique_processed_count"], 1);
    assert_eq!(stats["conflict_count"], 1);
    // The first one wins.
    assert_eq!(app.events("").await[0]["payload"], first["payload"]);
}

async fn a_batch_of_five_is_stored(engine: Engine) {
    let app = TestApp::start(engine).await;
    let answer = app.batch(&numbered("orders", 5)).await.ok();
    assert_eq!(answer["status"], "accepted");
    assert_eq!(answer["count"], 5);
    assert_eq!(answer["stored"], 5);
    assert_eq!(answer["duplicates"], 0);
    assert_eq!(answer["conflicts"], 0);
    assert!(answer["message"].is_string());
    assert_eq!(app.database().rows().await, 5);
}

async fn events_are_listed_with_and_without_a_topic(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.batch(&numbered("orders", 3)).await.ok();
    app.batch(&numbered("payments", 2)).await.ok();

    let all = app.get("/events").await.ok();
    assert_eq!(all["count"], 5);
    assert_eq!(all["topic_filter"], Value::Null);
    assert_eq!(all["limit"], 100);
    let one = app.get("/events?topic=payments").await.ok();
    assert_eq!(one["count"], 2);
    assert_eq!(one["topic_filter"], "payments");
    for listed in one["events"].as_array().unwrap() {
        assert_eq!(listed["topic"], "payments");
        for member in ["event_id", "timestamp", "source", "payload", "processed_at"] {
            assert!(!listed[member].is_null(), "no {member} in {listed}");
        }
    }
    let none = app.get("/events?topic=").await.ok();
    assert_eq!(none["topic_filter"], Value::Null);
    assert_eq!(none["count"], 5);
    assert_eq!(app.events("limit=2").await.len(), 2);
    assert_eq!(app.get("/events?limit=5000").await.ok()["limit"], 1000);
}

async fn the_stats_have_every_field_of_the_reference(engine: Engine) {
    let app = TestApp::start(engine).await;
    let stats = app.stats().await;
    for count in [
        "received_count",
        "unique_processed_count",
        "duplicate_dropped_count",
        "topics_count",
        "queue_length",
        "conflict_count",
        "rejected_count",
    ] {
        assert_eq!(stats[count], 0, "{count} in {stats}");
    }
    assert!(stats["uptime_seconds"].is_number());
    assert!(stats["last_updated"].is_string());
}

async fn an_event_with_a_missing_or_wrong_field_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    for (field, wrong) in [
        ("topic", json!("")),
        ("topic", Value::Null),
        ("event_id", json!(7)),
        ("timestamp", json!("yesterday")),
        ("source", json!("   ")),
        ("payload", json!([1])),
    ] {
        let mut event = event("orders", "o-1");
        event[field] = wrong;
        let problem = app.publish(&event).await.problem(422);
        assert_eq!(problem["errors"][0]["pointer"], format!("/{field}"));
        event.as_object_mut().unwrap().remove(field);
        let problem = app.publish(&event).await.problem(422);
        assert_eq!(problem["errors"][0]["pointer"], format!("/{field}"));
    }
    assert_eq!(app.database().rows().await, 0);
}

async fn five_publishers_of_ten_events_lose_none(engine: Engine) {
    let app = TestApp::start(engine).await;
    let mut publishers = JoinSet::new();
    for publisher in 0..5 {
        let client = app.client();
        publishers.spawn(async move {
            for number in 0..10 {
                let event = event(&format!("topic-{publisher}"), &format!("e-{number}"));
                assert_eq!(client.publish(&event).await.ok()["outcome"], "stored");
            }
        });
    }
    publishers.join_all().await;
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["unique_processed_count"], 50);
    assert_eq!(stats["topics_count"], 5);
}

async fn one_event_from_ten_publishers_at_once_is_stored_once(engine: Engine) {
    let app = TestApp::start(engine).await;
    let mut publishers = JoinSet::new();
    for _ in 0..10 {
        let client = app.client();
        publishers.spawn(async move {
            let answer = client.publish(&event("orders", "o-1")).await.ok();
            answer["outcome"].as_str().unwrap().to_owned()
        });
    }
    let outcomes = publishers.join_all().await;
    let stored = outcomes.iter().filter(|outcome| *outcome == "stored");
    assert_eq!(stored.count(), 1, "{outcomes:?}");
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["unique_processed_count"], 1);
    assert_eq!(stats["duplicate_dropped_count"], 9);
}

async fn what_is_stored_survives_a_restart(engine: Engine) {
    let mut app = TestApp::start(engine).await;
    app.batch(&numbered("orders", 10)).await.ok();
    let before = app.events("").await;

    app.restart().await;
    assert_eq!(app.events("").await, before);
    let repeat = app.publish(&event("orders", "e-3")).await.ok();
    assert_eq!(repeat["outcome"], "duplicate");
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["received_count"], 11);
    assert_eq!(stats["topics_count"], 1);
}

async fn a_batch_of_a_hundred_is_stored(engine: Engine) {
    let app = TestApp::start(engine).await;
    let answer = app.batch(&numbered("orders", 100)).await.ok();
    assert_eq!(answer["count"], 100);
    assert_eq!(answer["stored"], 100);
    let listed = app.events("limit=1000").await;
    let ids: HashSet<&str> = listed
        .iter()
        .map(|event| event["event_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 100);
}

async fn a_batch_tells_new_events_from_repeats(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.batch(&numbered("orders", 3)).await.ok();
    let mut mixed = numbered("orders", 5);
    // Twice in one batch: one stored, one duplicate.
    mixed.push(event("orders", "e-4"));
    let answer = app.batch(&mixed).await.ok();
    assert_eq!(answer["count"], 6);
    assert_eq!(answer["stored"], 2);
    assert_eq!(answer["duplicates"], 4);
    app.assert_counters_are_exact().await;
}

async fn one_id_in_two_topics_is_two_events(engine: Engine) {
    let app = TestApp::start(engine).await;
    for topic in ["orders", "Orders"] {
        let answer = app.publish(&event(topic, "same")).await.ok();
        assert_eq!(answer["outcome"], "stored", "{topic}");
    }
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["topics_count"], 2);
    assert_eq!(app.events("topic=Orders").await.len(), 1);
}

async fn the_newest_stored_comes_first_and_keeps_its_timestamp(engine: Engine) {
    let app = TestApp::start(engine).await;
    // The order is that of storing, whatever the events' own times say.
    for (id, sent, shown) in [
        ("a", "2026-05-01T12:00:00+02:00", "2026-05-01T10:00:00Z"),
        (
            "b",
            "2024-02-29T23:59:59.1234567Z",
            "2024-02-29T23:59:59.123456Z",
        ),
        ("c", "2025-12-31T00:00:00", "2025-12-31T00:00:00Z"),
    ] {
        let mut event = event("orders", id);
        event["timestamp"] = json!(sent);
        app.publish(&event).await.ok();
        let newest = app.events("limit=1").await.remove(0);
        assert_eq!(newest["event_id"], id);
        let instant = newest["timestamp"].as_str().unwrap();
        let trimmed = match instant.split_once('.') {
            Some((whole, fraction)) => match fraction.trim_end_matches('Z').trim_end_matches('0') {
                "" => format!("{whole}Z"),
                digits => format!("{whole}.{digits}Z"),
            },
            None => instant.to_owned(),
        };
        assert_eq!(trimmed, shown, "for {sent}");
    }
    let ids: Vec<Value> = app
        .events("")
        .await
        .iter()
        .map(|event| event["event_id"].clone())
        .collect();
    assert_eq!(ids, ["c", "b", "a"]);
}

async fn malformed_json_is_422(engine: Engine) {
    let app = TestApp::start(engine).await;
    for body in ["", "{", "{\"topic\": }", "[]", "null", "\"event\""] {
        app.post("/publish", body).await.problem(422);
        app.post("/publish/batch", body).await.problem(422);
    }
    assert_eq!(app.database().rows().await, 0);
}

async fn five_new_events_and_two_repeats_are_counted_exactly(engine: Engine) {
    let app = TestApp::start(engine).await;
    for event in numbered("orders", 5) {
        app.publish(&event).await.ok();
    }
    for event in numbered("orders", 2) {
        app.publish(&event).await.ok();
    }
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["received_count"], 7);
    assert_eq!(stats["unique_processed_count"], 5);
    assert_eq!(stats["duplicate_dropped_count"], 2);
    assert_eq!(stats["topics_count"], 1);
}

async fn a_thousand_events_over_a_thousand_topics_are_a_thousand_topics(engine: Engine) {
    let app = TestApp::start(engine).await;
    let events: Vec<Value> = (0..1000)
        .map(|number| event(&format!("topic-{number}"), "e"))
        .collect();
    assert_eq!(app.batch(&events).await.ok()["stored"], 1000);
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["topics_count"], 1000);
    assert_eq!(app.events("limit=1000").await.len(), 1000);
}

async fn the_queue_is_empty_when_nothing_waits(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.batch(&numbered("orders", 50)).await.ok();
    eventually("the queue is empty", Duration::from_secs(5), async || {
        app.stats().await["queue_length"] == 0
    })
    .await;
}

async fn the_uptime_grows(engine: Engine) {
    let app = TestApp::start(engine).await;
    let uptime = async || app.stats().await["uptime_seconds"].as_f64().unwrap();
    let first = uptime().await;
    eventually("the uptime grows", Duration::from_secs(5), async || {
        uptime().await > first
    })
    .await;
}

async fn a_payload_comes_back_as_the_same_json(engine: Engine) {
    let app = TestApp::start(engine).await;
    // As text: a JSON library of the test would read the long numbers as floats.
    let long = "x".repeat(1000);
    let payload = format!(
        "{{\"text\": \"Grüße, 世界 🌍 \\u00e9\\n\\t\\\"\", \"none\": null, \"long\": \"{long}\", \
         \"Key\": 1, \"key\": 2, \"deep\": {{\"list\": [1, 2.5, true, {{}}, []]}}}}"
    );
    let body = json!({
        "topic": "überweisungen", "event_id": "e\u{301}", "timestamp": "2026-01-02T03:04:05Z",
        "source": "suite", "payload": serde_json::from_str::<Value>(&payload).unwrap(),
    });
    app.publish(&body).await.ok();
    // The other unicode normal form is another key.
    let mut composed = body.clone();
    composed["event_id"] = json!("\u{e9}");
    assert_eq!(app.publish(&composed).await.ok()["outcome"], "stored");

    let listed = app.events("topic=%C3%BCberweisungen").await;
    assert_eq!(listed.len(), 2);
    for (listed, sent) in listed.iter().zip([&composed, &body]) {
        for member in ["topic", "event_id", "source", "payload"] {
            assert_eq!(listed[member], sent[member]);
        }
    }

    let digits = "123456789012345678901234567890";
    let number = format!(
        "{{\"topic\":\"n\",\"event_id\":\"n\",\"timestamp\":\"2026-01-02T03:04:05Z\",\
         \"source\":\"suite\",\"payload\":{{\"n\":{digits},\"d\":0.12345678901234567890123}}}}"
    );
    app.post("/publish", number).await.ok();
    let page = app.get("/events?topic=n").await.text;
    assert!(page.contains(digits), "{page}");
    assert!(page.contains("0.12345678901234567890123"), "{page}");
}

#[tokio::test]
async fn a_broker_that_is_there_shows_in_health() {
    let broker = TestBroker::create().await;
    let app = TestApp::builder(Engine::Postgres)
        .await
        .broker(&broker)
        .start()
        .await;
    eventually("redis is connected", Duration::from_secs(10), async || {
        app.get("/health").await.ok()["redis"] == "connected"
    })
    .await;
}
