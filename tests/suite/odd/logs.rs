//! What odd requests, and odd entries of the broker's stream, leave in the log: nothing that a terminal
//! obeys, and no line that the service has not written.

use super::{
    exchange::Exchange,
    request::{Request, get, post, publish, quoted, with_text},
};
use crate::support::{Engine, TestApp, TestBroker, eventually};
use serde_json::Value;
use std::{fs, time::Duration};

const WITHIN: Duration = Duration::from_secs(10);

/// Clears the screen, sets the title, ends a string; with control characters of one byte and of two.
const HOSTILE: &str = "a\u{1b}[2J\u{1b}]0;b\u{7}\u{9b}31m\u{7f}\u{8}\u{85}\" ' } \u{202e} \\";
/// What would be lines of the service's own, in either format, if a line could be ended.
const FORGED: &str = "\r\n2026-01-31T12:00:00.000000Z  INFO oncelog::forged: all is well\r\n\
    {\"timestamp\":\"2026-01-31T12:00:00Z\",\"level\":\"INFO\",\"target\":\"oncelog::forged\"}\n";
/// The newer ones of Unicode, which JSON need not escape.
const ENDS_OF_LINES: &str = "\u{2028}\u{2029}\u{b}\u{c}";

fn hostile() -> String {
    format!("{HOSTILE}{FORGED}{ENDS_OF_LINES}")
}

/// Fields of entries that are no events, each hostile in another place.
fn entries() -> Vec<(String, Vec<u8>)> {
    let hostile = hostile();
    let event = |body: String| ("event".to_owned(), body.into_bytes());
    vec![
        event(hostile.clone()),
        event(quoted(&hostile)),
        event(format!("{{{}:1}}", quoted(&hostile))),
        event(format!("{{\"events\":[{hostile}]}}")),
        event(with_text("topic", &hostile)),
        event(with_text("timestamp", &hostile)),
        event(with_text("payload", &hostile)),
        event(format!("{{\"topic\":\"{hostile}\"}}")),
        ("event".to_owned(), b"\xff\x1b[2J\n\x9b".to_vec()),
        (hostile.clone(), hostile.into_bytes()),
    ]
}

fn requests() -> Vec<Request> {
    let hostile = hostile();
    let encoded: String = hostile.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let raw = |bytes: &[u8]| Request::raw([bytes, b"\r\n\r\n"].concat());
    let mut requests = vec![
        get(format!("/{encoded}")),
        get(format!("/events?topic={encoded}&limit={encoded}")),
        get(format!("/events?cursor={encoded}")),
        get(format!("/events/{encoded}/{encoded}")),
        Request::new("POST", format!("/admin/actors/{encoded}/crash")),
        Request::new("DELETE", format!("/dead-letters/{encoded}")),
        post(
            "/admin/actors/stats/crash",
            "application/json",
            format!("{{\"mode\":{}}}", quoted(&hostile)),
        ),
        publish(hostile.clone()),
        publish(with_text("topic", &hostile)),
        publish(with_text("timestamp", &hostile)),
        raw(format!("GET /{HOSTILE} HTTP/1.1\r\nHost: a").as_bytes()),
        raw(format!("{HOSTILE} / HTTP/1.1\r\nHost: a").as_bytes()),
        raw(format!("GET / HTTP/{HOSTILE}\r\nHost: a").as_bytes()),
        raw(format!("GET / HTTP/1.1\r\nHost: a\r\n{HOSTILE}: b").as_bytes()),
        raw(format!("GET / HTTP/1.1\r\nHost: {HOSTILE}").as_bytes()),
    ];
    // What a header may hold: any byte above ASCII, and of it all but control characters.
    for name in [
        "Host",
        "User-Agent",
        "Referer",
        "X-Forwarded-For",
        "X-Request-Id",
        "traceparent",
        "Authorization",
        "Prefer",
        "Last-Event-ID",
        "Content-Type",
        "Content-Encoding",
        "Transfer-Encoding",
        "Expect",
        "ce-type",
        "ce-id",
    ] {
        for value in [
            &b"\"a\x9b31m\xc2\x9b' \\n\\u001b[2J\""[..],
            b"\x1b[2J",
            b"a\rb",
        ] {
            let request = publish("{}").header(name, value);
            requests.push(request.header("ce-specversion", "1.0"));
        }
    }
    requests
}

async fn add(broker: &TestBroker, entries: &[(String, Vec<u8>)]) {
    let client = redis::Client::open(broker.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for (name, value) in entries {
        let mut add = redis::cmd("XADD");
        add.arg(broker.stream()).arg("*").arg(name).arg(value);
        let _: String = add.query_async(&mut connection).await.unwrap();
    }
}

/// Fails where a terminal would do anything but show it, or where a line is no line of the service.
fn assert_is_tame(log: &str, is_json: bool) {
    for line in log.lines() {
        let control = line.chars().find(|char| char.is_control());
        assert_eq!(control, None, "{line:?}");
        if is_json {
            let line: Value = serde_json::from_str(line).expect(line);
            assert!(line["timestamp"].is_string() && line["level"].is_string());
            assert_ne!(line["target"], "oncelog::forged", "{line}");
        } else {
            let mut words = line.split_whitespace();
            let timestamp = words.next().unwrap_or_default();
            assert!(
                timestamp.ends_with('Z') && timestamp.starts_with("20"),
                "{line}"
            );
            let level = words.next().unwrap_or_default();
            assert!(
                ["ERROR", "WARN", "INFO", "DEBUG"].contains(&level),
                "{line}"
            );
            assert_ne!(words.next(), Some("oncelog::forged:"), "{line}");
        }
    }
}

#[tokio::test]
async fn nothing_odd_gets_into_the_log_as_it_is() {
    for format in ["text", "json"] {
        let directory = tempfile::tempdir().unwrap();
        let broker = TestBroker::create().await;
        let app = TestApp::builder(Engine::Sqlite)
            .await
            .broker(&broker)
            .set("LOG_FORMAT", format)
            .set("LOG_DIR", directory.path().display())
            .set("RUST_LOG", "debug")
            .start()
            .await;
        for request in requests() {
            let mut exchange = Exchange::open(app.address()).await;
            let _ = exchange.ask(&request).await;
        }
        let entries = entries();
        add(&broker, &entries).await;
        let kept = || app.log().matches("kept a dead letter").count();
        eventually("all are dead letters", WITHIN, async || {
            kept() >= entries.len()
        })
        .await;
        assert_is_tame(&app.log(), format == "json");
        assert_eq!(kept(), entries.len());
        let file = fs::read_dir(&directory).unwrap().next().unwrap().unwrap();
        assert_is_tame(&fs::read_to_string(file.path()).unwrap(), true);
    }
}
