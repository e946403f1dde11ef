//! Publishing through the broker what is nearly as large as a body may be. The stream carries an event written
//! out anew, which may be larger than what was sent, and the bridge takes no entry that is larger than a
//! body may be: what is queued has to fit, and is stored.

use crate::support::{
    Answer, Client, Database, Engine, PostgresServer, TestApp, TestAppBuilder, TestBroker, event,
    eventually,
};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::task::JoinSet;

on_both_engines!(what_the_bridge_would_not_take_is_stored_at_once_and_nothing_is_a_dead_letter);

const BODY_BYTES_MAX: usize = 1024;
/// The timestamp of these events gets so many digits more.
const GROWTH_BYTES: usize = ".000000".len();
const SOON: Duration = Duration::from_secs(30);

fn small(builder: TestAppBuilder, broker: &TestBroker) -> TestAppBuilder {
    builder
        .broker(broker)
        .set("MAX_BODY_BYTES", BODY_BYTES_MAX)
        // What is not queued waits that long for a database that is away.
        .set("PUBLISH_TIMEOUT_MS", 5_000)
}

/// An event of so many bytes.
fn sized(event_id: &str, bytes: usize) -> String {
    let mut event = event("t", event_id);
    event["payload"] = json!({ "text": "" });
    let missing = bytes - event.to_string().len();
    event["payload"]["text"] = Value::from("x".repeat(missing));
    let event = event.to_string();
    assert_eq!(event.len(), bytes);
    event
}

fn post(client: &Client, path: &str, content_type: &str, body: String) -> RequestBuilder {
    let request = client.request(Method::POST, path);
    request.header("content-type", content_type).body(body)
}

fn asynchronous(request: RequestBuilder) -> RequestBuilder {
    request.header("prefer", "respond-async")
}

/// In binary mode, with attributes that are no part of its body: its source is there twice in the event.
/// Gives its path, too.
fn cloud_event(client: &Client, id: &str) -> (String, RequestBuilder) {
    let source = "s".repeat(100);
    let path = format!("/events/t/{source}%23{id}");
    let body = json!({ "text": "x".repeat(900) }).to_string();
    let request = post(client, "/publish", "application/json", body)
        .header("ce-specversion", "1.0")
        .header("ce-id", id)
        .header("ce-source", source)
        .header("ce-type", "t")
        .header("ce-time", "2026-01-02T03:04:05Z");
    (path, request)
}

/// Two of them, in batched mode. The source of the second makes it larger than the whole batch.
fn cloud_events() -> String {
    let cloud_event = |source: &str, text: &str| {
        json!({
            "specversion": "1.0", "id": "1", "source": source, "type": "t",
            "time": "2026-01-02T03:04:05Z", "data": { "text": text },
        })
    };
    let batch = json!([
        cloud_event("first", ""),
        cloud_event(&"s".repeat(250), &"x".repeat(450)),
    ]);
    let batch = batch.to_string();
    assert!(batch.len() <= BODY_BYTES_MAX, "{}", batch.len());
    batch
}

fn assert_is_queued(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 202, "{what}: {}", answer.text);
    assert_eq!(answer.json()["outcome"], "queued", "{what}");
    assert_eq!(answer.header("preference-applied"), "respond-async");
}

/// As if the preference had not been given.
fn stored(answer: &Answer) -> Value {
    let body = answer.ok();
    assert_eq!(answer.header("preference-applied"), "");
    body
}

/// Everything that was accepted is stored, and the bridge has thrown nothing away.
async fn assert_all_are_stored(app: &TestApp, paths: &HashSet<String>) {
    for path in paths {
        eventually(path, SOON, async || app.status(path).await == Some(200)).await;
    }
    eventually("nothing waits", SOON, async || {
        let stats = app.get("/stats").await;
        stats.status == 200 && stats.json()["queue_length"] == 0
    })
    .await;
    let letters = app.get("/dead-letters").await.ok();
    assert_eq!(letters["count"], 0, "{letters}");
    app.assert_counters_are_exact().await;
}

