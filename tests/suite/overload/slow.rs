//! Clients that send a byte at a time, and never the last one (slowloris): they are cut at the deadline, and
//! nobody else waits for them.

use super::{
    ANSWER_MAX, SMALL, Scale, assert_memory_is_bounded, assert_recovers, stored_by_load, wire,
};
use crate::support::{Engine, TestApp};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

/// Between two bytes.
const BYTE_PAUSE: Duration = Duration::from_millis(100);

/// Where a client begins to be slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// In the head of its first request.
    Head,
    /// In the head of a later one.
    LaterHead,
    /// In a body.
    Body,
}

impl Part {
    fn beginning(self) -> &'static [u8] {
        match self {
            Self::Head => b"POST /publish HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            Self::LaterHead => b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            Self::Body => b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_a_byte_at_a_time_is_cut_and_nobody_waits_for_them() {
    run(SMALL).await;
}

pub(super) async fn run(scale: Scale) -> String {
    let mut builder = TestApp::builder(Engine::Postgres).await;
    if scale.is_impatient {
        builder = builder.set("BODY_TIMEOUT_MS", 1_500);
    }
    let app = builder.start().await;
    let mut slow = JoinSet::new();
    for part in [Part::Head, Part::LaterHead, Part::Body] {
        for _ in 0..scale.slow {
            slow.spawn(until_cut(app.address(), part));
        }
    }
    let mut longest_publish = Duration::ZERO;
    let mut connection = wire::Connection::open(app.address()).await.unwrap();
    let mut published = 0;
    let mut cut = Vec::new();
    while !slow.is_empty() {
        let started = Instant::now();
        let request = wire::publish(&format!("e-{published}"));
        assert!(connection.ask(&request).await.unwrap().is_stored());
        published += 1;
        longest_publish = longest_publish.max(started.elapsed());
        tokio::time::sleep(BYTE_PAUSE).await;
        while let Some(one) = slow.try_join_next() {
            cut.push(one.unwrap());
        }
    }
    let back = assert_recovers(&app, Instant::now()).await;
    // Alone it takes milliseconds; the two cores have the slow ones to run as well.
    assert!(longest_publish < ANSWER_MAX / 2, "{longest_publish:?}");
    assert_eq!(stored_by_load(app.database()).await, published);
    let longest = |wanted: Part| {
        let times = cut.iter().filter(|(part, _)| *part == wanted);
        times.map(|(_, took)| *took).max().unwrap()
    };
    let memory = assert_memory_is_bounded(&app);
    format!(
        "{} connections that send a byte at a time: cut after {:.1?} in a first head, {:.1?} in a later one and \
        {:.1?} in a body; other publishes took {longest_publish:.1?} at most; as before after \
        {back:.2?}; memory {memory} MiB",
        3 * scale.slow,
        longest(Part::Head),
        longest(Part::LaterHead),
        longest(Part::Body),
    )
}

/// Sends the beginning of a request and then a byte at a time; gives how long it was let.
async fn until_cut(address: SocketAddr, part: Part) -> (Part, Duration) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    if part == Part::LaterHead {
        stream.write_all(wire::LIVEZ).await.unwrap();
        let mut first = Vec::new();
        while !first.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut first).await.unwrap(), 0);
        }
    }
    let started = Instant::now();
    stream.write_all(part.beginning()).await.unwrap();
    let mut answer = Vec::new();
    loop {
        match timeout(BYTE_PAUSE, stream.read_buf(&mut answer)).await {
            // What was sent and not read makes the end a reset.
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(_)) => continue,
            Err(_) => {}
        }
        assert!(started.elapsed() < ANSWER_MAX, "{part:?} is not cut");
        if stream.write_all(b"a").await.is_err() {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
        "{part:?}: {answer}"
    );
    (part, started.elapsed())
}
