//! What a body may be: NDJSON, compressed, a CloudEvent; what of it is refused, and how. Over HTTP; the
//! grammars themselves are tested beside their code.

use crate::support::{Answer, Client, Engine, TestApp, brotli, event, gzip, zstd};
use reqwest::Method;
use serde_json::{Value, json};

on_both_engines!(
    a_batch_of_lines_is_a_batch,
    every_event_of_a_batch_has_its_outcome_and_the_time_it_was_first_stored,
    a_cloudevent_is_the_same_event_in_each_of_its_modes,
);

const NDJSON: &str = "application/x-ndjson";
/// Sends a body with these headers.
async fn post(client: &Client, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut request = client.request(Method::POST, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.body(body)).await
}

async fn post_lines(client: &Client, text: String) -> Answer {
    let headers = [("content-type", NDJSON)];
    post(client, "/publish/batch", &headers, text.into_bytes()).await
}

fn encodings(body: &[u8]) -> [(&'static str, Vec<u8>); 3] {
    [
        ("gzip", gzip(body)),
        ("zstd", zstd(body)),
        ("br", brotli(body)),
    ]
}

fn pointers(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().unwrap().iter();
    errors
        .map(|error| error["pointer"].as_str().unwrap())
        .collect()
}

async fn a_batch_of_lines_is_a_batch(engine: Engine) {
    let app = TestApp::start(engine).await;
    let line = |id: &str| event("lines", id).to_string();
    let text = format!("\n{}\r\n\r\n{}\n{}", line("0"), line("1"), line("0"));
    let answer = post_lines(&app, text).await.ok();
    assert_eq!(
        (&answer["count"], &answer["stored"], &answer["duplicates"]),
        (&json!(3), &json!(2), &json!(1))
    );

    let text = format!("{}\n\n{{\n{}\n{{\"topic\":\"\"}}\n", line("2"), line("3"));
    let problem = post_lines(&app, text).await.problem(422);
    assert_eq!(problem["retryable"], false);
    assert_eq!(
        pointers(&problem),
        [
            "/events/1",
            "/events/3/topic",
            "/events/3/event_id",
            "/events/3/timestamp",
            "/events/3/source",
            "/events/3/payload"
        ]
    );
    let many: String = (0..1001)
        .map(|id| line(&format!("m-{id}")) + "\n")
        .collect();
    post_lines(&app, many).await.problem(422);
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["unique_processed_count"], 2);
    assert_eq!(stats["rejected_count"], 4 + 1001);
}

async fn every_event_of_a_batch_has_its_outcome_and_the_time_it_was_first_stored(engine: Engine) {
    let app = TestApp::start(engine).await;
    let first = app.publish(&event("t", "old")).await.ok();
    let mut clash = event("t", "old");
    clash["payload"] = json!({"of": "another"});
    let events = [
        event("t", "new"),
        event("t", "old"),
        clash,
        event("t", "new"),
    ];
    let headers = [("prefer", "return=representation")];
    let body = json!({ "events": events }).to_string().into_bytes();
    let answer = post(&app, "/publish/batch", &headers, body).await;
    assert_eq!(answer.header("preference-applied"), "return=representation");
    let answer = answer.ok();
    let results = answer["results"].as_array().unwrap();
    let of = |member: &str| -> Vec<&str> {
        let values = results.iter().map(|result| &result[member]);
        values.map(|value| value.as_str().unwrap()).collect()
    };
    assert_eq!(of("event_id"), ["new", "old", "old", "new"]);
    assert_eq!(
        of("outcome"),
        ["stored", "duplicate", "conflict", "duplicate"]
    );
    let times = of("processed_at");
    assert_eq!(times[1], first["processed_at"]);
    assert_eq!(times[1], times[2]);
    assert_eq!(times[0], times[3]);
    let stored = app.get("/events/t/new").await.ok();
    assert_eq!(times[0], stored["processed_at"]);
}

