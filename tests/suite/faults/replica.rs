//! Listings are read from a replica that is behind, and that dies.

use crate::support::{Database, PostgresServer, Subscriber, TestApp, event, eventually};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(30);

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
    let paused = "select pg_get_wal_replay_pause_state() = 'paused'";
    replica.execute(&["select pg_wal_replay_pause()"]).await;
    replica.says(paused).await;

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
