//! A Redis Cluster as the broker: streams on all of its masters, of which one is killed, and slots
//! that move while their streams are written and read.

use super::{
    Allowance, assert_the_accounts_agree,
    ledger::{Answer, Key, Ledger},
    seed,
};
use crate::support::{
    self, Client, ClusterPorts, Database, Engine, Exposition, PostgresServer, Process,
    RedisCluster, RedisServer, TestApp, TestAppBuilder, event, eventually, publisher,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};

/// Two on each master, with the first name and the further ones as docs/integrations/redis.md has them.
const STREAMS: usize = 6;
const SOON: Duration = Duration::from_secs(60);
const BATCH_EVENTS_MAX: u64 = 20;
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How long a producer waits for a replica to have what it has appended.
const WAIT_MS: u64 = 500;

fn streams() -> Vec<String> {
    let name = |number| match number {
        0 => "oncelog:events".to_owned(),
        number => format!("oncelog:events:{{{number}seg}}"),
    };
    (0..STREAMS).map(name).collect()
}

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

/// Producers that go on until they are told to stop: over HTTP, which answers 202, and directly.
#[derive(Default)]
struct Appends {
    book: Arc<Book>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Book {
    ledger: Ledger,
    over_http: AtomicU64,
    directly: AtomicU64,
    stop: AtomicBool,
}

impl Appends {
    fn start(seed: u64, cluster: &RedisCluster, apps: &[&TestApp]) -> Self {
        let mut appends = Self::default();
        for (number, app) in (0..).zip(apps) {
            let keys = Keys::new(seed + number, "http");
            let queueing = Arc::clone(&appends.book).queue(app.client(), keys);
            appends.tasks.spawn(queueing);
        }
        let keys = Keys::new(seed, "redis");
        let appending = Arc::clone(&appends.book).append(cluster.ports(), keys);
        appends.tasks.spawn(appending);
        appends
    }

    /// Waits until each way has taken so many more events.
    async fn events(&self, more: u64) {
        let counts = [&self.book.over_http, &self.book.directly];
        let goals = counts.map(|count| count.load(Ordering::Relaxed) + more);
        eventually("producers go on", SOON, async || {
            let now = counts.map(|count| count.load(Ordering::Relaxed));
            now.iter().zip(goals).all(|(now, goal)| *now >= goal)
        })
        .await;
    }

    /// Waits until so many more events have been answered 202.
    async fn queued(&self, more: u64) {
        let count = || self.book.over_http.load(Ordering::Relaxed);
        let goal = count() + more;
        eventually("publishes are queued", SOON, async || count() >= goal).await;
    }

    async fn finish(mut self) -> Arc<Book> {
        self.book.stop.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.expect("a producer panicked");
        }
        self.book
    }
}

impl Book {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn queue(self: Arc<Self>, client: Client, mut keys: Keys) {
        while !self.is_stopped() {
            let keys = keys.next();
            let events: Vec<Value> = keys.iter().map(Key::event).collect();
            let body = json!({ "events": events });
            let answer = loop {
                self.ledger.attempt(&keys);
                let request = client
                    .request(Method::POST, "/publish/batch")
                    .header("prefer", "respond-async");
                let answer = support::Answer::of(request.json(&body)).await;
                match answer.status {
                    202 => break Answer::Queued,
                    // The cluster took too long, and the database did not.
                    200 => break Answer::Committed,
                    503 => sleep(RETRY_PAUSE).await,
                    other => panic!("{other}: {}", answer.text),
                }
            };
            self.ledger.answer(&keys, answer);
            if answer == Answer::Queued {
                let events = keys.len() as u64;
                self.over_http.fetch_add(events, Ordering::Relaxed);
            }
            // Some hundred events a second: the faults are the point, not the load.
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn append(self: Arc<Self>, ports: ClusterPorts, mut keys: Keys) {
        let streams = streams();
        for stream in streams.iter().cycle() {
            if self.is_stopped() {
                return;
            }
            let keys = keys.next();
            loop {
                self.ledger.attempt(&keys);
                let (ports, stream, sent) = (ports.clone(), stream.clone(), keys.clone());
                // As a producer does that waits for a replica, on the connection that has written.
                let append = move || replicas(&ports, &stream, &sent);
                if tokio::task::spawn_blocking(append).await.unwrap() > 0 {
                    break;
                }
                if self.is_stopped() {
                    return;
                }
                sleep(RETRY_PAUSE).await;
            }
            self.ledger.answer(&keys, Answer::Queued);
            self.directly
                .fetch_add(keys.len() as u64, Ordering::Relaxed);
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Appends to one stream and says how many replicas have it, too.
fn replicas(ports: &ClusterPorts, stream: &str, keys: &[Key]) -> u64 {
    let Some(mut connection) = ports.connect(stream) else {
        return 0;
    };
    let mut entries = redis::pipe();
    for key in keys {
        let entry = entries.cmd("XADD").arg(stream).arg("*");
        entry.arg("event").arg(key.event().to_string()).ignore();
    }
    let appended = entries.query::<()>(&mut connection);
    let mut wait = redis::cmd("WAIT");
    let wait = wait.arg(1).arg(WAIT_MS);
    let counted = appended.and_then(|()| wait.query(&mut connection));
    counted.unwrap_or(0)
}

/// Keys of one producer, some of them again and again.
struct Keys {
    random: StdRng,
    name: String,
    sent: u64,
}

impl Keys {
    fn new(seed: u64, name: &str) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            name: format!("{name}-{seed}"),
            sent: 0,
        }
    }

    fn next(&mut self) -> Vec<Key> {
        let count = self.random.random_range(1..=BATCH_EVENTS_MAX);
        let keys = (0..count).map(|_| {
            if self.sent == 0 || self.random.random_bool(0.7) {
                self.sent += 1;
            }
            Key {
                topic: format!("topic-{}", self.sent % 5),
                event_id: format!("{}-{}", self.name, self.sent),
            }
        });
        keys.collect()
    }
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
    let mut moved = cluster.reshard(busy).await;
    appends.events(100).await;
    for app in [&one, &two] {
        connected(app).await;
    }
    // And with streams that nobody empties: what they hold is nowhere else.
    postgres.kill().await;
    appends.queued(200).await;
    let source = cluster.home(full).unwrap();
    assert!(cluster.length(source, full) > 0);
    moved += cluster.reshard(full).await;
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
