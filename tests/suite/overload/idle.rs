//! Connections that are kept and not used, and more of them than there may be.

use super::{
    ANSWER_MAX, RECOVERY_MAX, SMALL, Scale, USUAL_MAX, USUAL_PUBLISHES, assert_memory_is_bounded,
    assert_recovers, connections_allowed, wire,
};
use crate::support::{
    Client, Engine, Process, Subscriber, TestApp, event, eventually, free_port, oncelog,
};
use rustix::process::Signal;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use wire::Connection;

const START_MAX: Duration = Duration::from_secs(20);
/// Connections that are opened at a time: fewer than may wait to be accepted.
const OPENERS: usize = 64;
/// After which a request that could be answered would have been.
const A_WHILE: Duration = Duration::from_millis(500);

fn open_files(app: &TestApp) -> usize {
    fs::read_dir(format!("/proc/{}/fd", app.pid()))
        .unwrap()
        .count()
}

/// So many connections, each of which has had an answer.
async fn open(address: SocketAddr, count: usize) -> Vec<Connection> {
    let mut openers = JoinSet::new();
    for opener in 0..OPENERS {
        let share = count / OPENERS + usize::from(opener < count % OPENERS);
        openers.spawn(async move {
            let mut opened = Vec::new();
            for _ in 0..share {
                let mut connection = Connection::open(address).await.unwrap();
                let answer = connection.ask(wire::LIVEZ).await.unwrap();
                assert_eq!(answer.status, 200);
                opened.push(connection);
            }
            opened
        });
    }
    openers.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_cost_little_and_hold_up_nobody() {
    run(SMALL).await;
}

pub(super) async fn run(scale: Scale) -> String {
    let count = connections_allowed(scale.idle, scale.is_full());
    let builder = TestApp::builder(Engine::Postgres).await;
    let app = builder.set("CONNECTIONS_MAX", count + 100).start().await;
    let idle = open(app.address(), count).await;
    let mut longest = Duration::ZERO;
    for number in 0..USUAL_PUBLISHES {
        let sent = Instant::now();
        let event = event("overload", &number.to_string());
        app.publish(&event).await.ok();
        longest = longest.max(sent.elapsed());
    }
    // It costs them nothing that others are connected.
    assert!(longest < USUAL_MAX, "{longest:?}");
    let memory = assert_memory_is_bounded(&app);
    drop(idle);
    let left = Instant::now();
    eventually("they are gone", RECOVERY_MAX, async || {
        open_files(&app) < count / 2
    })
    .await;
    let back = assert_recovers(&app, left).await;
    format!(
        "{count} idle connections: publishes take {longest:.1?} at most; as before {back:.2?} after they left; \
        memory {memory} MiB"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_closed_when_nobody_asks_for_long_enough_and_not_while_it_is_used() {
    const KEEP_ALIVE: Duration = Duration::from_secs(2);
    let builder = TestApp::builder(Engine::Sqlite).await;
    let app = builder.set("KEEP_ALIVE_MS", 2_000).start().await;
    // Nothing comes of it for longer than that, and it is no idle one.
    let mut stream = Subscriber::open(&app, "").await;
    let mut used = Connection::open(app.address()).await.unwrap();
    let mut idle = open(app.address(), 3).await;
    let unused = Instant::now();
    let using = tokio::spawn(async move {
        let mut answers = 0;
        while unused.elapsed() < 3 * KEEP_ALIVE {
            let answer = used.ask(wire::LIVEZ).await.expect("an open connection");
            assert!(answer.status == 200 && !answer.is_last, "{answer:?}");
            answers += 1;
            sleep(KEEP_ALIVE / 8).await;
        }
        answers
    });
    for connection in &mut idle {
        let closed = timeout(ANSWER_MAX / 2, connection.closed()).await;
        closed.expect("it is closed").unwrap();
        // The service's clock for it has half seconds.
        assert!(unused.elapsed() > KEEP_ALIVE / 2, "{:?}", unused.elapsed());
    }
    assert!(using.await.unwrap() > 3);
    app.publish(&event("t", "late")).await.ok();
    let arrived = timeout(ANSWER_MAX, stream.next_ids(1)).await;
    assert_eq!(arrived.expect("it arrives"), ["late"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_most_wait_until_others_leave() {
    const MOST: usize = 64;
    let builder = TestApp::builder(Engine::Sqlite).await.wait_for("/livez");
    let builder = builder.set("HTTP_WORKERS", 1);
    let app = builder.set("CONNECTIONS_MAX", MOST).start().await;
    // The one of the client that has waited for its start is counted, too.
    let mut taken = open(app.address(), MOST - 1).await;
    let mut waiting: Vec<Connection> = Vec::new();
    for _ in 0..10 {
        waiting.push(Connection::open(app.address()).await.unwrap());
    }
    let request = wire::publish("who-waits");
    let early = timeout(A_WHILE, waiting[0].ask(&request)).await;
    assert!(early.is_err(), "{early:?}");
    // Those that are in are served as ever.
    let answer = taken[0].ask(&wire::publish("who-is-in")).await.unwrap();
    assert!(answer.is_stored());
    taken.truncate(MOST / 2);
    for (number, connection) in waiting.iter_mut().enumerate().skip(1) {
        let request = wire::publish(&format!("waited-{number}"));
        let answer = timeout(RECOVERY_MAX, connection.ask(&request)).await;
        assert!(answer.expect("an answer").unwrap().is_stored());
    }
    eventually("all are stored", RECOVERY_MAX, async || {
        app.database().rows().await == 11
    })
    .await;
}

/// The files that connections take are not to be had by the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_low_limit_of_open_files_is_said_and_costs_connections_and_not_the_database() {
    const FILES: u64 = 400;
    let directory = tempfile::tempdir().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -Sn 100; ulimit -Hn \"$1\"; exec \"$0\""])
        .arg(oncelog().get_program())
        .arg(FILES.to_string())
        .env("BIND", address.to_string())
        .env(
            "DATABASE_URL",
            format!("sqlite://{}/events.db", directory.path().display()),
        )
        .env("HTTP_WORKERS", "1");
    let service = Process::spawn(limited, None, Signal::KILL);
    let client = Client::new(address);
    eventually("ready", START_MAX, async || {
        client.status("/readyz").await == Some(200)
    })
    .await;
    let log = service.stdout();
    assert!(
        log.contains("CONNECTIONS_MAX") && log.contains("limit=400"),
        "{log}"
    );

    // More than files; each asks before the next one comes, until one has to wait.
    let mut opened = Vec::new();
    loop {
        let mut connection = Connection::open(address).await.unwrap();
        // A busy machine is no reason to take it for one that waits.
        match timeout(ANSWER_MAX / 2, connection.ask(wire::LIVEZ)).await {
            Ok(answer) => assert_eq!(answer.unwrap().status, 200),
            Err(_) => break,
        }
        opened.push(connection);
        assert!(opened.len() < 400, "more connections than files");
    }
    assert!(opened.len() > 100, "{} connections", opened.len());
    let answer = opened[0].ask(&wire::publish("meanwhile")).await.unwrap();
    assert!(answer.is_stored());
    assert_eq!(client.status("/readyz").await, Some(200));
    assert!(
        !service.stdout().contains("open files (os error"),
        "{}",
        service.stdout()
    );
}
