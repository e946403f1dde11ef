//! Redis and those who read it fail. Events come through the stream, as producers append them.

use super::{
    Allowance,
    actors::crash_one,
    assert_the_accounts_agree,
    ledger::{Answer, Key, Ledger},
    load::Load,
    seed,
};
use crate::support::{Database, Engine, PostgresServer, RedisServer, TestApp, event, eventually};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use redis::aio::MultiplexedConnection;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinHandle, time::sleep};

const STREAM: &str = "oncelog:events";
const SOON: Duration = Duration::from_secs(20);

/// A producer that appends to the stream until it is stopped.
pub(super) struct Producer {
    pub(super) ledger: Arc<Ledger>,
    appended: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Producer {
    pub(super) fn start(seed: u64, url: String) -> Self {
        let ledger = Arc::new(Ledger::default());
        let (appended, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let task = tokio::spawn(produce(
            seed,
            url,
            Arc::clone(&ledger),
            Arc::clone(&appended),
            Arc::clone(&stop),
        ));
        Self {
            ledger,
            appended,
            stop,
            task,
        }
    }

    /// Waits until so many more entries have been acknowledged by Redis.
    pub(super) async fn entries(&self, more: u64) {
        let goal = self.appended.load(Ordering::Relaxed) + more;
        eventually(
            "the producer goes on",
            Duration::from_secs(60),
            async || self.appended.load(Ordering::Relaxed) >= goal,
        )
        .await;
    }

    pub(super) async fn finish(self) -> Arc<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the producer panicked");
        self.ledger
    }
}

async fn produce(
    seed: u64,
    url: String,
    ledger: Arc<Ledger>,
    appended: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut connection = None;
    let mut sent: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        let keys: Vec<Key> = (0..random.random_range(1..50))
            .map(|_| {
                if sent == 0 || random.random_bool(0.7) {
                    sent += 1;
                }
                Key {
                    topic: format!("stream-{}", sent % 5),
                    event_id: format!("{seed}-{sent}"),
                }
            })
            .collect();
        while !append(&url, &mut connection, &ledger, &keys).await {
            sleep(Duration::from_millis(20)).await;
        }
        appended.fetch_add(keys.len() as u64, Ordering::Relaxed);
        // Some hundred entries a second: the faults are the point, not the load.
        sleep(Duration::from_millis(10)).await;
    }
}

async fn append(
    url: &str,
    connection: &mut Option<MultiplexedConnection>,
    ledger: &Ledger,
    keys: &[Key],
) -> bool {
    if connection.is_none() {
        let client = redis::Client::open(url).unwrap();
        *connection = client.get_multiplexed_async_connection().await.ok();
    }
    let Some(open) = connection else {
        return false;
    };
    let mut pipeline = redis::pipe();
    for key in keys {
        let entry = pipeline.cmd("XADD").arg(STREAM).arg("*");
        entry.arg("event").arg(key.event().to_string()).ignore();
    }
    ledger.attempt(keys);
    let result = pipeline.query_async::<()>(open).await;
    if result.is_err() {
        *connection = None;
        return false;
    }
    ledger.answer(keys, Answer::Queued);
    true
}

/// Runs a command in Redis.
async fn redis_does(url: &str, command: &[&str]) {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut call = redis::cmd(command[0]);
    call.arg(&command[1..]);
    let _: redis::Value = call.query_async(&mut connection).await.unwrap();
}

async fn append_one(redis: &RedisServer) {
    let text = event("t", "1").to_string();
    redis_does(&redis.url(), &["XADD", STREAM, "*", "event", &text]).await;
}

async fn app_that_reads(redis: &RedisServer) -> TestApp {
    let builder = TestApp::builder(Engine::Postgres).await;
    builder.set("REDIS_URL", redis.url()).start().await
}