async fn a_cloudevent_is_the_same_event_in_each_of_its_modes(engine: Engine) {
    let app = TestApp::start(engine).await;
    let attributes = json!({
        "specversion": "1.0", "id": "1 ü", "source": "/shop", "type": "orders",
        "time": "2026-01-31T13:00:00+01:00", "data": {"total": 1.50},
    });
    let structured = [(
        "content-type",
        "application/cloudevents+json; charset=utf-8",
    )];
    let answer = post(&app, "/publish", &structured, attributes.to_string().into()).await;
    assert_eq!(answer.ok()["outcome"], "stored");

    let batched = [("content-type", "application/cloudevents-batch+json")];
    let body = json!([attributes]).to_string().into_bytes();
    let answer = post(&app, "/publish/batch", &batched, body).await.ok();
    assert_eq!(
        (&answer["duplicates"], &answer["conflicts"]),
        (&json!(1), &json!(0))
    );

    let binary = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "1%20%C3%BC"),
        ("ce-source", "/shop"),
        ("ce-type", "orders"),
        ("ce-time", "2026-01-31T12:00:00Z"),
    ];
    let data = || br#"{"total":1.5}"#.to_vec();
    let answer = post(&app, "/publish", &binary, data()).await.ok();
    assert_eq!(
        (&answer["outcome"], &answer["event_id"]),
        (&json!("duplicate"), &json!("/shop#1 ü"))
    );
    let stored = app.events("topic=orders").await;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0]["timestamp"], "2026-01-31T12:00:00.000000Z");

    let mut wrapped = binary;
    wrapped[2].1 = "2";
    post(&app, "/publish", &wrapped, b"[1,2]".to_vec())
        .await
        .ok();
    assert_eq!(
        app.events("topic=orders").await[0]["payload"],
        json!({"data": [1, 2]})
    );

    let problem = post(&app, "/publish", &binary[..5], data())
        .await
        .problem(422);
    assert_eq!(pointers(&problem), ["/time"]);
    let mut text = binary;
    text[0].1 = "text/plain";
    post(&app, "/publish", &text, b"hello".to_vec())
        .await
        .problem(415);
    assert_eq!(app.database().rows().await, 2);
}

#[tokio::test]
async fn a_body_may_be_compressed_and_what_does_not_decompress_is_400() {
    let app = TestApp::start(Engine::Sqlite).await;
    for (name, body) in encodings(event("t", "one").to_string().as_bytes()) {
        let headers = [("content-encoding", name)];
        post(&app, "/publish", &headers, body.clone()).await.ok();
        let mut corrupt = body.clone();
        corrupt[0] ^= 0xff;
        for wrong in [body[..body.len() - 1].to_vec(), corrupt, Vec::new()] {
            let answer = post(&app, "/publish", &headers, wrong).await;
            assert!(
                [400, 422].contains(&answer.status),
                "{name} {}",
                answer.text
            );
            answer.problem(answer.status);
        }
    }
    let lines: String = (0..100)
        .map(|id| event("t", &format!("line-{id}")).to_string() + "\n")
        .collect();
    for (name, body) in encodings(lines.as_bytes()) {
        let headers = [("content-encoding", name), ("content-type", NDJSON)];
        let answer = post(&app, "/publish/batch", &headers, body).await.ok();
        assert_eq!(answer["count"], 100, "{name}");
    }
    assert_eq!(app.database().rows().await, 101);
}

#[tokio::test]
async fn another_encoding_and_one_on_top_of_another_are_415() {
    let app = TestApp::start(Engine::Sqlite).await;
    let body = event("t", "e").to_string().into_bytes();
    let twice = gzip(&gzip(&body));
    for (encoding, body) in [
        ("deflate", body),
        ("gzip, gzip", twice.clone()),
        ("gzip,identity", twice),
    ] {
        let headers = [("content-encoding", encoding)];
        let answer = post(&app, "/publish", &headers, body).await;
        answer.problem(415);
        assert!(
            answer.header("accept-encoding").contains("gzip"),
            "{encoding}"
        );
    }
    assert_eq!(app.database().rows().await, 0);
}
