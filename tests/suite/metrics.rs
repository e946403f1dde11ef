//! `/metrics`: its counters are those of `/stats`, it counts what was sent, and its text is what
//! Prometheus reads.

use crate::support::{
    Answer, Client, Database, Engine, Exposition, PostgresServer, Subscriber, TestApp, TestBroker,
    event, eventually,
};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const WAIT_MAX: Duration = Duration::from_secs(10);

async fn metrics(client: &Client) -> Exposition {
    let answer = client.get("/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let content_type = answer.header("content-type");
    assert!(
        content_type.starts_with("text/plain; version=0.0.4"),
        "{content_type}"
    );
    Exposition::parse(&answer.text)
}

on_both_engines!(
    the_counters_grow_as_those_of_stats_do,
    rejected_events_are_counted_by_what_was_wrong_first,
    groups_hold_every_event_that_was_stored_or_dropped,
    requests_are_counted_by_the_pattern_of_their_path,
);

async fn the_counters_grow_as_those_of_stats_do(engine: Engine) {
    let app = TestApp::start(engine).await;
    let events: Vec<_> = (0..20).map(|n| event("t", &format!("e{n}"))).collect();
    app.batch(&events).await.ok();
    app.batch(&events[..7]).await.ok();
    let mut other = event("t", "e0");
    other["source"] = json!("another");
    app.publish(&other).await.ok();
    app.publish(&json!({})).await.problem(422);
    app.batch(&[event("t", ""), event("t", "new")])
        .await
        .problem(422);
    let stats = app.stats().await;
    let metrics = metrics(&app).await;
    for (metric, stat, expected) in [
        ("stored", "unique_processed_count", 20),
        ("duplicate", "duplicate_dropped_count", 8),
        ("conflict", "conflict_count", 1),
        ("rejected", "rejected_count", 3),
    ] {
        let metric = format!("oncelog_events_{metric}_total");
        assert_eq!(metrics.value(&metric, &[]), f64::from(expected), "{metric}");
        assert_eq!(stats[stat], expected, "{stat}");
    }
}

async fn rejected_events_are_counted_by_what_was_wrong_first(engine: Engine) {
    let app = TestApp::start(engine).await;
    let with = |field: &str, value: Value| {
        let mut event = event("t", "e");
        event[field] = value;
        event
    };
    for (field, value) in [
        ("topic", json!("")),
        ("event_id", json!(7)),
        ("timestamp", json!("yesterday")),
        ("source", json!(null)),
        ("payload", json!([])),
    ] {
        app.publish(&with(field, value)).await.problem(422);
    }
    app.post("/publish", "{\"topic\":").await.problem(422);
    app.publish(&json!([1])).await.problem(422);
    app.batch(&vec![event("t", "e"); 1001]).await.problem(422);
    let wrong_in_two_ways = [
        event("t", "right"),
        with("timestamp", json!(1)),
        with("topic", json!(1)),
    ];
    app.batch(&wrong_in_two_ways).await.problem(422);
    let lines = app
        .request(Method::POST, "/publish/batch")
        .header("content-type", "application/x-ndjson")
        .body(format!("{}\n{{\n", event("t", "e")));
    Answer::of(lines).await.problem(422);
    let cloud_event = json!({"specversion": "0.3", "id": "1", "source": "s", "type": "t",
        "time": "2026-01-02T03:04:05Z"});
    let cloud_event = app
        .request(Method::POST, "/publish")
        .header("content-type", "application/cloudevents+json")
        .body(cloud_event.to_string());
    Answer::of(cloud_event).await.problem(422);

    let stats = app.stats().await;
    let metrics = metrics(&app).await;
    for (reason, expected) in [
        ("malformed", 1.0 + 2.0),
        ("shape", 1.0),
        ("batch_size", 1001.0),
        ("topic", 1.0),
        ("event_id", 1.0),
        ("timestamp", 1.0 + 3.0),
        ("source", 1.0),
        ("payload", 1.0),
        ("cloud_event", 1.0),
    ] {
        let events = metrics.value("oncelog_events_invalid_total", &[("reason", reason)]);
        assert_eq!(events, expected, "{reason}");
    }
    let sum = metrics.sum("oncelog_events_invalid_total");
    assert_eq!(metrics.value("oncelog_events_rejected_total", &[]), sum);
    assert_eq!(stats["rejected_count"].as_f64(), Some(sum));
}

async fn groups_hold_every_event_that_was_stored_or_dropped(engine: Engine) {
    let app = TestApp::start(engine).await;
    let started = Instant::now();
    for size in [1, 3, 3, 40] {
        let events: Vec<_> = (0..size).map(|n| event("t", &format!("e{n}"))).collect();
        app.batch(&events).await.ok();
    }
    let elapsed = started.elapsed().as_secs_f64();
    let metrics = metrics(&app).await;
    let at_most = |le| metrics.value("oncelog_commit_group_events_bucket", &[("le", le)]);
    // One client that waits for its answers: each request is a group.
    assert_eq!(
        ["1", "2", "5", "20", "50", "+Inf"].map(at_most),
        [1.0, 1.0, 3.0, 3.0, 4.0, 4.0]
    );
    assert_eq!(metrics.value("oncelog_commit_group_events_sum", &[]), 47.0);
    let took = metrics.value("oncelog_commit_duration_seconds_sum", &[]);
    assert!(took > 0.0 && took < elapsed, "{took} of {elapsed}");
    let commits = metrics.value("oncelog_commit_duration_seconds_count", &[]);
    assert_eq!(commits, 4.0);
}

async fn requests_are_counted_by_the_pattern_of_their_path(engine: Engine) {
    let app = TestApp::start(engine).await;
    let before = metrics(&app).await;
    for id in ["a", "b", "c"] {
        app.publish(&event("t", id)).await.ok();
    }
    app.publish(&json!({})).await.problem(422);
    app.get("/events/t/a").await.ok();
    app.get("/events/t/b").await.ok();
    app.get("/events/t/none").await.problem(404);
    app.get("/events?topic=t&limit=2").await.ok();
    app.get("/nowhere/at/all").await.problem(404);
    app.get("/nowhere/else").await.problem(404);
    Answer::of(app.request(Method::HEAD, "/stats")).await;
    let brew = Method::from_bytes(b"BREW").unwrap();
    Answer::of(app.request(brew, "/events")).await.problem(405);
    let after = metrics(&app).await;
    for (route, method, status, expected) in [
        ("/publish", "POST", "200", 3.0),
        ("/publish", "POST", "422", 1.0),
        ("/events/{topic}/{event_id}", "GET", "200", 2.0),
        ("/events/{topic}/{event_id}", "GET", "404", 1.0),
        ("/events", "GET", "200", 1.0),
        ("/events", "other", "405", 1.0),
        ("/stats", "HEAD", "200", 1.0),
        ("/metrics", "GET", "200", 1.0),
        ("unmatched", "GET", "404", 2.0),
    ] {
        let labels = [("route", route), ("method", method), ("status", status)];
        let value = |metrics: &Exposition| {
            let value = metrics.find("oncelog_http_requests_total", &labels);
            value.unwrap_or_default()
        };
        assert_eq!(value(&after) - value(&before), expected, "{labels:?}");
    }
    for (route, expected) in [("/publish", 4.0), ("/events", 2.0), ("unmatched", 2.0)] {
        let count = "oncelog_http_request_duration_seconds_count";
        let count = after.value(count, &[("route", route)]);
        assert_eq!(count, expected, "{route}");
    }
    assert_eq!(
        after.sum("oncelog_http_requests_total"),
        after.sum("oncelog_http_request_duration_seconds_count")
    );
}

#[tokio::test]
async fn what_is_queued_is_counted_when_it_is_queued_and_when_it_is_stored() {
    let broker = TestBroker::create().await;
    let builder = TestApp::builder(Engine::Sqlite).await.broker(&broker);
    let app = builder.start().await;
    let events: Vec<_> = (0..5).map(|n| event("t", &format!("e{n}"))).collect();
    let batch = app
        .request(Method::POST, "/publish/batch")
        .header("prefer", "respond-async")
        .json(&json!({ "events": events }));
    assert_eq!(Answer::of(batch).await.status, 202);
    assert_eq!(
        metrics(&app)
            .await
            .value("oncelog_events_queued_total", &[]),
        5.0
    );
    eventually("the queue is stored", WAIT_MAX, async || {
        let metrics = metrics(&app).await;
        metrics.value("oncelog_events_stored_total", &[]) == 5.0
            && metrics.value("oncelog_broker_waiting_entries", &[]) == 0.0
    })
    .await;
    assert_eq!(
        metrics(&app)
            .await
            .value("oncelog_events_queued_total", &[]),
        5.0
    );
}

#[tokio::test]
async fn what_is_held_now_is_shown_beside_its_limit() {
    let builder = TestApp::builder(Engine::Sqlite).await;
    let app = builder
        .set("INFLIGHT_EVENTS_MAX", 4321)
        .set("SUBSCRIBERS_MAX", 17)
        // A client that is gone is noticed by it.
        .set("HEARTBEAT_MS", 100)
        .start()
        .await;
    app.publish(&event("t", "e")).await.ok();
    let subscribers = [
        Subscriber::open(&app, "").await,
        Subscriber::open(&app, "topic=t").await,
    ];
    let found = metrics(&app).await;
    for (name, expected) in [
        ("oncelog_inflight_events", 0.0),
        ("oncelog_inflight_limit_events", 4321.0),
        ("oncelog_inflight_bytes", 0.0),
        ("oncelog_stream_subscribers", 2.0),
        ("oncelog_stream_limit_subscribers", 17.0),
        ("oncelog_dashboard_viewers", 0.0),
        ("oncelog_tail_held_back_transactions", 0.0),
    ] {
        assert_eq!(found.value(name, &[]), expected, "{name}");
    }
    assert!(found.value("oncelog_inflight_limit_bytes", &[]) >= f64::from(8 << 20));
    drop(subscribers);
    eventually("they are gone", WAIT_MAX, async || {
        metrics(&app).await.value("oncelog_stream_subscribers", &[]) == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_long_transaction_is_seen_to_hold_the_tail_back() {
    // Of its own: others' tails are not to be held back with this one's.
    let server = PostgresServer::start().await;
    let database = Arc::new(Database::at(server.url("postgres")));
    let app = TestApp::on(database).start().await;
    let held_back = async || {
        let metrics = metrics(&app).await;
        metrics.value("oncelog_tail_held_back_transactions", &[])
    };
    let mut connection = PgConnection::connect(app.database().url()).await.unwrap();
    let mut long = connection.begin().await.unwrap();
    sqlx::query("select pg_current_xact_id()")
        .execute(&mut *long)
        .await
        .unwrap();
    for n in 0..10 {
        app.publish(&event("t", &format!("e{n}"))).await.ok();
    }
    let while_open = held_back().await;
    assert!(while_open > 10.0, "{while_open}");
    long.rollback().await.unwrap();
    eventually("the tail goes on", WAIT_MAX, async || {
        held_back().await < while_open
    })
    .await;
}

#[tokio::test]
async fn a_lost_database_leaves_a_gap_and_not_the_whole_page_out() {
    let mut server = PostgresServer::start().await;
    let database = Arc::new(Database::at(server.url("postgres")));
    let app = TestApp::on(database).start().await;
    app.publish(&event("t", "e")).await.ok();
    let connected = [("actor", "persist-0")];
    let before = metrics(&app).await;
    assert_eq!(before.value("oncelog_actor_connected", &connected), 1.0);
    assert_eq!(before.value("oncelog_dead_letters", &[]), 0.0);
    server.kill().await;
    // Whoever is without work does not notice.
    let other = event("t", "other");
    let publish = app.publish(&other);
    let seen = eventually("the loss is seen", WAIT_MAX, async || {
        let asked = Instant::now();
        let metrics = metrics(&app).await;
        assert!(asked.elapsed() < Duration::from_secs(5));
        let name = "oncelog_actor_connected";
        (0..8).any(|shard| {
            let actor = format!("persist-{shard}");
            metrics.find(name, &[("actor", &actor)]) == Some(0.0)
        }) && metrics.find("oncelog_dead_letters", &[]).is_none()
            && metrics.value("oncelog_events_stored_total", &[]) == 1.0
    });
    let (answer, ()) = tokio::join!(publish, seen);
    answer.problem(503);
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn the_process_is_described_as_prometheus_names_it() {
    let app = TestApp::start(Engine::Sqlite).await;
    let metrics = metrics(&app).await;
    let value = |name: &str| metrics.value(&format!("process_{name}"), &[]);
    let kib = f64::from(u32::try_from(app.resident_kib()).unwrap());
    let resident = value("resident_memory_bytes") / 1024.0;
    assert!((resident / kib - 1.0).abs() < 0.2, "{resident} and {kib}");
    assert!(value("virtual_memory_bytes") > value("resident_memory_bytes"));
    assert!(value("open_fds") > 5.0 && value("open_fds") < value("max_fds"));
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let age = age.as_secs_f64() - value("start_time_seconds");
    assert!((-2.0..120.0).contains(&age), "{age}");
    assert!(value("cpu_seconds_total") < 120.0);
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("engine", "sqlite")];
    assert_eq!(metrics.value("oncelog_build_info", &labels), 1.0);
}

/// The names in a PromQL expression, and those of the labels it chooses or groups by.
fn names_in(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|character: char| !character.is_alphanumeric() && character != '_')
        .filter(|word| word.starts_with("oncelog_") || word.starts_with("process_"))
}

fn labels_in(expression: &str) -> BTreeSet<&str> {
    let matchers = expression.split('{').skip(1);
    let matchers = matchers.filter_map(|rest| rest.split_once(['=', '!']));
    let groups = expression.split("by (").skip(1);
    let groups = groups.filter_map(|rest| Some(rest.split_once(')')?.0));
    matchers
        .map(|(label, _)| label)
        .chain(groups.flat_map(|group| group.split(", ")))
        .collect()
}

#[tokio::test]
async fn the_provisioned_dashboard_asks_for_what_there_is() {
    let broker = TestBroker::create().await;
    let builder = TestApp::builder(Engine::Sqlite).await.broker(&broker);
    let builder = builder.set("RETENTION", "1d");
    let app = builder.set("RETENTION_INTERVAL_MS", 100).start().await;
    app.publish(&event("t", "e")).await.ok();
    let run = "oncelog_retention_last_run_timestamp_seconds";
    eventually("retention has run", WAIT_MAX, async || {
        metrics(&app).await.kind(run).is_some()
    })
    .await;
    let metrics = metrics(&app).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy/observability/grafana/dashboards/oncelog.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array());
    let expressions: Vec<_> = targets
        .flatten()
        .filter_map(|target| target["expr"].as_str())
        .collect();
    assert!(expressions.len() > 20, "{expressions:?}");
    for expression in expressions {
        let mut labels: BTreeSet<&str> = ["instance", "job"].into();
        for name in names_in(expression) {
            let kind = metrics.kind(name);
            // The rate of what goes up and down, or a counter as it stands, says nothing.
            let is_rate = ["rate(", "increase("]
                .iter()
                .any(|function| expression.contains(&format!("{function}{name}")));
            assert!(kind.is_some(), "there is no {name}: {expression}");
            assert!(!is_rate || kind != Some("gauge"), "{expression}");
            labels.extend(metrics.labels(name));
        }
        let asked = labels_in(expression);
        assert!(asked.is_subset(&labels), "{expression}: {asked:?}");
    }
}

#[tokio::test]
async fn every_metric_is_described_for_operators() {
    let broker = TestBroker::create().await;
    let builder = TestApp::builder(Engine::Sqlite).await.broker(&broker);
    let app = builder.start().await;
    let metrics = metrics(&app).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let text = fs::read_to_string(file).unwrap();
    for (name, kind) in metrics.families() {
        let row = text.lines().find(|line| line.contains(&format!("`{name}")));
        let row = row.unwrap_or_else(|| panic!("docs/operations.md has no {name}"));
        assert!(row.contains(kind), "{name} is a {kind}: {row}");
    }
}