async fn connected(app: &TestApp) {
    eventually("the bridge is back", Duration::from_secs(5), async || {
        let actors = app.actors().await;
        let bridge = actors.iter().find(|actor| actor["name"] == "redis-bridge");
        bridge.unwrap()["connected"] == true
    })
    .await;
}

/// What a redelivery may add: everything that was ever sent.
fn redelivered(ledger: &Ledger) -> Allowance {
    Allowance {
        redelivered_max: ledger.sums().attempts,
        ..Allowance::default()
    }
}

#[tokio::test]
async fn a_broker_may_die_hang_and_lose_its_group_and_nothing_acknowledged_is_lost() {
    let seed = seed();
    let mut redis = RedisServer::start().await;
    let app = app_that_reads(&redis).await;
    let producer = Producer::start(seed, redis.url());
    for _ in 0..2 {
        producer.entries(200).await;
        redis.kill().await;
        eventually("health says so", SOON, async || {
            app.get("/health").await.json()["redis"] == "disconnected"
        })
        .await;
        redis.start_again().await;
        connected(&app).await;

        producer.entries(200).await;
        redis.pause();
        eventually("health says so", SOON, async || {
            app.get("/health").await.json()["status"] == "degraded"
        })
        .await;
        redis.resume();
        connected(&app).await;

        producer.entries(200).await;
        redis_does(&redis.url(), &["XGROUP", "DESTROY", STREAM, "oncelog"]).await;
        producer.entries(200).await;
    }
    let ledger = producer.finish().await;
    let allowance = redelivered(&ledger);
    assert_the_accounts_agree(&app, &ledger, allowance).await;
}

#[tokio::test]
async fn after_a_flush_the_stream_is_read_again_by_itself() {
    let seed = seed();
    let redis = RedisServer::start().await;
    let app = app_that_reads(&redis).await;
    let before = Producer::start(seed, redis.url());
    before.entries(300).await;
    let before = before.finish().await;
    redis_does(&redis.url(), &["FLUSHALL"]).await;
    let after = Producer::start(seed + 1, redis.url());
    after.entries(300).await;
    let after = after.finish().await;
    eventually("what came after is stored", SOON, async || {
        let rows = super::rows(app.database().url()).await;
        let of_after = rows.keys().filter(|key| after.knows(key)).count();
        of_after as u64 == after.sums().keys
    })
    .await;
    // What the flush has destroyed is gone, and nothing else is wrong.
    let rows = super::rows(app.database().url()).await;
    assert!(rows.keys().all(|key| before.knows(key) || after.knows(key)));
    app.assert_counters_are_exact().await;
}

#[tokio::test]
async fn actors_may_crash_while_the_stream_is_read() {
    let seed = seed();
    let redis = RedisServer::start().await;
    let app = app_that_reads(&redis).await;
    let producer = Producer::start(seed, redis.url());
    let mut random = StdRng::seed_from_u64(seed);
    let mut crashes = 0;
    while crashes < 20 {
        crashes += u64::from(crash_one(&app, &mut random).await);
        sleep(Duration::from_millis(150)).await;
    }
    producer.entries(100).await;
    let ledger = producer.finish().await;
    assert!(super::restarts(&app).await >= crashes / 2);
    let allowance = redelivered(&ledger);
    assert_the_accounts_agree(&app, &ledger, allowance).await;
}

#[tokio::test]
async fn a_dead_replicas_entries_are_taken_over() {
    let redis = RedisServer::start().await;
    let database = Arc::new(Database::create(Engine::Postgres).await);
    let replica = |name: &str| {
        TestApp::on(Arc::clone(&database))
            .set("REDIS_URL", redis.url())
            .set("BROKER_CONSUMER", name)
            .set("BROKER_TAKEOVER_MS", 1_000)
            .start()
    };
    let (mut dying, staying) = (replica("dying").await, replica("staying").await);
    let producer = Producer::start(seed(), redis.url());
    producer.entries(300).await;
    dying.kill9().await;
    producer.entries(300).await;
    let ledger = producer.finish().await;
    let allowance = redelivered(&ledger);
    assert_the_accounts_agree(&staying, &ledger, allowance).await;
}

