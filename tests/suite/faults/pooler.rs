//! Everything goes through pgbouncer in its transaction mode, where no session is anybody's: two
//! replicas, repeats, actors that crash, server connections that are ended, a pooler that dies.

use super::{Allowance, actors::crash_one, assert_the_accounts_agree, load::Load, seed};
use crate::support::{Database, Pgbouncer, PostgresServer, Subscriber, TestApp, event};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{Connection, PgConnection};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

const CLIENTS: u64 = 12;
const SOON: Duration = Duration::from_secs(30);

async fn app_behind(pooler: &Pgbouncer, server: &PostgresServer) -> TestApp {
    TestApp::on(Arc::new(Database::at(server.url("postgres"))))
        .set("DATABASE_URL", pooler.url("postgres"))
        .set("DATABASE_POOLER", "transaction")
        .set("DATABASE_STATEMENT_TIMEOUT_MS", 1_000)
        .set("DATABASE_CONNECT_TIMEOUT_MS", 500)
        .start()
        .await
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
