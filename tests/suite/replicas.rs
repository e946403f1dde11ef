//! Subscribers of several instances, while writers hold transactions open, streams are cut, and an
//! instance dies: every event once, in one order for all.

use crate::support::{
    Client, Database, Engine, PostgresServer, Subscriber, TestApp, event, eventually,
};
use rand::seq::IndexedRandom;
use sqlx::{Connection, PgConnection};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

const PUBLISHERS: usize = 2;
const READERS: usize = 4;
const EVENTS_EACH: usize = 150;
const HELD_EACH: usize = 12;
const PATIENCE: Duration = Duration::from_secs(60);

/// Publishes to any instance, each event until it is stored; gives the ids.
async fn publish(clients: Vec<Client>, name: usize, published: Arc<AtomicUsize>) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..EVENTS_EACH {
        let id = format!("{name}-{number}");
        let event = event(&format!("t-{}", number % 3), &id);
        loop {
            let client = clients.choose(&mut rand::rng()).unwrap();
            let answer = client.try_batch(std::slice::from_ref(&event)).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        published.fetch_add(1, Ordering::SeqCst);
        ids.push(id);
    }
    ids
}

/// Writes past the service, in transactions that stay open for a while.
async fn hold(database: Arc<Database>, name: usize) -> Vec<String> {
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let mut ids = Vec::new();
    for number in 0..HELD_EACH {
        let id = format!("held-{name}-{number}");
        let mut transaction = connection.begin().await.unwrap();
        sqlx::query(
            "insert into processed_events (topic, event_id, timestamp, source, payload, seq) \
             values ('t-1', $1, now(), 's', '{}', 0)",
        )
        .bind(&id)
        .execute(&mut *transaction)
        .await
        .unwrap();
        sleep(Duration::from_millis(rand::random_range(0..400))).await;
        transaction.commit().await.unwrap();
        ids.push(id);
    }
    ids
}

/// Reads from any instance, and changes it without notice, until it has as many events as there are.
async fn read(clients: Vec<Client>, start: String, total: Arc<AtomicUsize>) -> Vec<String> {
    let mut ids = Vec::new();
    let mut place = start;
    while ids.len() < total.load(Ordering::SeqCst) {
        let client = clients.choose(&mut rand::rng()).unwrap();
        let Ok(mut subscriber) = Subscriber::try_open(client, "", Some(&place)).await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let stay = Duration::from_millis(rand::random_range(50..1500));
        let _ = timeout(stay, async {
            while let Some(event) = subscriber.next().await {
                ids.push(event["event_id"].as_str().unwrap().to_owned());
            }
        })
        .await;
        subscriber.last_event_id().clone_into(&mut place);
    }
    ids
}

async fn every_subscriber_sees_every_event_once_in_one_order(
    mut apps: Vec<TestApp>,
    holders: usize,
) {
    let clients: Vec<Client> = apps.iter().map(TestApp::client).collect();
    let database = Arc::clone(apps[0].database());
    let first = Subscriber::open(&clients[0], "").await;
    let start = first.last_event_id().to_owned();
    drop(first);
    let total = Arc::new(AtomicUsize::new(usize::MAX));
    let published = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        readers.spawn(read(clients.clone(), start.clone(), Arc::clone(&total)));
    }
    let mut writers = JoinSet::new();
    for name in 0..PUBLISHERS {
        writers.spawn(publish(clients.clone(), name, Arc::clone(&published)));
    }
    for name in 0..holders {
        writers.spawn(hold(Arc::clone(&database), name));
    }

    eventually("the load runs", PATIENCE, async || {
        published.load(Ordering::SeqCst) > EVENTS_EACH / 2
    })
    .await;
    apps[0].kill9().await;
    apps[0].restart().await;

    let written = timeout(PATIENCE, writers.join_all())
        .await
        .expect("all is written");
    let written: BTreeSet<String> = written.into_iter().flatten().collect();
    total.store(written.len(), Ordering::SeqCst);
    let read = timeout(PATIENCE, readers.join_all())
        .await
        .expect("all is read");
    for ids in &read {
        assert_eq!(*ids, read[0], "one order for all");
        assert_eq!(ids.len(), written.len(), "each once");
        let seen: BTreeSet<String> = ids.iter().cloned().collect();
        assert_eq!(seen, written);
    }
}

#[tokio::test]
async fn two_instances_and_writers_that_hold_transactions_open_leave_no_gap() {
    // A server of their own: an open transaction holds back the readers of all databases of a server.
    let server = PostgresServer::start().await;
    let database = Arc::new(Database::at(server.url("postgres")));
    let first = TestApp::on(Arc::clone(&database)).start().await;
    let second = TestApp::on(database).start().await;
    every_subscriber_sees_every_event_once_in_one_order(vec![first, second], 2).await;
}

#[tokio::test]
async fn one_instance_on_sqlite_leaves_no_gap() {
    let app = TestApp::start(Engine::Sqlite).await;
    every_subscriber_sees_every_event_once_in_one_order(vec![app], 0).await;
}

#[tokio::test]
async fn word_from_one_replica_wakes_who_follows_its_topic_on_another() {
    // As above; and by the poll alone these events would take two minutes.
    let server = PostgresServer::start().await;
    let database = Arc::new(Database::at(server.url("postgres")));
    let start = |database| TestApp::on(database).set("FEED_POLL_MS", 10_000).start();
    let first = start(Arc::clone(&database)).await;
    let second = start(Arc::clone(&database)).await;
    let mut near = Subscriber::open(&first.client(), "topic=t").await;
    let mut far = Subscriber::open(&second.client(), "topic=t").await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let events = async {
        for number in 0..12 {
            let mut older = connection.begin().await.unwrap();
            sqlx::query("select pg_current_xact_id()")
                .execute(&mut *older)
                .await
                .unwrap();
            let id = format!("e-{number}");
            first.publish(&event("t", &id)).await.ok();
            second.publish(&event("another", &id)).await.ok();
            // Nobody tells of that, and only now is the event to be seen.
            older.commit().await.unwrap();
            assert_eq!(near.next_ids(1).await, [id.as_str()]);
            assert_eq!(far.next_ids(1).await, [id.as_str()]);
        }
    };
    timeout(PATIENCE, events).await.expect("they are told of");
}

#[tokio::test]
async fn a_stream_goes_on_after_an_outage_of_the_database() {
    let mut server = PostgresServer::start().await;
    let database = Arc::new(Database::at(server.url("postgres")));
    let app = TestApp::on(database).start().await;
    let mut subscriber = Subscriber::open(&app, "").await;
    app.publish(&event("t", "before")).await.ok();
    assert_eq!(
        timeout(PATIENCE, subscriber.next_ids(1)).await.unwrap(),
        ["before"]
    );
    server.kill().await;
    eventually("not ready", PATIENCE, async || {
        app.status("/readyz").await == Some(503)
    })
    .await;
    server.start_again().await;
    eventually("stored again", PATIENCE, async || {
        app.publish(&event("t", "after")).await.status == 200
    })
    .await;
    app.publish(&event("t", "last")).await.ok();
    let ids = timeout(PATIENCE, subscriber.next_ids(2)).await.unwrap();
    assert_eq!(ids, ["after", "last"]);
}
