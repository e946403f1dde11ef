//! The rate of each client: who is over it is told when to come back, and nobody else notices. A batch
//! of 1000 events at one a second keeps its client out for far longer than any test takes, however
//! busy the machine is.

use crate::support::{Answer, Client, Engine, Exposition, TestApp, event, eventually};
use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::time::Duration;

const WAIT_MAX: Duration = Duration::from_secs(30);
const BATCH_EVENTS: usize = 1000;

async fn limited(per_s: u32, tokens: &str) -> TestApp {
    let app = TestApp::builder(Engine::Sqlite).await;
    let app = app.set("RATE_LIMIT", per_s).set("API_TOKENS", tokens);
    app.start().await
}

fn batch(client: &Client, prefix: &str, events: usize) -> RequestBuilder {
    let events: Vec<Value> = (0..events)
        .map(|n| event("t", &format!("{prefix}{n}")))
        .collect();
    let body = json!({ "events": events }).to_string();
    client.request(Method::POST, "/publish/batch").body(body)
}

/// Publishes more at once than is allowed in a quarter of an hour.
async fn spend_all(client: &Client, token: Option<&str>) {
    let mut request = batch(client, "spent", BATCH_EVENTS);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    Answer::of(request).await.ok();
}

/// Seconds to wait, of an answer that says so.
#[track_caller]
fn retry_after_s(answer: &Answer) -> u64 {
    let problem = answer.problem(429);
    assert_eq!(problem["type"], "urn:oncelog:problem:rate-limited");
    assert_eq!(problem["retryable"], true);
    answer.header("retry-after").parse().expect("whole seconds")
}

#[tokio::test]
async fn without_the_setting_nobody_is_refused() {
    let app = TestApp::start(Engine::Sqlite).await;
    let publishes = (0..200).map(async |n| app.publish(&event("t", &format!("{n}"))).await.ok());
    join_all(publishes).await;
    let text = app.get("/metrics").await.text;
    assert!(!text.contains("oncelog_rate_limited_total"));
}

#[tokio::test]
async fn a_burst_over_the_rate_is_429_stores_nothing_and_passes_later() {
    let app = limited(1, "").await;
    let mut stored = 0;
    eventually("a refusal", WAIT_MAX, async || {
        let names: Vec<_> = (0..10).map(|n| format!("{stored}-{n}")).collect();
        let publishes = names
            .iter()
            .map(async |name| app.publish(&event("t", name)).await);
        let answers = join_all(publishes).await;
        let (let_in, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status == 200);
        stored += let_in.len();
        assert!(refused.iter().all(|answer| retry_after_s(answer) == 1));
        !refused.is_empty()
    })
    .await;
    assert_eq!(app.database().rows().await, i64::try_from(stored).unwrap());
    eventually("a second has passed", WAIT_MAX, async || {
        app.publish(&event("t", "later")).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_batch_costs_what_it_holds_and_nobody_pays_for_the_probes() {
    let app = limited(1, "").await;
    spend_all(&app, None).await;
    let event = event("t", "one too many").to_string();
    for (method, path) in [
        (Method::POST, "/publish"),
        (Method::POST, "/publish/batch"),
        (Method::GET, "/events"),
        (Method::GET, "/events/t/spent1"),
        (Method::GET, "/events/stream"),
        (Method::GET, "/topics"),
        (Method::GET, "/stats"),
        (Method::GET, "/dead-letters"),
    ] {
        let answer = Answer::of(app.request(method, path).body(event.clone())).await;
        let wait_s = retry_after_s(&answer);
        assert!((100..=1000).contains(&wait_s), "{path}: {wait_s}");
    }
    for path in ["/livez", "/readyz", "/health", "/admin/actors"] {
        app.get(path).await.ok();
    }
    for path in ["/", "/docs", "/openapi.json", "/dashboard/app.js"] {
        assert_eq!(app.status(path).await, Some(200), "{path}");
    }
    assert_eq!(app.database().rows().await, 1000);
    let metrics = Exposition::parse(&app.get("/metrics").await.text);
    let refused = |client: &str| {
        let labels = [("client", client)];
        metrics.value("oncelog_rate_limited_total", &labels)
    };
    assert_eq!((refused("address"), refused("token")), (8.0, 0.0));
    let labels = [("route", "/stats"), ("method", "GET"), ("status", "429")];
    assert_eq!(metrics.value("oncelog_http_requests_total", &labels), 1.0);
}

#[tokio::test]
async fn each_token_has_a_rate_of_its_own_and_so_has_an_address_without_one() {
    let app = limited(1, "one,other").await;
    let read = async |token: &str| {
        let request = app.request(Method::GET, "/events/t/spent1");
        Answer::of(request.bearer_auth(token)).await
    };
    spend_all(&app, Some("one")).await;
    retry_after_s(&read("one").await);
    read("other").await.ok();
    // Guesses are calls of their address, until it is told to guess more slowly.
    eventually("enough guesses", WAIT_MAX, async || {
        let guesses = join_all((0..10).map(|_| read("guessed"))).await;
        let known = guesses
            .iter()
            .all(|guess| [401, 429].contains(&guess.status));
        assert!(known, "{guesses:?}");
        guesses.iter().any(|guess| guess.status == 429)
    })
    .await;
    eventually("a token at the same address", WAIT_MAX, async || {
        read("other").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn what_is_invalid_costs_one_and_a_burst_is_as_large_as_it_is_set() {
    let app = TestApp::builder(Engine::Sqlite)
        .await
        .set("RATE_LIMIT", 1)
        .set("RATE_LIMIT_BURST", 300)
        .start()
        .await;
    for _ in 0..20 {
        let bad = vec![event("", ""); 100];
        app.batch(&bad).await.problem(422);
    }
    for n in 0..100 {
        app.publish(&event("t", &format!("{n}"))).await.ok();
    }
    Answer::of(batch(&app, "b", 150)).await.ok();
    spend_all(&app, None).await;
    retry_after_s(&app.publish(&event("t", "over")).await);
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_a_rate_of_its_own() {
    let app = TestApp::builder(Engine::Sqlite)
        .await
        .set("RATE_LIMIT", 1)
        .set("TRUSTED_PROXIES", "127.0.0.0/8,10.0.0.0/8")
        .start()
        .await;
    let for_client = |request: RequestBuilder, clients: &str| {
        Answer::of(request.header("X-Forwarded-For", clients))
    };
    let spend = batch(&app, "spent", BATCH_EVENTS);
    for_client(spend, "192.0.2.1, 10.1.1.1").await.ok();
    let read = || app.request(Method::GET, "/events/t/spent1");
    for same in ["192.0.2.1", "203.0.113.1, 192.0.2.1:4711"] {
        retry_after_s(&for_client(read(), same).await);
    }
    for_client(read(), "192.0.2.2").await.ok();
    for_client(read(), "192.0.2.1, 192.0.2.3").await.ok();
}

/// What anybody can write into a request says nothing of its address.
#[tokio::test]
async fn a_forwarded_address_is_not_believed() {
    let app = limited(1, "").await;
    spend_all(&app, None).await;
    for (header, value) in [
        ("X-Forwarded-For", "192.0.2.7"),
        ("Forwarded", "for=192.0.2.7"),
        ("X-Real-IP", "192.0.2.7"),
    ] {
        let request = app.request(Method::GET, "/events").header(header, value);
        retry_after_s(&Answer::of(request).await);
    }
}
