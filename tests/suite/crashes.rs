//! Two instances at a time, an instance that is killed, and one that is asked to end: under load,
//! on both engines.

use crate::support::{Client, Engine, TestApp, event, eventually};
use rand::seq::SliceRandom;
use rustix::process::Signal;
use serde_json::Value;
use std::{io::ErrorKind, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

on_both_engines!(
    what_was_answered_before_a_kill_is_stored_once,
    a_termination_under_load_answers_what_is_in_flight,
    counters_are_the_same_after_a_restart,
);

const PUBLISHERS: usize = 4;
const BATCH: usize = 20;

/// Sends batches until the instance is gone; tells of each that was answered with 200.
async fn publish_until_gone(
    client: Client,
    topic: String,
    answered: mpsc::UnboundedSender<Vec<Value>>,
) {
    for round in 0.. {
        let events: Vec<Value> = (0..BATCH)
            .map(|number| event(&topic, &format!("e-{round}-{number}")))
            .collect();
        match client.try_batch(&events).await {
            Ok(answer) if answer.status == 200 => answered.send(events).unwrap(),
            Ok(answer) => {
                answer.problem(503);
                return;
            }
            // Refused, or cut off: nothing is known of this one.
            Err(_) => return,
        }
    }
}

/// Runs the load, ends the instance with `end` in its midst, and gives what was answered.
async fn answered_until(app: &mut TestApp, end: impl AsyncFnOnce(&mut TestApp)) -> Vec<Vec<Value>> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let mut publishers = JoinSet::new();
    for number in 0..PUBLISHERS {
        let topic = format!("topic-{number}");
        publishers.spawn(publish_until_gone(app.client(), topic, sender.clone()));
    }
    drop(sender);
    let mut answered = Vec::new();
    while answered.len() < 40 {
        answered.push(receiver.recv().await.expect("the load goes on"));
    }
    end(app).await;
    publishers.join_all().await;
    while let Some(events) = receiver.recv().await {
        answered.push(events);
    }
    answered
}

async fn assert_all_are_stored(app: &TestApp, answered: &[Vec<Value>]) {
    for events in answered {
        let again = app.batch(events).await.ok();
        assert_eq!(again["duplicates"], events.len(), "{again}");
        assert_eq!(again["conflicts"], 0, "{again}");
    }
}

async fn what_was_answered_before_a_kill_is_stored_once(engine: Engine) {
    let mut app = TestApp::start(engine).await;
    let answered = answered_until(&mut app, async |app| app.kill9().await).await;
    app.restart().await;
    app.assert_counters_are_exact().await;
    assert_all_are_stored(&app, &answered).await;
    app.assert_counters_are_exact().await;
}

async fn a_termination_under_load_answers_what_is_in_flight(engine: Engine) {
    let mut app = TestApp::start(engine).await;
    let answered = answered_until(&mut app, async |app| {
        let (status, took) = app.terminate().await;
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_secs(10), "{took:?}");
    })
    .await;
    let stored = app.database().rows().await;
    // Whatever was stored was answered: no publisher was left without knowing.
    assert_eq!(usize::try_from(stored).unwrap(), answered.len() * BATCH);
    app.restart().await;
    assert_all_are_stored(&app, &answered).await;
    app.assert_counters_are_exact().await;
}

async fn counters_are_the_same_after_a_restart(engine: Engine) {
    const COUNTERS: [&str; 5] = [
        "received_count",
        "unique_processed_count",
        "duplicate_dropped_count",
        "conflict_count",
        "topics_count",
    ];
    let mut app = TestApp::start(engine).await;
    let mut conflict = event("orders", "1");
    conflict["source"] = "another".into();
    let sent = [event("orders", "1"), event("orders", "1"), conflict];
    app.batch(&sent).await.ok();
    app.publish(&event("returns", "1")).await.ok();
    let counted = async |app: &TestApp| {
        let stats = app.assert_counters_are_exact().await;
        COUNTERS.map(|name| stats[name].as_u64().unwrap())
    };
    assert_eq!(counted(&app).await, [4, 2, 2, 1, 2]);
    app.restart().await;
    assert_eq!(counted(&app).await, [4, 2, 2, 1, 2]);
    app.kill9().await;
    app.restart().await;
    assert_eq!(counted(&app).await, [4, 2, 2, 1, 2]);
}

#[tokio::test]
async fn an_idle_instance_ends_on_an_interrupt() {
    let mut app = TestApp::start(Engine::Postgres).await;
    app.signal(Signal::INT);
    let (status, took) = app.wait().await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn during_a_shutdown_who_connects_is_refused_and_who_is_connected_is_answered_and_let_go() {
    let mut app = TestApp::start(Engine::Sqlite).await;
    let body = event("t", "in flight").to_string();
    let (start, rest) = body.split_at(20);
    let mut busy = TcpStream::connect(app.address()).await.unwrap();
    let half = publish_of(&body).replace(&body, start);
    busy.write_all(half.as_bytes()).await.unwrap();
    let mut idle = TcpStream::connect(app.address()).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    eventually("it is in flight", Duration::from_secs(4), async || {
        let metrics = app.get("/metrics").await.text;
        let mut lines = metrics.lines();
        let bytes = lines.find_map(|line| line.strip_prefix("oncelog_inflight_bytes "));
        bytes.unwrap() != "0"
    })
    .await;

    app.signal(Signal::TERM);
    eventually("refused", Duration::from_secs(4), async || {
        let connected = TcpStream::connect(app.address()).await;
        connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    })
    .await;
    let another = event("t", "on an open connection").to_string();
    idle.write_all(publish_of(&another).as_bytes())
        .await
        .unwrap();
    busy.write_all(rest.as_bytes()).await.unwrap();
    for mut connection in [idle, busy] {
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("\"outcome\":\"stored\""), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
    let (status, _) = app.wait().await;
    assert_eq!(status.code(), Some(0), "{}", app.stderr());
    assert!(!app.log().contains("ERROR"), "{}", app.log());
    assert_eq!(app.database().rows().await, 2);
}

fn publish_of(body: &str) -> String {
    let length = body.len();
    format!("POST /publish HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn two_instances_on_one_database_store_each_event_once() {
    const EVENTS: usize = 400;
    let one = TestApp::start(Engine::Postgres).await;
    let other = TestApp::on(one.database().clone()).start().await;
    let events: Vec<Value> = (0..EVENTS)
        .map(|number| event(&format!("topic-{}", number % 7), &format!("e-{number}")))
        .collect();
    let mut publishers = JoinSet::new();
    for client in [one.client(), one.client(), other.client(), other.client()] {
        let mut events = events.clone();
        events.shuffle(&mut rand::rng());
        publishers.spawn(async move {
            let mut stored = 0;
            for batch in events.chunks(50) {
                stored += client.batch(batch).await.ok()["stored"].as_u64().unwrap();
            }
            stored
        });
    }
    let stored: u64 = publishers.join_all().await.into_iter().sum();
    assert_eq!(stored, EVENTS as u64);
    for app in [&one, &other] {
        let stats = app.assert_counters_are_exact().await;
        assert_eq!(stats["received_count"], 4 * EVENTS);
        assert_eq!(stats["unique_processed_count"], EVENTS);
        assert_eq!(stats["conflict_count"], 0);
        assert_eq!(stats["topics_count"], 7);
    }
}
