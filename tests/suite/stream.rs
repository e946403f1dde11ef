//! Following the log by Server-Sent Events: what one instance promises its subscribers.

use crate::support::{Engine, Subscriber, TestApp, event, eventually};
use serde_json::{Value, json};
use std::{fs, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

on_both_engines!(
    what_is_published_after_the_stream_is_open_comes,
    a_stream_says_how_to_come_back_and_that_it_lives,
    the_last_event_id_wins_over_the_cursor,
    a_cursor_holds_under_every_filter,
    a_subscriber_too_many_is_told_to_come_later,
    readers_that_do_not_read_hold_up_nobody_and_cost_little,
    a_shutdown_ends_streams_in_time,
);

/// Longer than an event takes, on a machine that has much to do.
const ARRIVAL_MAX: Duration = Duration::from_secs(20);

async fn arrived(subscriber: &mut Subscriber, count: usize) -> Vec<String> {
    timeout(ARRIVAL_MAX, subscriber.next_ids(count))
        .await
        .expect("the events arrive")
}

async fn what_is_published_after_the_stream_is_open_comes(engine: Engine) {
    let app = TestApp::start(engine).await;
    for number in 0..20 {
        let mut subscriber = Subscriber::open(&app, "").await;
        let mut published = event("t", &format!("e-{number}"));
        published["payload"] = json!({ "text": "zwei\nZeilen", "n": 1.0 });
        app.publish(&published).await.ok();
        let got = timeout(ARRIVAL_MAX, subscriber.next())
            .await
            .unwrap()
            .unwrap();
        for field in ["topic", "event_id", "source", "payload"] {
            assert_eq!(got[field], published[field]);
        }
        assert!(got["processed_at"].is_string());
    }
}

async fn a_stream_says_how_to_come_back_and_that_it_lives(engine: Engine) {
    let builder = TestApp::builder(engine).await;
    let app = builder.set("HEARTBEAT_MS", 100).start().await;
    // Opening it has read the hello, with retry and id.
    let mut subscriber = Subscriber::open(&app, "").await;
    let place = subscriber.last_event_id().to_owned();
    assert!(!place.is_empty());
    for _ in 0..3 {
        let block = timeout(ARRIVAL_MAX, subscriber.block()).await.unwrap();
        assert_eq!(block.as_deref(), Some(":"));
    }
    app.publish(&event("t", "e")).await.ok();
    drop(subscriber);
    let mut back = Subscriber::try_open(&app, "", Some(&place)).await.unwrap();
    assert_eq!(arrived(&mut back, 1).await, ["e"]);
}

async fn the_last_event_id_wins_over_the_cursor(engine: Engine) {
    let app = TestApp::start(engine).await;
    for number in 0..4 {
        app.publish(&event("t", &format!("e-{number}"))).await.ok();
    }
    let mut all = Subscriber::open(&app, "cursor=0-0").await;
    assert_eq!(arrived(&mut all, 2).await, ["e-0", "e-1"]);
    let place = all.last_event_id().to_owned();
    let mut both = Subscriber::try_open(&app, "cursor=0-0", Some(&place))
        .await
        .unwrap();
    assert_eq!(arrived(&mut both, 2).await, ["e-2", "e-3"]);
    let mut cursor = Subscriber::try_open(&app, &format!("cursor={place}"), Some(""))
        .await
        .unwrap();
    assert_eq!(arrived(&mut cursor, 2).await, ["e-2", "e-3"]);
    let refused = Subscriber::try_open(&app, "cursor=0-0", Some("x")).await;
    assert_eq!(refused.err().as_deref(), Some("400 Bad Request"));
}

async fn a_cursor_holds_under_every_filter(engine: Engine) {
    let app = TestApp::start(engine).await;
    let mut events: Vec<Value> = Vec::new();
    for number in 0..60 {
        let mut event = event(["a", "b c"][number % 2], &format!("e-{number}"));
        event["source"] = json!(["s", "t"][number / 2 % 2]);
        events.push(event);
    }
    app.batch(&events[..30]).await.ok();
    let mut some = Subscriber::open(&app, "topic=a&cursor=0-0").await;
    arrived(&mut some, 5).await;
    let place = some.last_event_id().to_owned();
    // The order within a batch is the server's; that of a page is the same.
    let page = app
        .events(&format!("order=asc&cursor={place}&limit=1000"))
        .await;
    let id = |event: &Value| event["event_id"].as_str().unwrap().to_owned();
    for (query, topic, source) in [
        ("", None, None),
        ("topic=b+c", Some("b c"), None),
        ("source=t", None, Some("t")),
        ("topic=a&source=t", Some("a"), Some("t")),
    ] {
        let matches = |event: &&Value| {
            topic.is_none_or(|topic| event["topic"] == topic)
                && source.is_none_or(|source| event["source"] == source)
        };
        let before: Vec<String> = page.iter().filter(matches).map(id).collect();
        let mut subscriber = Subscriber::try_open(&app, query, Some(&place))
            .await
            .unwrap();
        assert_eq!(
            arrived(&mut subscriber, before.len()).await,
            before,
            "{query}"
        );
    }
    let mut live = Subscriber::open(&app, "topic=b+c&source=t").await;
    let mut expected = Vec::new();
    for event in &events[30..] {
        app.publish(event).await.ok();
        if event["topic"] == "b c" && event["source"] == "t" {
            expected.push(id(event));
        }
    }
    assert_eq!(arrived(&mut live, expected.len()).await, expected);
}

async fn a_subscriber_too_many_is_told_to_come_later(engine: Engine) {
    let builder = TestApp::builder(engine).await;
    let app = builder
        .set("SUBSCRIBERS_MAX", 2)
        .set("HEARTBEAT_MS", 100)
        .start()
        .await;
    let first = Subscriber::open(&app, "").await;
    let _second = Subscriber::open(&app, "topic=t").await;
    let refused = app.get("/events/stream").await;
    assert_eq!(refused.problem(503)["retryable"], true);
    assert!(!refused.header("retry-after").is_empty());
    drop(first);
    eventually("a seat is free", ARRIVAL_MAX, async || {
        Subscriber::try_open(&app, "", None).await.is_ok()
    })
    .await;
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn readers_that_do_not_read_hold_up_nobody_and_cost_little(engine: Engine) {
    const READERS: usize = 20;
    const BATCHES: usize = 20;
    let app = TestApp::start(engine).await;
    let mut stalled = Vec::new();
    for _ in 0..READERS {
        let mut connection = TcpStream::connect(app.address()).await.unwrap();
        let request = b"GET /events/stream HTTP/1.1\r\nHost: x\r\n\r\n";
        connection.write_all(request).await.unwrap();
        stalled.push(connection);
    }
    let client = app.client();
    let mut quick = Subscriber::open(&client, "").await;
    let reading = tokio::spawn(async move { quick.next_ids(BATCHES * 1000).await });
    let mut before = 0;
    for batch in 0..BATCHES {
        let events: Vec<Value> = (0..1000)
            .map(|number| {
                let mut event = event("t", &format!("{batch}-{number}"));
                event["payload"] = json!({ "text": "x".repeat(1024) });
                event
            })
            .collect();
        app.batch(&events).await.ok();
        if batch == 1 {
            before = resident_kib(app.pid());
        }
    }
    let ids = timeout(Duration::from_secs(60), reading)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ids.len(), BATCHES * 1000);
    // Kept for each of them, it would be 400 MiB.
    let grown_mib = resident_kib(app.pid()).saturating_sub(before) / 1024;
    assert!(grown_mib < 120, "{grown_mib} MiB more");
    drop(stalled);
}

/// HTTP/1.0 has no chunks: what they begin with would stand among the events.
#[tokio::test]
async fn a_stream_in_http_1_0_comes_without_chunks() {
    let app = TestApp::start(Engine::Sqlite).await;
    for (path, beginning) in [
        ("/events/stream", "retry: "),
        ("/dashboard/stream", "event: "),
    ] {
        let mut connection = TcpStream::connect(app.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        let answer = loop {
            let read = timeout(ARRIVAL_MAX, connection.read_buf(&mut got));
            assert_ne!(read.await.unwrap().unwrap(), 0, "{path} stays open");
            let text = String::from_utf8_lossy(&got).into_owned();
            if text
                .split_once("\r\n\r\n")
                .is_some_and(|(_, body)| body.len() >= 8)
            {
                break text;
            }
        };
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
        assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
        assert!(body.starts_with(beginning), "{path}: {body}");
    }
}

async fn a_shutdown_ends_streams_in_time(engine: Engine) {
    let mut app = TestApp::start(engine).await;
    let client = app.client();
    let mut subscribers = Vec::new();
    for number in 0..20 {
        subscribers.push(Subscriber::open(&client, &format!("topic=t-{}", number % 3)).await);
    }
    let (status, took) = app.terminate().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
    for subscriber in &mut subscribers {
        let end = timeout(ARRIVAL_MAX, subscriber.next()).await;
        assert_eq!(end.expect("the stream ends"), None);
    }
}
