//! A Redis Cluster as the broker: streams on all of its masters, of which one is killed, and slots
//! that move while their streams are written and read.

use super::{
    Allowance,
    appends::{Appends, STREAMS, streams},
    assert_the_accounts_agree, seed,
};
use crate::support::{
    self, Client, Database, Engine, Exposition, PostgresServer, Process, RedisCluster, RedisServer,
    TestApp, TestAppBuilder, event, eventually, publisher,
};
use reqwest::Method;
use rustix::process::Signal;
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

const SOON: Duration = Duration::from_secs(60);

fn reader(cluster: &RedisCluster, database: &Arc<Database>, name: &str) -> TestAppBuilder {
    TestApp::on(Arc::clone(database))
        .set("REDIS_URL", cluster.urls())
        .set("BROKER_STREAMS", STREAMS)
        .set("BROKER_CONSUMER", name)
        .set("BROKER_TAKEOVER_MS", 2_000)
}

async fn connected(app: &TestApp) {
    eventually("all streams are read", SOON, async || {
        let actors = app.actors().await;
        let bridge = actors.iter().find(|actor| actor["name"] == "redis-bridge");
        bridge.unwrap()["connected"] == true
            && app.get("/health").await.json()["status"] == "healthy"
    })
    .await;
}

/// Stops the producers, and fails the test where anything that was acknowledged is not stored.
async fn assert_nothing_is_lost(app: &TestApp, appends: Appends) {
    let book = appends.finish().await;
    connected(app).await;
    // The queue of /stats is 0 as well where no stream has answered in time; this is left out then.
    eventually("all streams are empty", SOON, async || {
        let metrics = app.get("/metrics").await.text;
        metrics.contains("\noncelog_broker_waiting_entries 0\n")
    })
    .await;
    eprintln!("refused: {:?}", book.ledger.refusals());
    let allowance = Allowance {
        // The service tries up to four streams for one request, and each may have taken it.
        redelivered_max: 4 * book.ledger.sums().attempts,
        ..Allowance::default()
    };
    assert_the_accounts_agree(app, &book.ledger, allowance).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_on_all_masters_and_replicas_share_them() {
    let cluster = RedisCluster::start().await;
    let database = Arc::new(Database::create(Engine::Postgres).await);
    let one = reader(&cluster, &database, "one").start().await;
    let two = reader(&cluster, &database, "two").start().await;
    for app in [&one, &two] {
        connected(app).await;
    }
    let homes: HashSet<usize> = streams()
        .iter()
        .map(|stream| cluster.home(stream).unwrap())
        .collect();
    assert_eq!(homes, cluster.masters().into_iter().collect());

    let appends = Appends::start(seed(), &cluster, &[&one, &two]);
    appends.events(300).await;
    for app in [&one, &two] {
        eventually("both store", SOON, async || stored(app).await > 0.0).await;
        let crash = app.post("/admin/actors/redis-bridge/crash", "{}").await;
        assert_eq!(crash.status, 202, "{}", crash.text);
        appends.events(100).await;
    }
    assert_nothing_is_lost(&one, appends).await;

    let mut command = publisher();
    command
        .args([
            "--url",
            &format!("http://{}", one.address()),
            "--events",
            "1000",
        ])
        .args(["--transport", "redis", "--redis-url", &cluster.urls()])
        .args(["--streams", &STREAMS.to_string(), "--verify"]);
    let mut run = Process::spawn(command, None, Signal::KILL);
    let (status, _) = run.wait(SOON).await;
    assert_eq!(status.code(), Some(0), "{}{}", run.stdout(), run.stderr());
}

/// Whether the entries of all streams are known.
async fn are_counted(app: &TestApp) -> bool {
    let metrics = app.get("/metrics").await.text;
    metrics.contains("\noncelog_broker_waiting_entries ")
}

async fn stored(app: &TestApp) -> f64 {
    let page = app.get("/metrics").await;
    Exposition::parse(&page.text).value("oncelog_events_stored_total", &[])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_takes_nothing_with_it_that_was_acknowledged() {
    let mut cluster = RedisCluster::start().await;
    let mut postgres = PostgresServer::start().await;
    let database = Arc::new(Database::at(postgres.url("postgres")));
    let app = reader(&cluster, &database, "one").start().await;
    connected(&app).await;
    let appends = Appends::start(seed(), &cluster, &[&app]);
    appends.events(100).await;
    // What is acknowledged from here on is nowhere but in the cluster.
    postgres.kill().await;

    let stream = &streams()[1];
    let killed = cluster.home(stream).unwrap();
    let replica = cluster.replica_of(killed);
    // Its master takes entries that nobody else has, and that nobody is told of as durable.
    cluster.kill(replica).await;
    let length = cluster.length(killed, stream);
    eventually("the master has more than its replica", SOON, async || {
        cluster.length(killed, stream) > length + 20
    })
    .await;
    cluster.kill(killed).await;
    // The streams of other masters take what this one cannot.
    appends.queued(100).await;
    cluster.missed(killed).await;
    cluster.start_again(replica);
    eventually("a replica serves the stream", SOON, async || {
        cluster.home(stream).is_some()
    })
    .await;
    eventually("all streams are there", SOON, async || {
        are_counted(&app).await
    })
    .await;
    cluster.start_again(killed);
    cluster.settled().await;
    postgres.start_again().await;
    appends.events(100).await;
    assert_nothing_is_lost(&app, appends).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_is_followed_by_its_replica_under_two_aggregators() {
    let mut cluster = RedisCluster::start().await;
    let database = Arc::new(Database::create(Engine::Postgres).await);
    let one = reader(&cluster, &database, "one").start().await;
    let two = reader(&cluster, &database, "two").start().await;
    for app in [&one, &two] {
        connected(app).await;
    }
    let appends = Appends::start(seed(), &cluster, &[&one, &two]);
    appends.events(100).await;
    let stream = &streams()[0];
    let master = cluster.home(stream).unwrap();
    let before = appends.counts();
    let killed = Instant::now();
    cluster.kill(master).await;
    eventually("its replica serves the stream", SOON, async || {
        cluster.home(stream).is_some()
    })
    .await;
    let served = killed.elapsed();
    for app in [&one, &two] {
        eventually("all streams are there", SOON, async || {
            are_counted(app).await
        })
        .await;
    }
    let read = killed.elapsed();
    let [queued, appended] = appends.counts();
    eprintln!(
        "the stream is served after {served:?}, read by both after {read:?}; meanwhile {} events \
         answered 202, {} appended directly",
        queued - before[0],
        appended - before[1]
    );
    // Its streams have no replica now: others take what is queued.
    appends.queued(100).await;
    cluster.start_again(master);
    cluster.settled().await;
    appends.events(100).await;
    for app in [&one, &two] {
        connected(app).await;
    }
    assert_nothing_is_lost(&one, appends).await;
    one.assert_counters_are_exact().await;
    two.assert_counters_are_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_takes_its_stream_along() {
    let cluster = RedisCluster::start().await;
    let database = Arc::new(Database::create(Engine::Postgres).await);
    let app = reader(&cluster, &database, "one").start().await;
    connected(&app).await;
    let appends = Appends::start(seed(), &cluster, &[&app]);
    appends.events(100).await;
    for stream in &streams()[..2] {
        cluster.move_slot(stream, appends.queued(50)).await;
        appends.events(100).await;
        connected(&app).await;
    }
    assert_nothing_is_lost(&app, appends).await;
}

/// Reshards, and fails where nothing was acknowledged meanwhile, either way.
async fn reshard(cluster: &RedisCluster, key: &str, appends: &Appends) -> usize {
    let (before, start) = (appends.counts(), Instant::now());
    let moved = cluster.reshard(key).await;
    let [queued, appended] = appends.counts();
    let [queued, appended] = [queued - before[0], appended - before[1]];
    eprintln!(
        "{moved} slots in {:?}: {queued} events answered 202 meanwhile, {appended} appended directly; \
         refused so far: {:?}",
        start.elapsed(),
        appends.refusals()
    );
    assert!(queued > 0 && appended > 0, "nothing while slots moved");
    moved
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_in_use_are_resharded_by_the_program_for_it() {
    let cluster = RedisCluster::start().await;
    let mut postgres = PostgresServer::start().await;
    let database = Arc::new(Database::at(postgres.url("postgres")));
    let one = reader(&cluster, &database, "one").start().await;
    let two = reader(&cluster, &database, "two").start().await;
    for app in [&one, &two] {
        connected(app).await;
    }
    let appends = Appends::start(seed(), &cluster, &[&one, &two]);
    appends.events(100).await;
    let [busy, full] = [&streams()[0], &streams()[1]];
    let mut moved = reshard(&cluster, busy, &appends).await;
    appends.events(100).await;
    for app in [&one, &two] {
        connected(app).await;
    }
    // No publish has ended with an error so far, as docs/operations.md says.
    assert_eq!(appends.refusals(), BTreeMap::new());
    // And with streams that nobody empties: what they hold is nowhere else.
    postgres.kill().await;
    appends.queued(200).await;
    let source = cluster.home(full).unwrap();
    assert!(cluster.length(source, full) > 0);
    moved += reshard(&cluster, full, &appends).await;
    appends.queued(100).await;
    postgres.start_again().await;
    appends.events(100).await;
    assert_nothing_is_lost(&one, appends).await;
    eprintln!("{moved} slots moved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_hangs_is_left_for_its_successor() {
    let cluster = RedisCluster::start().await;
    let database = Arc::new(Database::create(Engine::Postgres).await);
    let app = reader(&cluster, &database, "one").start().await;
    connected(&app).await;
    let appends = Appends::start(seed(), &cluster, &[&app]);
    appends.events(100).await;
    let master = cluster.home(&streams()[0]).unwrap();
    let replica = cluster.replica_of(master);
    cluster.pause(master);
    appends.queued(100).await;
    eventually("its replica takes its place", SOON, async || {
        cluster.is_master(replica)
    })
    .await;
    eventually("all streams are there", SOON, async || {
        are_counted(&app).await
    })
    .await;
    // It takes what waits in its connections for a master that it no longer is.
    cluster.resume(master);
    cluster.settled().await;
    appends.events(100).await;
    assert_nothing_is_lost(&app, appends).await;
}

#[tokio::test]
async fn on_one_redis_several_streams_are_read_and_replicas_are_waited_for() {
    let redis = RedisServer::start().await;
    let builder = TestApp::builder(Engine::Sqlite).await;
    let builder = builder.set("REDIS_URL", redis.url());
    let mut app = builder.set("BROKER_STREAMS", 3).start().await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for stream in &streams()[..3] {
        let mut entry = redis::cmd("XADD");
        let entry = entry.arg(stream).arg("*").arg("event");
        let entry = entry.arg(event("t", stream).to_string());
        entry.query_async::<()>(&mut connection).await.unwrap();
    }
    for number in 0..3 {
        assert_eq!(queue(&app, &format!("e-{number}")).await.status, 202);
    }
    eventually("all are stored", SOON, async || {
        app.stats().await["unique_processed_count"] == 6
    })
    .await;

    // A Redis without replicas cannot give what is asked for here: the database has to.
    app.terminate().await;
    let builder = TestApp::on(Arc::clone(app.database()));
    let builder = builder.set("REDIS_URL", redis.url());
    let app = builder.set("BROKER_REPLICAS_ACK", 1).start().await;
    let answer = queue(&app, "e-3").await;
    assert_eq!(answer.ok()["status"], "accepted");
    assert_eq!(answer.header("preference-applied"), "");
}

async fn queue(client: &Client, event_id: &str) -> support::Answer {
    let request = client.request(Method::POST, "/publish");
    let request = request.header("prefer", "respond-async");
    support::Answer::of(request.json(&event("t", event_id))).await
}
