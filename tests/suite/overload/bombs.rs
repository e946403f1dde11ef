//! Compressed bodies that are much larger than they look, many at a time, beside others who publish.

use super::{
    ANSWER_MAX, SMALL, Scale, assert_memory_is_bounded, assert_recovers, stored_by_load, wire,
};
use crate::support::{Answer, Client, Engine, TestApp, brotli_bomb, gzip, zstd};
use reqwest::Method;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use wire::Connection;

/// What each of them would be.
const BOMB_BYTES: usize = 64 << 20;
/// Room for two decoders and the bodies that wait, beside what a server holds anyway.
const RESIDENT_MIB_MAX: u64 = 150;
/// Who publishes meanwhile.
const PUBLISHERS: usize = 4;
/// At least so many publishes are stored while the bombs come, each quicker than half of what is allowed.
const STORED_MIN: i64 = 20;

mod bombs_are_413_in_time_and_cost_little_and_others_go_on_publishing {
    use super::{Engine, SMALL, run};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        run(SMALL, Engine::Postgres).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sqlite() {
        run(SMALL, Engine::Sqlite).await;
    }
}

pub(super) async fn run(scale: Scale, engine: Engine) -> String {
    let mut builder = TestApp::builder(engine).await;
    if !scale.is_full() {
        // On a busy machine a turn may be long in coming, and who waits longer is refused for now.
        builder = builder.set("BODY_TIMEOUT_MS", 9_000);
    }
    let app = builder.start().await;
    let blanks = vec![b' '; BOMB_BYTES];
    let bombs = [
        ("gzip", gzip(&blanks)),
        ("zstd", zstd(&blanks)),
        ("br", brotli_bomb()),
    ];
    let is_over = Arc::new(AtomicBool::new(false));
    let mut publishers = JoinSet::new();
    for number in 0..PUBLISHERS {
        let is_over = Arc::clone(&is_over);
        publishers.spawn(publish_until_over(app.address(), number, is_over));
    }
    let started = Instant::now();
    let mut senders = JoinSet::new();
    for (name, bomb) in bombs.into_iter().cycle().take(scale.bombs) {
        senders.spawn(answered(app.client(), name, bomb));
    }
    let answers = senders.join_all().await;
    let during = started.elapsed();
    let before_last = stored_by_load(app.database()).await;
    is_over.store(true, Ordering::SeqCst);
    let published = publishers.join_all().await;
    let back = assert_recovers(&app, Instant::now()).await;

    let longest = answers.iter().map(|(_, took)| *took).max().unwrap();
    assert!(longest < ANSWER_MAX, "{longest:?}");
    let refused = answers.iter().filter(|(status, _)| *status == 503).count();
    assert!(refused == 0 || scale.is_full(), "{refused} had no turn");
    assert!(refused < scale.bombs, "nobody had a turn");
    let longest_publish = published.iter().map(|(_, longest)| *longest).max().unwrap();
    assert!(longest_publish < ANSWER_MAX / 2, "{longest_publish:?}");
    assert!(before_last >= STORED_MIN, "{before_last} stored meanwhile");
    let stored: i64 = published.iter().map(|(stored, _)| stored).sum();
    assert_eq!(stored_by_load(app.database()).await, stored);
    app.assert_counters_are_exact().await;
    let memory = assert_memory_is_bounded(&app);
    assert!(memory < RESIDENT_MIB_MAX, "{memory} MiB");
    format!(
        "{} bodies that would be {} MiB each, on {engine:?}: each answered within {longest:.1?}, {refused} of them \
        503, the others 413, all after {during:.1?}; {before_last} publishes were stored meanwhile, in \
        {longest_publish:.1?} at most; as before after {back:.2?}; memory {memory} MiB",
        scale.bombs,
        BOMB_BYTES >> 20,
    )
}

/// Its status and how long it took: that it is too large, or that no decoder was free in time.
async fn answered(client: Client, encoding: &'static str, bomb: Vec<u8>) -> (u16, Duration) {
    let request = client.request(Method::POST, "/publish/batch");
    let request = request.header("content-encoding", encoding).body(bomb);
    let sent = Instant::now();
    let answer = Answer::of(request).await;
    let took = sent.elapsed();
    if answer.status == 503 {
        answer.problem(503);
        assert!(!answer.header("retry-after").is_empty());
    } else {
        answer.problem(413);
    }
    (answer.status, took)
}

/// Publishes event after event; gives how many were stored, which is all, and the longest that one took.
async fn publish_until_over(
    address: SocketAddr,
    publisher: usize,
    is_over: Arc<AtomicBool>,
) -> (i64, Duration) {
    let mut connection = Connection::open(address).await.unwrap();
    let (mut stored, mut longest) = (0, Duration::ZERO);
    while !is_over.load(Ordering::SeqCst) {
        let request = wire::publish(&format!("{publisher}-{stored}"));
        let sent = Instant::now();
        assert!(connection.ask(&request).await.unwrap().is_stored());
        longest = longest.max(sent.elapsed());
        stored += 1;
    }
    (stored, longest)
}
