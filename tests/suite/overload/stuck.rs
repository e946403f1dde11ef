//! Subscribers that never read: they cost little, hold up nobody, and are ended.

use super::{ANSWER_MAX, SMALL, Scale, assert_memory_is_bounded};
use crate::support::{Engine, Exposition, Subscriber, TestApp, event, eventually};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// What the kernel keeps of a stream for a client that does not read. Little, so that it is full soon.
const RECEIVE_BUFFER_BYTES: u32 = 64 << 10;
/// Events that are there before the subscribers come: more than any buffer takes.
const BATCHES: usize = 20;
const BATCH_EVENTS: usize = 100;
const EVENT_BYTES: usize = 4 << 10;
/// Events that are published while they do not read.
const MEANWHILE: usize = 50;
/// Beyond the service's own deadline: the kernel looks at growing intervals.
const ENDED_MAX: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_that_never_read_hold_up_nobody_and_are_ended() {
    run(SMALL).await;
}

pub(super) async fn run(scale: Scale) -> String {
    let mut builder = TestApp::builder(Engine::Postgres).await;
    if scale.is_impatient {
        builder = builder.set("SEND_TIMEOUT_MS", 5_000);
    }
    let app = builder.start().await;
    let start = app.get("/events?order=asc").await.ok()["next_cursor"].clone();
    let start = start.as_str().unwrap();
    for batch in 0..BATCHES {
        app.batch(&large_events(batch)).await.ok();
    }
    let mut stuck = Vec::new();
    for _ in 0..scale.stuck {
        stuck.push(never_reading(&app, start).await);
    }
    let client = app.client();
    let mut live = Subscriber::open(&client, "").await;
    let most = f64::from(u32::try_from(scale.stuck).unwrap());
    eventually("they are subscribed", ENDED_MAX, async || {
        subscribers(&app).await > most / 2.0
    })
    .await;
    let opened = Instant::now();

    let mut longest_publish = Duration::ZERO;
    let mut longest_arrival = Duration::ZERO;
    for number in 0..MEANWHILE {
        let id = format!("meanwhile-{number}");
        let sent = Instant::now();
        app.publish(&event("overload", &id)).await.ok();
        longest_publish = longest_publish.max(sent.elapsed());
        let arrived = timeout(ANSWER_MAX, live.next_ids(1)).await;
        assert_eq!(arrived.expect("it arrives"), [id]);
        longest_arrival = longest_arrival.max(sent.elapsed());
    }
    let memory = assert_memory_is_bounded(&app);
    eventually("only who reads is left", ENDED_MAX, async || {
        subscribers(&app).await <= 1.0
    })
    .await;
    let ended = opened.elapsed();
    // Who reads is still there.
    app.publish(&event("overload", "afterwards")).await.ok();
    let arrived = timeout(ANSWER_MAX, live.next_ids(1)).await;
    assert_eq!(arrived.expect("it arrives"), ["afterwards"]);
    drop(stuck);
    format!(
        "{} subscribers that never read: a publish takes {longest_publish:.1?} at most and is with a reader after \
        {longest_arrival:.1?} at most; ended after {ended:.0?}; memory {memory} MiB",
        scale.stuck
    )
}

fn large_events(batch: usize) -> Vec<Value> {
    (0..BATCH_EVENTS)
        .map(|number| {
            let mut event = event("overload", &format!("{batch}-{number}"));
            event["payload"] = json!({ "text": "x".repeat(EVENT_BYTES) });
            event
        })
        .collect()
}

async fn subscribers(app: &TestApp) -> f64 {
    let metrics = app.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    Exposition::parse(&metrics.text).value("oncelog_stream_subscribers", &[])
}

/// Asks for all that there is, and leaves it there.
async fn never_reading(app: &TestApp, cursor: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
    let mut stream = socket.connect(app.address()).await.unwrap();
    let request = format!("GET /events/stream?cursor={cursor} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}
