//! A Postgres that stands still, with its connections open, under a load that goes on.

use super::{
    ANSWER_MAX, RECOVERY_MAX, SMALL, Scale, assert_memory_is_bounded, assert_recovers, stored_ids,
    wire,
};
use crate::support::{Client, Database, PostgresServer, TestApp, event, eventually};
use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::sleep};
use wire::Connection;

/// Before what was refused is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// For a load to get under way.
const SOON: Duration = Duration::from_secs(30);

/// What a reader asks for meanwhile, and whether it cannot be had without the database.
const READS: [(&str, bool); 7] = [
    ("/events", true),
    ("/events/overload/none", true),
    ("/topics", true),
    ("/stats", true),
    ("/health", true),
    ("/readyz", true),
    ("/metrics", false),
];

/// What the clients have seen so far.
#[derive(Default)]
struct Seen {
    stored: AtomicU64,
    refused: AtomicU64,
    longest_ms: AtomicU64,
    is_over: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_stands_still_costs_503_in_time_and_nothing_that_was_answered() {
    run(SMALL).await;
}

pub(super) async fn run(scale: Scale) -> String {
    let server = PostgresServer::start().await;
    let mut builder = TestApp::on(Arc::new(Database::at(server.url("postgres"))));
    if scale.is_impatient {
        builder = builder
            .set("PUBLISH_TIMEOUT_MS", 1_500)
            .set("DATABASE_STATEMENT_TIMEOUT_MS", 1_000)
            .set("DATABASE_CONNECT_TIMEOUT_MS", 500);
    }
    let app = builder.start().await;
    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    for number in 0..scale.clients {
        clients.spawn(publish_until_over(app.address(), number, Arc::clone(&seen)));
    }
    eventually("the load runs", SOON, async || {
        seen.stored.load(Ordering::SeqCst) > 100
    })
    .await;

    let pause = server.pause();
    let mut readers = JoinSet::new();
    for (path, needs_database) in READS {
        let until = Instant::now() + scale.pause;
        readers.spawn(read_meanwhile(app.client(), path, needs_database, until));
    }
    sleep(scale.pause).await;
    let meanwhile = app.publish(&event("overload", "meanwhile")).await;
    meanwhile.problem(503);
    assert!(!meanwhile.header("retry-after").is_empty());
    let refused = seen.refused.load(Ordering::SeqCst);
    assert!(refused > 0, "nobody was refused");
    let longest_read = readers.join_all().await.into_iter().max().unwrap();
    drop(pause);

    let resumed = Instant::now();
    let before = seen.stored.load(Ordering::SeqCst);
    // Several for each of the clients, so not one of those that waited.
    let several = 3 * u64::try_from(scale.clients).unwrap();
    eventually("publishes are stored again", RECOVERY_MAX, async || {
        seen.stored.load(Ordering::SeqCst) > before + several
    })
    .await;
    let back = resumed.elapsed();
    seen.is_over.store(true, Ordering::SeqCst);
    let answered: HashSet<String> = clients.join_all().await.into_iter().flatten().collect();
    assert_recovers(&app, resumed).await;
    for (path, _) in READS {
        let status = app.get(path).await.status;
        assert!(matches!(status, 200 | 404), "{path}: {status}");
    }
    let longest = Duration::from_millis(seen.longest_ms.load(Ordering::SeqCst));
    assert!(longest < ANSWER_MAX, "{longest:?}");

    let there = stored_ids(app.database().url()).await;
    let missing = answered.difference(&there).count();
    assert_eq!(missing, 0, "answered with 200, and not there");
    // Each was sent until it was stored; of the one that was refused above, nobody knows.
    let others: Vec<&String> = there.difference(&answered).collect();
    assert!(others.iter().all(|id| *id == "meanwhile"), "{others:?}");
    app.assert_counters_are_exact().await;
    let memory = assert_memory_is_bounded(&app);
    format!(
        "Postgres stands still for {:?}, {} clients: {refused} times 503, the longest answer {longest:.1?}, of a read \
        {longest_read:.1?}; stored again after {back:.2?}; all {} that were answered with 200 are \
        there; memory {memory} MiB",
        scale.pause,
        scale.clients,
        answered.len(),
    )
}

/// Reads again and again while Postgres stands still; gives the longest that an answer took.
async fn read_meanwhile(
    client: Client,
    path: &str,
    needs_database: bool,
    until: Instant,
) -> Duration {
    let mut longest = Duration::ZERO;
    while Instant::now() < until {
        let asked = Instant::now();
        let answer = client.get(path).await;
        longest = longest.max(asked.elapsed());
        if !needs_database && answer.status == 200 {
            continue;
        }
        // These two say in words of their own what is the matter.
        match path {
            "/health" | "/readyz" => assert_eq!(answer.status, 503, "{path}: {}", answer.text),
            _ => drop(answer.problem(503)),
        }
        assert!(!answer.header("retry-after").is_empty(), "{path}");
    }
    assert!(longest < ANSWER_MAX, "{path}: {longest:?}");
    longest
}

/// Publishes event after event, each until it is stored; gives their ids.
async fn publish_until_over(address: SocketAddr, client: usize, seen: Arc<Seen>) -> Vec<String> {
    let mut connection = Connection::open(address).await.unwrap();
    let mut stored = Vec::new();
    while !seen.is_over.load(Ordering::SeqCst) {
        let id = format!("{client}-{}", stored.len());
        let request = wire::publish(&id);
        loop {
            let sent = Instant::now();
            let answer = connection.ask(&request).await.unwrap();
            let took_ms = u64::try_from(sent.elapsed().as_millis()).unwrap();
            seen.longest_ms.fetch_max(took_ms, Ordering::SeqCst);
            if answer.is_stored() {
                break;
            }
            seen.refused.fetch_add(1, Ordering::SeqCst);
            sleep(RETRY_PAUSE).await;
        }
        seen.stored.fetch_add(1, Ordering::SeqCst);
        stored.push(id);
    }
    stored
}
