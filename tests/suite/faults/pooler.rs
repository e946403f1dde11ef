//! Everything goes through pgbouncer in its transaction mode, where no session is anybody's: two
//! replicas, repeats, actors that crash, server connections that are ended, a pooler that dies.

use super::{Allowance, actors::crash_one, assert_the_accounts_agree, load::Load, seed};
use crate::support::{
    Client, Database, Pgbouncer, PostgresServer, Subscriber, TestApp, TestAppBuilder, event,
    eventually,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinHandle, time::timeout};

const CLIENTS: u64 = 12;
const SOON: Duration = Duration::from_secs(30);

fn behind(pooler: &Pgbouncer, server: &PostgresServer) -> TestAppBuilder {
    TestApp::on(Arc::new(Database::at(server.url("postgres"))))
        .set("DATABASE_URL", pooler.url("postgres"))
        .set("DATABASE_POOLER", "transaction")
        .set("DATABASE_STATEMENT_TIMEOUT_MS", 1_000)
        .set("DATABASE_CONNECT_TIMEOUT_MS", 500)
}

async fn app_behind(pooler: &Pgbouncer, server: &PostgresServer) -> TestApp {
    behind(pooler, server).start().await
}

/// Ends one of the pooler's connections to the server, whatever it is at; a busy one where there is one.
async fn end_one(server: &PostgresServer) {
    let mut connection = PgConnection::connect(&server.url("postgres"))
        .await
        .unwrap();
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where backend_type = 'client backend' and pid <> pg_backend_pid() \
         order by state = 'idle', random() limit 1",
    )
    .execute(&mut connection)
    .await
    .unwrap();
}

#[tokio::test]
async fn a_pooler_whose_connections_die_costs_nothing_that_was_answered() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let server = PostgresServer::start().await;
    let mut pooler = Pgbouncer::start(&server).await;
    // At the same time: their migrations wait for each other.
    let (app, other) = tokio::join!(app_behind(&pooler, &server), app_behind(&pooler, &server));
    let urls = [&app, &other].map(|app| format!("http://{}", app.address()));
    let load = Load::start(seed, CLIENTS, urls.into());
    load.answers(50).await;
    for round in 0..24 {
        match random.random_range(0..10) {
            0..4 => end_one(&server).await,
            4..8 => drop(crash_one(&app, &mut random).await),
            _ => drop(crash_one(&other, &mut random).await),
        }
        if round % 12 == 6 {
            pooler.kill().await;
            pooler.start_again().await;
        }
        load.answers(10).await;
    }
    let ledger = load.finish().await;
    assert_the_accounts_agree(&app, &ledger, Allowance::default()).await;
    other.assert_counters_are_exact().await;
}

#[tokio::test]
async fn reading_and_following_go_through_a_pooler() {
    let server = PostgresServer::start().await;
    let pooler = Pgbouncer::start(&server).await;
    let app = app_behind(&pooler, &server).await;
    let other = app_behind(&pooler, &server).await;
    // On the other replica, which hears nothing and has to poll.
    let mut subscriber = Subscriber::open(&other, "topic=t").await;
    for id in ["1", "2", "1"] {
        app.publish(&event("t", id)).await.ok();
    }
    let ids = timeout(SOON, subscriber.next_ids(2)).await.unwrap();
    assert_eq!(ids, ["1", "2"]);
    assert_eq!(app.events("order=asc").await.len(), 2);
    assert_eq!(other.events("topic=t").await.len(), 2);
    assert_eq!(app.get("/events/t/2").await.status, 200);
    assert_eq!(app.get("/topics").await.ok()["count"], 1);
    assert_eq!(app.get("/dead-letters").await.ok()["count"], 0);
    let health = app.get("/health").await.ok();
    assert_eq!(health["database_role"], "primary");
    assert_eq!(app.stats().await["duplicate_dropped_count"], 1);
    app.assert_counters_are_exact().await;
}

const OLD: i64 = 400;
/// So many that a run takes long enough to be disturbed.
const BATCH: i64 = 20;
const UNTIL_EXPIRED: Duration = Duration::from_secs(90);

fn old_events(topic: &str) -> Vec<Value> {
    (0..OLD)
        .map(|number| event(topic, &number.to_string()))
        .collect()
}