#[tokio::test]
async fn without_its_database_the_service_queues_and_stores_later() {
    let redis = RedisServer::start().await;
    let mut postgres = PostgresServer::start().await;
    let app = TestApp::on(Arc::new(Database::at(postgres.url("postgres"))))
        .set("REDIS_URL", redis.url())
        .start()
        .await;
    let load = Load::start(seed(), 8, vec![format!("http://{}", app.address())]);
    load.answers(50).await;
    postgres.kill().await;
    eventually("publishes are queued", Duration::from_secs(5), async || {
        load.ledger.sums().queued > 0
    })
    .await;
    let errors = load.ledger.sums().errors;
    load.answers(50).await;
    assert_eq!(load.ledger.sums().errors, errors, "queueing has gaps");
    postgres.start_again().await;
    load.answers(50).await;
    let ledger = load.finish().await;
    let allowance = redelivered(&ledger);
    assert_the_accounts_agree(&app, &ledger, allowance).await;
}

async fn health_says(app: &TestApp, redis: &str) {
    eventually("health says so of Redis", SOON, async || {
        let health = app.get("/health").await.json();
        let status = match redis {
            "connected" => "healthy",
            _ => "degraded",
        };
        health["redis"] == redis && health["status"] == status
    })
    .await;
}

/// Redis lets the bridge in and refuses what it is about: that is no connection, and no reason to store the
/// same again and again.
#[tokio::test]
async fn a_bridge_that_may_not_acknowledge_is_not_connected_and_repeats_little() {
    let redis = RedisServer::start().await;
    let app = app_that_reads(&redis).await;
    connected(&app).await;
    health_says(&app, "connected").await;
    redis_does(&redis.url(), &["ACL", "SETUSER", "default", "-xack"]).await;
    append_one(&redis).await;

    health_says(&app, "disconnected").await;
    let stats = app.stats().await;
    assert_eq!(stats["unique_processed_count"], 1);
    // After pauses that double up to a second.
    assert!(stats["received_count"].as_u64().unwrap() < 15, "{stats}");
    assert_eq!(app.log().matches("lost the broker").count(), 1);

    redis_does(&redis.url(), &["ACL", "SETUSER", "default", "+xack"]).await;
    health_says(&app, "connected").await;
    connected(&app).await;
    app.assert_counters_are_exact().await;
}

#[tokio::test]
async fn a_key_that_is_no_stream_is_named_and_its_place_taken_when_it_is_gone() {
    let redis = RedisServer::start().await;
    let app = app_that_reads(&redis).await;
    connected(&app).await;
    redis_does(&redis.url(), &["DEL", STREAM]).await;
    redis_does(&redis.url(), &["SET", STREAM, "no stream"]).await;
    health_says(&app, "disconnected").await;
    assert!(app.log().contains("WRONGTYPE"), "{}", app.log());

    redis_does(&redis.url(), &["DEL", STREAM]).await;
    health_says(&app, "connected").await;
    append_one(&redis).await;
    eventually("the bridge reads again", SOON, async || {
        app.stats().await["unique_processed_count"] == 1
    })
    .await;
}

#[tokio::test]
async fn an_entry_with_two_events_is_a_dead_letter() {
    let redis = RedisServer::start().await;
    let app = app_that_reads(&redis).await;
    let (first, second) = (event("t", "1").to_string(), event("t", "2").to_string());
    let entry = ["XADD", STREAM, "*", "event", &first, "event", &second];
    redis_does(&redis.url(), &entry).await;
    eventually("it is a dead letter", SOON, async || {
        app.stats().await["dead_letter_count"] == 1
    })
    .await;
    assert_eq!(app.stats().await["unique_processed_count"], 0);
}