async fn what_the_bridge_would_not_take_is_stored_at_once_and_nothing_is_a_dead_letter(
    engine: Engine,
) {
    let broker = TestBroker::create().await;
    let app = small(TestApp::builder(engine).await, &broker).start().await;
    let mut paths = HashSet::new();
    for bytes in BODY_BYTES_MAX - GROWTH_BYTES..=BODY_BYTES_MAX {
        let id = format!("one-{bytes}");
        let body = sized(&id, bytes);
        let answer = asynchronous(post(&app, "/publish", "application/json", body));
        let answer = Answer::of(answer).await;
        if bytes + GROWTH_BYTES <= BODY_BYTES_MAX {
            assert_is_queued(&answer, &id);
        } else {
            assert_eq!(stored(&answer)["outcome"], "stored", "{id}");
        }
        paths.insert(format!("/events/t/{id}"));

        let id = format!("line-{bytes}");
        let (path, lines) = ("/publish/batch", "application/x-ndjson");
        let answer = asynchronous(post(&app, path, lines, sized(&id, bytes)));
        let answer = Answer::of(answer).await;
        if bytes + GROWTH_BYTES <= BODY_BYTES_MAX {
            assert_is_queued(&answer, &id);
        } else {
            assert_eq!(stored(&answer)["stored"], 1, "{id}");
        }
        paths.insert(format!("/events/t/{id}"));
    }

    let (path, request) = cloud_event(&app, "long");
    let answer = Answer::of(asynchronous(request)).await;
    assert_eq!(stored(&answer)["outcome"], "stored");
    paths.insert(path);

    // One that does not fit takes the other with it.
    let (path, batched) = ("/publish/batch", "application/cloudevents-batch+json");
    let answer = asynchronous(post(&app, path, batched, cloud_events()));
    assert_eq!(stored(&Answer::of(answer).await)["stored"], 2);
    paths.insert("/events/t/first%231".to_owned());
    paths.insert(format!("/events/t/{}%231", "s".repeat(250)));

    assert_all_are_stored(&app, &paths).await;
}

/// Each with the path of its event, and whether it fits.
fn while_the_database_is_away(client: &Client) -> Vec<(String, bool, RequestBuilder)> {
    let mut requests = Vec::new();
    for bytes in BODY_BYTES_MAX - GROWTH_BYTES..=BODY_BYTES_MAX {
        let fits = bytes + GROWTH_BYTES <= BODY_BYTES_MAX;
        let json = |id: &str| post(client, "/publish", "application/json", sized(id, bytes));
        let (asked, unasked) = (format!("asked-{bytes}"), format!("unasked-{bytes}"));
        let request = asynchronous(json(&asked));
        requests.push((format!("/events/t/{asked}"), fits, request));
        requests.push((format!("/events/t/{unasked}"), fits, json(&unasked)));
    }
    let (path, request) = cloud_event(client, "asked");
    requests.push((path, false, asynchronous(request)));
    let (path, request) = cloud_event(client, "unasked");
    requests.push((path, false, request));
    requests
}

#[tokio::test]
async fn without_its_database_what_the_bridge_would_not_take_is_503_and_no_dead_letter() {
    let broker = TestBroker::create().await;
    let mut postgres = PostgresServer::start().await;
    let database = Arc::new(Database::at(postgres.url("postgres")));
    let app = small(TestApp::on(database), &broker).start().await;
    postgres.kill().await;

    let mut publishers = JoinSet::new();
    for (path, fits, request) in while_the_database_is_away(&app) {
        publishers.spawn(async move { (path, fits, Answer::of(request).await) });
    }
    let mut paths = HashSet::new();
    for (path, fits, answer) in publishers.join_all().await {
        if answer.status == 202 {
            assert!(fits, "{path}: {}", answer.text);
            assert_eq!(answer.json()["outcome"], "queued");
            paths.insert(path);
        } else {
            answer.problem(503);
            assert!(!answer.header("retry-after").is_empty());
        }
    }
    let asked = format!("/events/t/asked-{}", BODY_BYTES_MAX - GROWTH_BYTES);
    assert!(paths.contains(&asked), "what fits is queued: {paths:?}");

    postgres.start_again().await;
    eventually("ready again", SOON, async || {
        app.status("/readyz").await == Some(200)
    })
    .await;
    assert_all_are_stored(&app, &paths).await;
}