/// Publishes single events of a topic of its own until it is told to stop, each until it is answered; gives
/// their number.
fn publish_until(
    client: Client,
    topic: &'static str,
    is_over: &Arc<AtomicBool>,
) -> JoinHandle<i64> {
    let is_over = Arc::clone(is_over);
    tokio::spawn(async move {
        let mut stored = 0;
        while !is_over.load(Ordering::Relaxed) {
            let sent = event(topic, &stored.to_string());
            let answered = async { while client.publish(&sent).await.status != 200 {} };
            timeout(SOON, answered).await.unwrap();
            stored += 1;
        }
        stored
    })
}

/// Two replicas are at it at the same time, because no session of theirs can hold the lock; the connections
/// of both are ended meanwhile, and both publish.
#[tokio::test]
async fn retention_goes_through_a_pooler_and_stays_exact() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let server = PostgresServer::start().await;
    let pooler = Pgbouncer::start(&server).await;
    let start = || {
        behind(&pooler, &server)
            .set("RETENTION", "dropped=1d,deleted=1d:delete")
            .set("DEAD_LETTER_RETENTION", "1d")
            .set("RETENTION_INTERVAL_MS", 100)
            .set("RETENTION_BATCH", BATCH)
            .start()
    };
    let (app, other) = tokio::join!(start(), start());
    let database = app.database();
    for topic in ["dropped", "deleted"] {
        app.batch(&old_events(topic)).await.ok();
        // The other one remembers them, too.
        let again = other.batch(&old_events(topic)).await.ok();
        assert_eq!(again["duplicates"], OLD);
    }
    for letter in [
        "insert into dead_letters (origin, reason, entry, is_truncated) \
         select 'a/' || n, 'by hand', '', false from generate_series(1, 50) as n",
        "insert into system_stats (slot, dead_letter_count) values (0, 50) \
         on conflict (slot) do update set dead_letter_count = 50",
        "update dead_letters set received_at = received_at - interval '2 days'",
    ] {
        database.execute(letter).await;
    }
    database.age_two_days().await;

    let is_over = Arc::new(AtomicBool::new(false));
    let publishers = [(&app, "here"), (&other, "there")]
        .map(|(app, topic)| publish_until(app.client(), topic, &is_over));
    let expired = async || {
        let retention = app.stats().await["retention"].clone();
        ["payloads_dropped", "events_deleted", "dead_letters_deleted"]
            .map(|what| retention[format!("{what}_count")].as_i64().unwrap())
    };
    let mut ended = 0;
    eventually("all of it has expired", UNTIL_EXPIRED, async || {
        if ended < 8 && random.random_bool(0.5) {
            end_one(&server).await;
            ended += 1;
        }
        // Where none of the connections is left, nobody can say.
        app.get("/stats").await.status == 200 && expired().await == [OLD, OLD, 50]
    })
    .await;
    is_over.store(true, Ordering::Relaxed);
    let mut published = 0;
    for publisher in publishers {
        published += publisher.await.unwrap();
    }

    let row_count = OLD + published;
    assert_eq!(database.rows().await, row_count, "seed {seed}");
    let stats = other.stats().await;
    assert_eq!(stats["unique_processed_count"], 2 * OLD + published);
    assert_eq!(stats["dead_letter_count"], 0);
    for (app, [dropped, deleted]) in [(&app, [0, OLD]), (&other, [0, 0])] {
        let again = app.batch(&old_events("dropped")).await.ok();
        assert_eq!(
            (&again["stored"], &again["conflicts"]),
            (&json!(dropped), &json!(0)),
            "seed {seed}"
        );
        let mut others = old_events("dropped");
        for other in &mut others {
            other["payload"] = json!({ "another": 1 });
        }
        assert_eq!(app.batch(&others).await.ok()["conflicts"], OLD);
        let anew = app.batch(&old_events("deleted")).await.ok();
        assert_eq!(anew["stored"], deleted, "seed {seed}");
    }
    assert_eq!(database.rows().await, row_count + OLD);
    let stats = app.stats().await;
    assert_eq!(stats["unique_processed_count"], 3 * OLD + published);
    assert_eq!(expired().await, [OLD, OLD, 50]);
}
