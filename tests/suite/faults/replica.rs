//! Listings are read from a replica that is behind, that dies, and that cancels them.

use crate::support::{Database, PostgresServer, Subscriber, TestApp, event, eventually};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::timeout};

const SOON: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(90);

/// What is stored from here on a reader does not find on this server.
async fn stands_still(replica: &PostgresServer) {
    replica.execute(&["select pg_wal_replay_pause()"]).await;
    let is_paused = "select pg_get_wal_replay_pause_state() = 'paused'";
    replica.says(is_paused).await;
}

#[tokio::test]
async fn listings_come_from_the_replica_and_nothing_that_must_not_be_late() {
    let primary = PostgresServer::start().await;
    let mut replica = primary.standby().await;
    let app = TestApp::on(Arc::new(Database::at(primary.url("postgres"))))
        .set("DATABASE_READ_URL", replica.url("postgres"))
        .start()
        .await;
    let mut subscriber = Subscriber::open(&app, "").await;
    app.publish(&event("t", "early")).await.ok();
    eventually("the replica has it", SOON, async || {
        app.events("").await.len() == 1
    })
    .await;
    stands_still(&replica).await;

    app.publish(&event("t", "late")).await.ok();
    let count = async |query: &str| app.events(query).await.len();
    assert_eq!(count("").await, 1, "the replica is behind");
    assert_eq!(count("topic=t").await, 1);
    let topics = app.get("/topics").await.ok();
    assert_eq!(topics["topics"][0]["unique_count"], 1);
    assert_eq!(count("order=asc").await, 2, "and is not asked for this");
    assert_eq!(app.get("/events/t/late").await.status, 200);
    assert_eq!(app.stats().await["unique_processed_count"], 2);
    let ids = timeout(SOON, subscriber.next_ids(2)).await.unwrap();
    assert_eq!(ids, ["early", "late"]);

    replica.kill().await;
    assert_eq!(count("").await, 2, "from the primary");
    assert!(app.log().contains("the replica does not answer"));
    assert_eq!(app.status("/readyz").await, Some(200));
    replica.start_again().await;
    eventually("it is read from again", SOON, async || {
        count("").await == 2 && app.log().contains("the replica is read from again")
    })
    .await;
}

#[tokio::test]
async fn of_several_servers_a_standby_is_read_from_and_then_the_next_one() {
    let primary = PostgresServer::start().await;
    let mut one = primary.standby().await;
    let mut two = primary.standby().await;
    let servers = [&primary, &one, &two].map(|server| server.address().to_string());
    // The primary is named first, and is no standby.
    let read_url = format!(
        "postgres://postgres@{}/postgres?target_session_attrs=standby",
        servers.join(",")
    );
    let app = TestApp::on(Arc::new(Database::at(primary.url("postgres"))))
        .set("DATABASE_READ_URL", read_url)
        .start()
        .await;
    // Each of the three has one event more than the one before: how many there are says who was asked.
    app.publish(&event("t", "1")).await.ok();
    let has_one = "select count(*) = 1 from processed_events";
    one.says(has_one).await;
    stands_still(&one).await;
    app.publish(&event("t", "2")).await.ok();
    let has_two = "select count(*) = 2 from processed_events";
    two.says(has_two).await;
    stands_still(&two).await;
    app.publish(&event("t", "3")).await.ok();

    let listed = async || app.events("").await.len();
    for _ in 0..5 {
        assert_eq!(listed().await, 1, "the first standby");
    }
    one.kill().await;
    // The primary meanwhile, and no error.
    eventually("the other standby is read from", SOON, async || {
        let count = listed().await;
        assert!([2, 3].contains(&count), "{count}");
        count == 2
    })
    .await;
    two.kill().await;
    assert_eq!(listed().await, 3, "the primary, as there is no standby");
    assert_eq!(app.status("/readyz").await, Some(200));
}

#[tokio::test]
async fn a_listing_that_the_replay_cancels_is_read_from_the_primary() {
    const EVENTS: usize = 1000;
    const READERS: usize = 4;
    let primary = PostgresServer::start().await;
    let replica = primary.standby().await;
    // Whoever reads what the replay is about to lock is cancelled at once.
    replica
        .execute(&[
            "alter system set max_standby_streaming_delay = 0",
            "select pg_reload_conf()",
        ])
        .await;
    let app = TestApp::on(Arc::new(Database::at(primary.url("postgres"))))
        .set("DATABASE_READ_URL", replica.url("postgres"))
        .start()
        .await;
    let events: Vec<_> = (0..EVENTS)
        .map(|number| {
            let mut event = event("t", &format!("e-{number}"));
            event["payload"] = serde_json::json!({ "text": "x".repeat(4000) });
            event
        })
        .collect();
    app.batch(&events).await.ok();
    let has_all = "select count(*) = 1000 from processed_events";
    replica.says(has_all).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (client, is_over) = (app.client(), Arc::clone(&is_over));
        readers.spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(client.events("limit=1000").await.len(), EVENTS);
            }
        });
    }
    let lock = "do $$ begin lock table processed_events in access exclusive mode; end $$";
    eventually("the replay has cancelled a listing", PATIENCE, async || {
        primary.execute(&[lock]).await;
        app.log().contains("due to conflict with recovery")
    })
    .await;
    is_over.store(true, Ordering::Relaxed);
    while let Some(reader) = readers.join_next().await {
        reader.expect("each listing is answered, and whole");
    }
    assert_eq!(app.status("/readyz").await, Some(200));
}
