//! Several replicas behind nginx, with the configuration that is deployed: they are restarted one after
//! the other, killed, added and taken away, and a client that sends again what was not answered knows
//! nothing of it.

use super::{
    clients::{Clients, takes_part},
    seed,
};
use crate::support::{
    Answer, Balancer, Database, Engine, PostgresServer, RedisServer, Subscriber, TestApp, event,
    eventually,
};
use reqwest::Method;
use rustix::process::Signal;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(30);

async fn replica(database: &Arc<Database>, redis: &RedisServer) -> TestApp {
    TestApp::on(Arc::clone(database))
        .set("REDIS_URL", redis.url())
        // What a replica leaves behind that is taken away for good.
        .set("BROKER_TAKEOVER_MS", 2_000)
        .start()
        .await
}

#[tokio::test]
async fn replicas_are_restarted_killed_added_and_taken_away_and_no_client_ends_with_an_error() {
    let seed = seed();
    // A server of their own: an open transaction holds back the readers of all databases of a server.
    let postgres = PostgresServer::start().await;
    let redis = RedisServer::start().await;
    let database = Arc::new(Database::at(postgres.url("postgres")));
    let mut first = replica(&database, &redis).await;
    let mut second = replica(&database, &redis).await;
    let balancer = Balancer::start(&[first.address(), second.address()]).await;
    let clients = Clients::start(seed, &balancer, &redis).await;
    clients.go_on().await;

    for replica in [&mut first, &mut second] {
        let (status, _) = replica.terminate().await;
        assert_eq!(status.code(), Some(0), "{}", replica.stderr());
        clients.go_on().await;
        replica.restart().await;
        takes_part(replica).await;
    }

    first.kill9().await;
    clients.go_on().await;
    first.restart().await;

    let third = replica(&database, &redis).await;
    let all = [first.address(), second.address(), third.address()];
    balancer.reload(&all);
    takes_part(&third).await;

    balancer.reload(&[second.address(), third.address()]);
    let (status, _) = first.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", first.stderr());
    clients.go_on().await;

    clients.finish(&[&second, &third], &balancer).await;
}

/// One replica behind a balancer that waits less than the deployed one, so that a run is short.
async fn behind_a_balancer() -> (TestApp, Balancer) {
    let app = TestApp::start(Engine::Postgres).await;
    let balancer = Balancer::with(
        &[app.address()],
        &[("proxy_read_timeout 12s;", "proxy_read_timeout 3s;")],
    )
    .await;
    (app, balancer)
}

#[tokio::test]
async fn what_a_balancer_itself_answers_reads_as_the_services_answers_do() {
    let (mut app, balancer) = behind_a_balancer().await;
    let client = balancer.client();
    let published = client.publish(&event("t", "e")).await.ok();
    assert_eq!(published["outcome"], "stored");
    client.post("/publish", "{}").await.problem(422);
    assert_eq!(
        client.get("/nothing").await.problem(404)["title"],
        "Not found"
    );

    // The service's own limit, below that of the balancer, and the balancer's.
    for bytes in [8 * 1024 * 1024 + 1, 10 * 1024 * 1024] {
        let refused = client.post("/publish", " ".repeat(bytes)).await;
        let problem = refused.problem(413);
        assert_eq!(problem["type"], "urn:oncelog:problem:body-too-large");
    }
    let padding = " ".repeat(8 * 1024 * 1024 - 1024);
    let large = client.post("/publish", event("t", "e").to_string() + &padding);
    assert_eq!(large.await.ok()["outcome"], "duplicate");

    let terminated = app.terminate().await;
    assert_eq!(terminated.0.code(), Some(0));
    for _ in 0..5 {
        let refused = client.publish(&event("t", "meanwhile")).await;
        let problem = refused.problem(503);
        assert_eq!(problem["retryable"], true);
        assert_eq!(refused.header("retry-after"), "1");
    }
    app.restart().await;
    eventually("the balancer finds it again", SOON, async || {
        client.publish(&event("t", "after")).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn names_heads_and_streams_pass_a_balancer_as_they_are() {
    let (app, balancer) = behind_a_balancer().await;
    let client = balancer.client();
    let mut subscriber = Subscriber::open(&client, "").await;
    for (id, path) in [
        ("a/b", "a%2Fb"),
        ("../x", "..%2Fx"),
        ("a//b?c#d%", "a%2F%2Fb%3Fc%23d%25"),
        ("\u{fc} +", "%C3%BC%20%2B"),
    ] {
        client.publish(&event("t", id)).await.ok();
        let found = client.get(&format!("/events/t/{path}")).await.ok();
        assert_eq!(found["event_id"], id);
        // At once, and not when some buffer is full.
        assert_eq!(timeout(SOON, subscriber.next_ids(1)).await.unwrap(), [id]);
    }
    // A head as large as names can make it, and a large one of others.
    let long = "%F0%9F%8E%BA".repeat(255);
    let path = format!("/events/{long}/{long}");
    client.get(&path).await.problem(404);
    let request = client
        .request(Method::GET, &path)
        .header("x-something", "x".repeat(60_000));
    Answer::of(request).await.problem(404);
    // A browser's word for another site is heard through it.
    let foreign = client
        .request(Method::POST, "/publish")
        .header("sec-fetch-site", "cross-site")
        .body(event("t", "foreign").to_string());
    Answer::of(foreign).await.problem(403);
    drop(app);
}

#[tokio::test]
async fn a_replica_that_stands_still_costs_a_wait_and_no_error() {
    let postgres = PostgresServer::start().await;
    let database = Arc::new(Database::at(postgres.url("postgres")));
    let first = TestApp::on(Arc::clone(&database)).start().await;
    let second = TestApp::on(database).start().await;
    // A mark that stays, however slow this machine is.
    let balancer = Balancer::with(
        &[first.address(), second.address()],
        &[
            ("proxy_read_timeout 12s;", "proxy_read_timeout 2s;"),
            ("fail_timeout=1s", "fail_timeout=5m"),
        ],
    )
    .await;
    let client = balancer.client();
    first.signal(Signal::STOP);
    for number in 0..20 {
        let answer = client.publish(&event("t", &format!("e-{number}"))).await;
        assert_eq!(answer.ok()["outcome"], "stored");
    }
    let attempts = balancer.attempts().lines().count() as u64;
    assert!((1..=3).contains(&attempts), "{attempts}: it is left alone");
    // What the first one was sent comes late, if it comes, and is counted as what it is.
    first.signal(Signal::CONT);
    eventually("it goes on", SOON, async || {
        first.status("/readyz").await == Some(200)
    })
    .await;
    let stats = first.assert_counters_are_exact().await;
    assert_eq!(stats["unique_processed_count"], 20);
    let received = stats["received_count"].as_u64().unwrap();
    assert!((20..=20 + attempts).contains(&received), "{received}");
    assert_eq!(second.stats().await["unique_processed_count"], 20);
}
