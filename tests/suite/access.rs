//! Tokens: who may publish, read, and crash actors.

use crate::support::{Answer, Engine, TestApp, event};
use reqwest::Method;
use std::fs;

async fn with_token(app: &TestApp, path: &str, token: &str) -> Answer {
    Answer::of(app.request(Method::GET, path).bearer_auth(token)).await
}

#[tokio::test]
async fn without_tokens_everything_is_open_on_loopback() {
    let app = TestApp::start(Engine::Postgres).await;
    assert!(!app.actors().await.is_empty());
    app.publish(&event("t", "e")).await.ok();
}

/// Where no token is needed, nothing else keeps a page of the internet from the loopback address.
#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let app = TestApp::start(Engine::Sqlite).await;
    let send = async |method: Method, path: &str, site: &str| {
        let request = app.request(method, path).header("Sec-Fetch-Site", site);
        Answer::of(request.body(event("t", site).to_string())).await
    };
    for path in ["/publish", "/publish/batch", "/admin/actors/stats/crash"] {
        send(Method::POST, path, "cross-site").await.problem(403);
    }
    send(Method::POST, "/dead-letters/1/retry", "cross-site")
        .await
        .problem(403);
    send(Method::DELETE, "/dead-letters/1", "cross-site")
        .await
        .problem(403);
    assert_eq!(app.database().rows().await, 0);
    // A link to the dashboard from elsewhere works, and so does the dashboard itself.
    let link = app.request(Method::GET, "/events");
    Answer::of(link.header("Sec-Fetch-Site", "cross-site"))
        .await
        .ok();
    for site in ["same-origin", "same-site", "none"] {
        send(Method::POST, "/publish", site).await.ok();
    }
}

/// A page whose name was made to point here is of the same site to its browser; only Host tells.
#[tokio::test]
async fn a_name_that_is_none_of_those_allowed_is_misdirected() {
    let app = TestApp::builder(Engine::Sqlite)
        .await
        .set("ALLOWED_HOSTS", "logs.example.com,aggregator")
        .start()
        .await;
    let ask = async |method: Method, path: &str, host: &str| {
        let request = app.request(method, path).header("Host", host);
        Answer::of(request.body(event("t", host).to_string())).await
    };
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/events"),
        (Method::GET, "/livez"),
        (Method::GET, "/nothing"),
        (Method::POST, "/publish"),
        (Method::POST, "/admin/actors/stats/crash"),
    ] {
        let refused = ask(method, path, "rebound.example:8080").await;
        refused.problem(421);
    }
    assert_eq!(app.database().rows().await, 0);
    for host in [
        "aggregator:8080",
        "LOGS.example.com",
        "localhost",
        "[::1]:80",
    ] {
        ask(Method::POST, "/publish", host).await.ok();
    }
    app.actors().await;
    let open = TestApp::start(Engine::Sqlite).await;
    let request = open.request(Method::GET, "/events");
    Answer::of(request.header("Host", "any.example")).await.ok();
}

#[tokio::test]
async fn an_admin_token_guards_the_admin_calls_only() {
    let app = TestApp::builder(Engine::Postgres)
        .await
        .set("ADMIN_TOKEN", "boss")
        .start()
        .await;
    let none = app.get("/admin/actors").await;
    none.problem(401);
    assert!(none.header("www-authenticate").starts_with("Bearer"));
    with_token(&app, "/admin/actors", "wrong")
        .await
        .problem(401);
    with_token(&app, "/admin/actors", "boss").await.ok();
    app.stats().await;
}

#[tokio::test]
async fn api_tokens_guard_publishing_and_reading_by_their_scopes() {
    let app = TestApp::builder(Engine::Postgres)
        .await
        .set(
            "API_TOKENS",
            "plain,reader:read:eyes,writer:publish:hand,root:read+admin:crown",
        )
        .start()
        .await;
    for path in [
        "/livez",
        "/readyz",
        "/health",
        "/",
        "/docs",
        "/docs/style.css",
        "/openapi.json",
    ] {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
    for path in ["/events", "/stats", "/admin/actors"] {
        let answer = app.get(path).await;
        answer.problem(401);
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    for (token, may_read, may_publish) in [
        ("plain", true, true),
        ("eyes", true, false),
        ("hand", false, true),
    ] {
        let read = with_token(&app, "/events", token).await;
        assert_eq!(
            read.status,
            if may_read { 200 } else { 403 },
            "{token} reads"
        );
        let publish = app.request(Method::POST, "/publish").bearer_auth(token);
        let published = Answer::of(publish.body(event("t", token).to_string())).await;
        assert_eq!(
            published.status,
            if may_publish { 200 } else { 403 },
            "{token} publishes"
        );
        with_token(&app, "/admin/actors", token).await.problem(403);
    }
    with_token(&app, "/admin/actors", "crown").await.ok();
    assert_eq!(app.database().rows().await, 2);
}

#[tokio::test]
async fn beyond_loopback_the_admin_calls_are_closed_without_a_token() {
    let app = TestApp::builder(Engine::Postgres)
        .await
        .bind_everywhere()
        .start()
        .await;
    app.get("/admin/actors").await.problem(403);
    app.stats().await;
}

#[tokio::test]
async fn tokens_come_from_files_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let app = TestApp::builder(Engine::Sqlite)
        .await
        .set("ADMIN_TOKEN_FILE", file("admin", "boss\n"))
        .set(
            "API_TOKENS_FILE",
            file("api", "# of 2026\nplain\n\nreader:read:eyes\n"),
        )
        .start()
        .await;
    app.get("/events").await.problem(401);
    with_token(&app, "/events", "plain").await.ok();
    with_token(&app, "/events", "eyes").await.ok();
    let publish = app.request(Method::POST, "/publish").bearer_auth("eyes");
    let body = event("t", "e").to_string();
    Answer::of(publish.body(body)).await.problem(403);
    with_token(&app, "/admin/actors", "boss").await.ok();
}
