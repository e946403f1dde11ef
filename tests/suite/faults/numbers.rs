//! A Postgres that dies gives the numbers of transactions anew that nothing on its disk tells of. Whoever follows
//! the log from its end must not take events that carry them for ones that he has seen.

use crate::support::{Client, Database, PostgresServer, Subscriber, TestApp, event, eventually};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection};
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(60);
/// More than the events that are published afterwards have transactions.
const NUMBERS_LOST: i64 = 200;
const EVENTS: usize = 20;

async fn connection(postgres: &PostgresServer) -> PgConnection {
    PgConnection::connect(&postgres.url("postgres"))
        .await
        .unwrap()
}

async fn number(connection: &mut PgConnection, question: &'static str) -> i64 {
    let answer = sqlx::query_scalar(question).fetch_one(connection);
    answer.await.unwrap()
}

/// The process that writes to disk what nobody waits for.
async fn wal_writer(postgres: &PostgresServer) -> Pid {
    let mut connection = connection(postgres).await;
    let pid = number(
        &mut connection,
        "select pid::bigint from pg_stat_activity where backend_type = 'walwriter'",
    );
    Pid::from_raw(i32::try_from(pid.await).unwrap()).unwrap()
}

/// Uses up numbers in transactions that come to nothing; gives the last one.
async fn use_up_numbers(postgres: &PostgresServer) -> i64 {
    let mut connection = connection(postgres).await;
    let mut last = 0;
    for _ in 0..NUMBERS_LOST {
        let mut transaction = connection.begin().await.unwrap();
        let question = "select pg_current_xact_id()::text::bigint";
        last = number(&mut transaction, question).await;
        transaction.rollback().await.unwrap();
    }
    last
}

async fn publish(client: &Client, event_id: &str) {
    let event = event("numbers", event_id);
    eventually("it is stored", SOON, async || {
        client.publish(&event).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn numbers_that_are_given_anew_after_a_crash_hide_no_event_from_a_subscriber() {
    let postgres = PostgresServer::start().await;
    let database = Arc::new(Database::at(postgres.url("postgres")));
    let app = TestApp::on(database).start().await;
    publish(&app, "before").await;

    // As if the crash came before its next turn, a fifth of a second later at most.
    let wal_writer = wal_writer(&postgres).await;
    kill_process(wal_writer, Signal::STOP).unwrap();
    let lost = use_up_numbers(&postgres).await;
    let queries = [
        "",
        "topic=numbers",
        "source=suite",
        "topic=numbers&source=suite",
    ];
    let mut subscribers = Vec::new();
    for query in queries {
        subscribers.push(Subscriber::open(&app, query).await);
    }
    // One of them that is away meanwhile, and comes back to where it was.
    let place = Subscriber::open(&app, "").await.last_event_id().to_owned();
    // Long enough for each to have looked at the end of the log, and found nothing.
    sleep(Duration::from_secs(1)).await;

    // Postgres ends all of its processes when one is killed, and recovers from what is on its disk.
    let mut witness = connection(&postgres).await;
    kill_process(wal_writer, Signal::KILL).unwrap();
    eventually("its connections break", SOON, async || {
        witness.ping().await.is_err()
    })
    .await;
    for n in 0..EVENTS {
        publish(&app, &n.to_string()).await;
    }
    let mut connection = connection(&postgres).await;
    let last = number(&mut connection, "select max(txn) from processed_events").await;
    assert!(last < lost, "{last} was not given before, up to {lost}");

    let expected: Vec<String> = (0..EVENTS).map(|n| n.to_string()).collect();
    subscribers.push(Subscriber::try_open(&app, "", Some(&place)).await.unwrap());
    for mut subscriber in subscribers {
        let ids = timeout(SOON, subscriber.next_ids(EVENTS)).await;
        assert_eq!(ids.expect("all events"), expected);
    }
}
