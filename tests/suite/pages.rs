//! What browsers are told about answers: of pages what they may load and who may frame them, of all
//! answers that their type is not to be guessed. The dashboard's own are in `dashboard`.

use crate::support::{Answer, Engine, TestApp, event};
use reqwest::Method;

/// A style of its own, no script, no frame around it.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

#[tokio::test]
async fn the_description_needs_no_token_runs_no_script_and_is_in_no_frame() {
    let app = TestApp::builder(Engine::Sqlite)
        .await
        .set("API_TOKENS", "plain")
        .start()
        .await;
    for (path, content_type) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/style.css", "text/css; charset=utf-8"),
        ("/openapi.json", "application/json"),
    ] {
        let file = app.get(path).await;
        assert_eq!(file.status, 200, "{path}");
        assert_eq!(file.header("content-type"), content_type, "{path}");
        assert_eq!(file.header("content-security-policy"), POLICY, "{path}");
        assert_eq!(file.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(file.header("referrer-policy"), "no-referrer", "{path}");
    }
    let page = app.get("/docs").await.text;
    for forbidden in ["<script", "style=", "<style", "src=", "onclick"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    app.get("/events").await.problem(401);
}

#[tokio::test]
async fn no_answer_lets_a_browser_guess_its_type() {
    let app = TestApp::builder(Engine::Sqlite)
        .await
        .set("ADMIN_TOKEN", "boss")
        .start()
        .await;
    let tag = app.get("/").await.header("etag").to_owned();
    let ask = |method: Method, path: &str| app.request(method, path);
    let body = || event("t", "<script>").to_string();
    let large = vec![b' '; (8 << 20) + 1];
    for (status, request) in [
        (200, ask(Method::POST, "/publish").body(body())),
        (200, ask(Method::GET, "/events?topic=t")),
        (200, ask(Method::GET, "/events/t/%3Cscript%3E")),
        (200, ask(Method::HEAD, "/topics")),
        (200, ask(Method::GET, "/stats")),
        (200, ask(Method::GET, "/metrics")),
        (200, ask(Method::GET, "/livez")),
        (200, ask(Method::GET, "/dead-letters")),
        (304, ask(Method::GET, "/").header("if-none-match", tag)),
        (400, ask(Method::GET, "/events?limit=%3Cscript%3E")),
        (401, ask(Method::GET, "/admin/actors")),
        (404, ask(Method::GET, "/%3Cscript%3E")),
        (405, ask(Method::DELETE, "/stats")),
        (413, ask(Method::POST, "/publish").body(large)),
        (
            415,
            ask(Method::POST, "/publish")
                .header("content-type", "text/html")
                .body(body()),
        ),
        (422, ask(Method::POST, "/publish").body("<script>")),
    ] {
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(
            answer.header("x-content-type-options"),
            "nosniff",
            "{status}"
        );
    }
    let stream = ask(Method::GET, "/events/stream").send().await.unwrap();
    assert_eq!(stream.headers()["x-content-type-options"], "nosniff");
}
