//! Subscribers that never read: they cost little, hold up nobody, and are ended.

use super::{ANSWER_MAX, SMALL, Scale, assert_memory_is_bounded, assert_recovers, gauge};
use crate::support::{Engine, Subscriber, TestApp, event, eventually};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
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
    let client = app.client();
    let mut live = Subscriber::open(&client, "").await;
    let opened = Instant::now();
    let mut openers = JoinSet::new();
    for _ in 0..scale.stuck {
        openers.spawn(never_reading(app.address(), start.to_owned()));
    }
    // Each has its answer: it is subscribed.
    let stuck = openers.join_all().await;
    let all = f64::from(u32::try_from(scale.stuck + 1).unwrap());
    let there = subscribers(&app).await;
    assert!((there - all).abs() < 0.5, "{there} instead of {all}");

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
    let over = Instant::now();
    // Who reads is still there.
    app.publish(&event("overload", "afterwards")).await.ok();
    let arrived = timeout(ANSWER_MAX, live.next_ids(1)).await;
    assert_eq!(arrived.expect("it arrives"), ["afterwards"]);
    drop(stuck);
    let back = assert_recovers(&app, over).await;
    format!(
        "{} subscribers that never read: a publish takes {longest_publish:.1?} at most and is with a reader after \
        {longest_arrival:.1?} at most; ended after {ended:.0?}, and as before {back:.2?} \
        later; memory {memory} MiB",
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
    gauge(app, "oncelog_stream_subscribers").await
}

/// Asks for all that there is, sees that it comes, and leaves it there.
async fn never_reading(address: SocketAddr, cursor: String) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!("GET /events/stream?cursor={cursor} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut beginning = [0; 12];
    stream.read_exact(&mut beginning).await.unwrap();
    assert_eq!(&beginning, b"HTTP/1.1 200");
    stream
}
