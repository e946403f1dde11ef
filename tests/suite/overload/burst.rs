//! Thousands of clients that publish at the same moment.

use super::{
    ANSWER_MAX, SMALL, Scale, assert_memory_is_bounded, assert_recovers, connections_allowed,
    stored_ids, wire,
};
use crate::support::{Engine, TestApp};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Barrier, task::JoinSet};
use wire::Connection;

/// Times that each of them publishes.
const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_who_publish_at_once_are_all_answered_in_time() {
    run(SMALL).await;
}

pub(super) async fn run(scale: Scale) -> String {
    let count = connections_allowed(scale.publishers, scale.is_full());
    let builder = TestApp::builder(Engine::Postgres).await;
    // Fewer than there are clients.
    let app = builder.set("INFLIGHT_EVENTS_MAX", 1_000).start().await;
    let mut clients = JoinSet::new();
    let start = Arc::new(Barrier::new(count));
    for number in 0..count {
        let (address, start) = (app.address(), Arc::clone(&start));
        clients.spawn(async move {
            let mut connection = Connection::open(address).await.unwrap();
            let mut answers = Vec::new();
            for round in 0..ROUNDS {
                let id = format!("{number}-{round}");
                let request = wire::publish(&id);
                start.wait().await;
                let sent = Instant::now();
                let answer = connection.ask(&request).await.unwrap();
                answers.push((id, answer.is_stored(), sent.elapsed()));
            }
            answers
        });
    }
    let mut stored = 0;
    let mut refused = 0;
    let mut longest = Duration::ZERO;
    let answers: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    let back = assert_recovers(&app, Instant::now()).await;
    let there = stored_ids(app.database().url()).await;
    for (id, is_stored, took) in answers {
        longest = longest.max(took);
        match is_stored {
            true => {
                assert!(there.contains(&id), "{id} is not there");
                stored += 1;
            }
            false => refused += 1,
        }
    }
    assert!(longest < ANSWER_MAX, "{longest:?}");
    assert!(stored > 0);
    app.assert_counters_are_exact().await;
    let memory = assert_memory_is_bounded(&app);
    format!(
        "{count} connections that publish at once, {ROUNDS} times, with room for 1,000: {stored} stored, {refused} \
        refused, the longest answer {longest:.1?}; as before after {back:.2?}; memory {memory} MiB"
    )
}
