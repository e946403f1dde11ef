//! The dashboard's side of the service: the page, its policy, and the stream of numbers. What the
//! page does with them is tested in a browser, by `scripts/test-browser.sh`.

use crate::support::{Answer, Engine, TestApp, event};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// The page is to be live within that time.
const LIVE_MAX: Duration = Duration::from_secs(3);

/// Own files and calls, no frame around the page, no markup made from text, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Reads the stream until an event of this name satisfies the condition.
async fn streamed(
    app: &TestApp,
    token: Option<&str>,
    name: &str,
    condition: impl Fn(&Value) -> bool,
) -> Value {
    let mut request = app.request(Method::GET, "/dashboard/stream");
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let mut response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let mut text = String::new();
    let read = async {
        loop {
            let found = text.split_inclusive("\n\n").find_map(|block| {
                let (line, data) = block.strip_suffix("\n\n")?.split_once('\n')?;
                let value = serde_json::from_str(data.strip_prefix("data: ")?).unwrap();
                (line == format!("event: {name}") && condition(&value)).then_some(value)
            });
            if let Some(value) = found {
                return value;
            }
            let chunk = response.chunk().await.unwrap().expect("an open stream");
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    let waited = tokio::time::timeout(LIVE_MAX, read).await;
    waited.unwrap_or_else(|_| panic!("no such {name} in time"))
}

#[tokio::test]
async fn every_file_of_the_page_has_its_type_and_a_policy_that_lets_nothing_else_in() {
    let app = TestApp::start(Engine::Postgres).await;
    let page = app.get("/").await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard/app.js", "text/javascript; charset=utf-8"),
        ("/dashboard/api.js", "text/javascript; charset=utf-8"),
        ("/dashboard/actors.js", "text/javascript; charset=utf-8"),
        ("/dashboard/chart.js", "text/javascript; charset=utf-8"),
        ("/dashboard/lists.js", "text/javascript; charset=utf-8"),
        ("/dashboard/stream.js", "text/javascript; charset=utf-8"),
        ("/dashboard/tail.js", "text/javascript; charset=utf-8"),
        ("/dashboard/text.js", "text/javascript; charset=utf-8"),
        ("/dashboard/style.css", "text/css; charset=utf-8"),
        ("/favicon.ico", "image/svg+xml"),
    ] {
        let file = app.get(path).await;
        assert_eq!(file.status, 200, "{path}");
        assert_eq!(file.header("content-type"), content_type, "{path}");
        assert_eq!(file.header("x-content-type-options"), "nosniff");
        assert_eq!(file.header("referrer-policy"), "no-referrer");
        assert_eq!(file.header("content-security-policy"), POLICY, "{path}");
        let is_foreign = |text: &str| text.contains("://") && !text.contains("www.w3.org/2000/svg");
        assert!(!file.text.lines().any(is_foreign), "{path} names a host");
    }
    assert!(!page.text.contains("style=") && !page.text.contains("<style"));
    for script in page.text.split("<script").skip(1) {
        assert!(script.trim_start().starts_with("type=\"module\" src=\"/"));
    }
}

#[tokio::test]
async fn a_file_that_has_not_changed_is_not_sent_again() {
    let app = TestApp::start(Engine::Postgres).await;
    let tag = app.get("/").await.header("etag").to_owned();
    let request = app.request(Method::GET, "/").header("if-none-match", tag);
    let again = Answer::of(request).await;
    assert_eq!((again.status, again.text.as_str()), (304, ""));
    let request = app.request(Method::GET, "/");
    let other = Answer::of(request.header("if-none-match", "\"other\"")).await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn head_has_the_headers_alone_and_other_methods_are_told_what_there_is() {
    let app = TestApp::start(Engine::Postgres).await;
    let head = Answer::of(app.request(Method::HEAD, "/")).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert!(!head.header("content-security-policy").is_empty());
    let post = app.post("/", "{}").await;
    post.problem(405);
    assert_eq!(post.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn frames_have_the_counts_of_stats_within_three_seconds() {
    let app = TestApp::start(Engine::Postgres).await;
    for _ in 0..2 {
        app.batch(&[event("t", "1"), event("t", "2")]).await.ok();
    }
    app.post("/publish", "{}").await.problem(422);
    let frame = streamed(&app, None, "frame", |frame| {
        frame["stats"]["received_count"] == 4 && frame["stats"]["rejected_count"] == 1
    })
    .await;
    let mut stats = app.stats().await;
    stats["uptime_seconds"] = frame["stats"]["uptime_seconds"].clone();
    assert_eq!(frame["stats"], stats);
    assert_eq!(frame["health"]["database"], "connected");
    assert_eq!(frame["health"]["redis"], "disabled");
    let frame = streamed(&app, None, "frame", |frame| {
        !frame["publish"]["p50_ms"].is_null()
    })
    .await;
    assert!(frame["publish"]["p99_ms"].as_f64() >= frame["publish"]["p50_ms"].as_f64());
}

#[tokio::test]
async fn a_new_viewer_is_shown_what_happened_before() {
    let app = TestApp::start(Engine::Postgres).await;
    let sum = |points: &Value| -> u64 {
        let points = points["points"].as_array().unwrap().iter();
        points.filter_map(|point| point[0].as_u64()).sum()
    };
    // The first reading is where the chart begins.
    streamed(&app, None, "frame", |frame| {
        frame["rates"]["newest"].as_u64() > Some(0)
    })
    .await;
    let events: Vec<_> = (0..500).map(|n| event("t", &n.to_string())).collect();
    app.batch(&events).await.ok();
    streamed(&app, None, "frame", |frame| sum(&frame["rates"]) > 0).await;
    let history = streamed(&app, None, "history", |_| true).await;
    // A rate is for a whole second, and seconds are not quite.
    assert!((300..700).contains(&sum(&history)), "{history}");
}

#[tokio::test]
async fn frames_show_an_actor_die_and_come_back() {
    let app = TestApp::start(Engine::Postgres).await;
    app.post("/admin/actors/stats/crash", "").await;
    let is_back = |actor: &Value| {
        actor["name"] == "stats" && actor["restarts"] == 1 && actor["state"] == "running"
    };
    let frame = streamed(&app, None, "frame", |frame| {
        frame["actors"].as_array().unwrap().iter().any(is_back)
    })
    .await;
    let actors = app.actors().await;
    let names = |actors: &[Value]| -> Vec<Value> {
        actors.iter().map(|actor| actor["name"].clone()).collect()
    };
    assert_eq!(names(frame["actors"].as_array().unwrap()), names(&actors));
}

#[tokio::test]
async fn watching_needs_a_token_that_reads_and_reasons_need_one_for_admin_calls() {
    let app = TestApp::builder(Engine::Postgres)
        .await
        .set("ADMIN_TOKEN", "boss")
        .set("API_TOKENS", "eyes,writer:publish:hand")
        .start()
        .await;
    assert_eq!(app.get("/").await.status, 200);
    for (token, status) in [(None, 401), (Some("wrong"), 401), (Some("hand"), 403)] {
        let mut request = app.request(Method::GET, "/dashboard/stream");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        Answer::of(request).await.problem(status);
    }
    let crash = app.request(Method::POST, "/admin/actors/ingest/crash");
    let answer = Answer::of(crash.bearer_auth("boss").json(&json!({}))).await;
    assert_eq!(answer.status, 202);
    for (token, may_know_why) in [("eyes", false), ("boss", true)] {
        let frame = streamed(&app, Some(token), "frame", |frame| {
            frame["actors"][0]["restarts"] == 1
        })
        .await;
        let reason = frame["actors"][0]["last_failure"]["reason"]
            .as_str()
            .unwrap();
        assert_eq!(!reason.is_empty(), may_know_why, "{token}: {reason}");
    }
}

#[tokio::test]
async fn an_admin_call_that_is_open_on_loopback_opens_no_numbers() {
    let app = TestApp::builder(Engine::Postgres)
        .await
        .set("API_TOKENS", "eyes")
        .start()
        .await;
    app.get("/admin/actors").await.ok();
    app.get("/dashboard/stream").await.problem(401);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_viewers() {
    let mut app = TestApp::start(Engine::Postgres).await;
    let mut viewer = app
        .request(Method::GET, "/dashboard/stream")
        .send()
        .await
        .unwrap();
    assert!(viewer.chunk().await.unwrap().is_some());
    let (status, took) = app.terminate().await;
    assert!(
        status.success() && took < LIVE_MAX,
        "{status} after {took:?}"
    );
}
