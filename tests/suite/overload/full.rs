//! All of it at full size, on a release build: `scripts/overload.sh`.

use super::{Scale, bombs, burst, idle, open_loop, pause, slow, stuck};
use crate::support::Engine;
use std::time::Duration;

const FULL: Scale = Scale {
    publishers: 2_000,
    idle: 10_000,
    slow: 1_000,
    stuck: 200,
    bombs: 200,
    pause: Duration::from_secs(30),
    clients: 256,
    is_impatient: false,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes, on a release build: scripts/overload.sh"]
async fn at_full_size() {
    show(&slow::run(FULL).await);
    show(&idle::run(FULL).await);
    show(&burst::run(FULL).await);
    show(&pause::run(FULL).await);
    show(&stuck::run(FULL).await);
    show(&bombs::run(FULL, Engine::Postgres).await);
    show(&bombs::run(FULL, Engine::Sqlite).await);
    let (lines, failures) = open_loop::run_at_full_size().await;
    lines.iter().for_each(|line| show(line));
    assert_eq!(failures, Vec::<String>::new());
}

fn show(line: &str) {
    eprintln!("- {line}");
}
