//! What is refused, with which status, and that nothing of it is stored.

use crate::support::{Answer, Engine, TestApp, event};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

on_both_engines!(
    a_batch_with_bad_events_is_refused_whole_and_every_field_is_named,
    a_batch_of_none_or_of_more_than_a_thousand_is_refused,
    a_query_that_is_wrong_is_400,
);

async fn a_batch_with_bad_events_is_refused_whole_and_every_field_is_named(engine: Engine) {
    let app = TestApp::start(engine).await;
    let mut events: Vec<Value> = (0..4)
        .map(|number| event("t", &format!("e-{number}")))
        .collect();
    events[1]["topic"] = json!("");
    events[1]["payload"] = json!("text");
    events[3]["timestamp"] = json!("2026-13-01T00:00:00Z");
    events[3]["source"] = json!("s".repeat(256));

    let problem = app.batch(&events).await.problem(422);
    let mut pointers: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [
            "/events/1/payload",
            "/events/1/topic",
            "/events/3/source",
            "/events/3/timestamp"
        ]
    );
    assert_eq!(app.database().rows().await, 0);
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["received_count"], 0);
    assert_eq!(stats["rejected_count"], 4);
}

async fn a_batch_of_none_or_of_more_than_a_thousand_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.batch(&[]).await.problem(422);
    let many: Vec<Value> = (0..1001)
        .map(|number| event("t", &format!("e-{number}")))
        .collect();
    app.batch(&many).await.problem(422);
    assert_eq!(app.batch(&many[..1000]).await.ok()["stored"], 1000);
    assert_eq!(app.stats().await["rejected_count"], 1001);
}

async fn a_query_that_is_wrong_is_400(engine: Engine) {
    let app = TestApp::start(engine).await;
    for query in [
        "limit=0",
        "limit=-1",
        "limit=x",
        "cursor=nonsense",
        "order=up",
        "since=never",
    ] {
        app.get(&format!("/events?{query}")).await.problem(400);
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405_with_allow() {
    let app = TestApp::start(Engine::Postgres).await;
    app.get("/nothing/here").await.problem(404);
    for (method, path, allowed) in [
        (Method::GET, "/publish", "POST"),
        (Method::OPTIONS, "/publish", "POST"),
        (Method::DELETE, "/publish/batch", "POST"),
        (Method::POST, "/events", "GET"),
        (Method::PUT, "/stats", "GET"),
        (Method::POST, "/health", "GET"),
    ] {
        let answer = Answer::of(app.request(method, path)).await;
        answer.problem(405);
        assert!(answer.header("allow").contains(allowed), "{path}");
    }
    let head = Answer::of(app.request(Method::HEAD, "/stats")).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn another_type_encoding_or_charset_is_415() {
    let app = TestApp::start(Engine::Postgres).await;
    let body = event("t", "e").to_string();
    for (header, value) in [
        ("content-type", "text/plain"),
        ("content-type", "application/xml"),
        ("content-type", "application/json; charset=latin1"),
        ("content-encoding", "compress"),
    ] {
        let request = app.request(Method::POST, "/publish").header(header, value);
        Answer::of(request.body(body.clone())).await.problem(415);
    }
    // None at all is taken as JSON.
    let plain = app.request(Method::POST, "/publish").body(body);
    assert_eq!(Answer::of(plain).await.ok()["outcome"], "stored");
}

/// What the server sends until it closes the connection.
async fn answered(address: SocketAddr, request: Vec<u8>) -> String {
    let exchange = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let patience = Some(Duration::from_secs(10));
        stream.set_read_timeout(patience).unwrap();
        stream.write_all(&request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    exchange.await.unwrap()
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_however_it_is_sent_and_the_service_goes_on() {
    let app = TestApp::builder(Engine::Postgres)
        .await
        .set("MAX_BODY_BYTES", "64KiB")
        .start()
        .await;
    let mut large = event("t", "large");
    large["payload"]["text"] = json!("x".repeat(100_000));
    app.publish(&large).await.problem(413);

    let mut request = b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
        Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        .to_vec();
    for chunk in large.to_string().as_bytes().chunks(10_000) {
        request.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    let answer = answered(app.address(), request).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    assert_eq!(
        app.publish(&event("t", "small")).await.ok()["outcome"],
        "stored"
    );
    assert_eq!(app.database().rows().await, 1);
}

/// What follows a broken chunk might be anything: the connection ends, and the answer says so.
#[tokio::test]
async fn a_body_whose_framing_is_broken_is_400_on_a_connection_that_closes() {
    let app = TestApp::start(Engine::Sqlite).await;
    let request = b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
        Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n";
    let answer = answered(app.address(), request.to_vec()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
    assert!(head.contains("\r\nconnection: close"), "{head}");
    app.publish(&event("t", "next")).await.ok();
}
