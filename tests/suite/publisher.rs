//! The publisher against the service: its account and the service's agree, and where they do not,
//! it says so.

use crate::support::{
    Database, Engine, PostgresServer, Process, TestApp, TestBroker, eventually, publisher,
};
use rustix::process::Signal;
use serde_json::json;
use std::{sync::Arc, time::Duration};

on_both_engines!(
    a_run_with_repeats_agrees_with_the_service,
    the_same_run_again_stores_nothing,
    an_event_that_is_not_what_was_sent_is_found,
    a_run_agrees_while_actors_crash,
);

const SENDS: u64 = 2_000;
const RUN_MAX: Duration = Duration::from_secs(60);

/// How a run ended, and its report.
struct Run {
    code: Option<i32>,
    report: String,
}

impl Run {
    async fn against(app: &TestApp, arguments: &[&str]) -> Self {
        Self::end_of(Self::start(app, arguments)).await
    }

    fn start(app: &TestApp, arguments: &[&str]) -> Process {
        let mut command = publisher();
        command
            .args(["--url", &format!("http://{}", app.address())])
            .args(["--events", &SENDS.to_string(), "--duplicates", "35%"])
            .args(["--seed", "7", "--verify"])
            .args(arguments);
        Process::spawn(command, None, Signal::KILL)
    }

    async fn end_of(mut process: Process) -> Self {
        let (status, _) = process.wait(RUN_MAX).await;
        Self {
            code: status.code(),
            report: process.stdout() + &process.stderr(),
        }
    }

    #[track_caller]
    fn assert_all_agree(&self) {
        assert_eq!(self.code, Some(0), "{}", self.report);
        assert!(self.report.contains("verify read back: OK"));
        assert!(!self.report.contains("DIFFERS"), "{}", self.report);
    }

    /// A number of the report, by its name.
    fn fact(&self, name: &str) -> u64 {
        let mut lines = self.report.lines();
        let fact = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        fact.unwrap().parse().unwrap()
    }
}

async fn a_run_with_repeats_agrees_with_the_service(engine: Engine) {
    let app = TestApp::start(engine).await;
    let run = Run::against(&app, &["--batch-size", "50"]).await;
    run.assert_all_agree();
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["received_count"], SENDS);
    assert_eq!(stats["unique_processed_count"], run.fact("unique"));
    assert_eq!(stats["duplicate_dropped_count"], run.fact("duplicates"));
    // 35 % of them.
    assert_eq!(stats["duplicate_dropped_count"], SENDS * 35 / 100);
    assert_eq!(stats["conflict_count"], 0);
}

async fn the_same_run_again_stores_nothing(engine: Engine) {
    let app = TestApp::start(engine).await;
    Run::against(&app, &["--batch-size", "100"])
        .await
        .assert_all_agree();
    let before = app.database().rows().await;
    Run::against(&app, &["--batch-size", "10"])
        .await
        .assert_all_agree();
    assert_eq!(app.database().rows().await, before);
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["received_count"], 2 * SENDS);
}

async fn an_event_that_is_not_what_was_sent_is_found(engine: Engine) {
    let app = TestApp::start(engine).await;
    Run::against(&app, &["--batch-size", "100"])
        .await
        .assert_all_agree();
    let mut event = app.events("limit=1").await.remove(0);
    event["payload"] = json!({ "of": "somebody else" });

    let other = TestApp::start(engine).await;
    other.publish(&event).await.ok();
    let run = Run::against(&other, &["--batch-size", "100"]).await;
    assert_eq!(run.code, Some(1), "{}", run.report);
    let name = format!("{}/{}", text(&event, "topic"), text(&event, "event_id"));
    let found = format!("different: {name}: payload");
    assert!(run.report.contains(&found), "{}", run.report);
}

fn text<'event>(event: &'event serde_json::Value, field: &str) -> &'event str {
    event[field].as_str().unwrap()
}

async fn a_run_agrees_while_actors_crash(engine: Engine) {
    let app = TestApp::start(engine).await;
    // Two seconds at this rate, so that there is a run to crash in.
    let run = Run::against(&app, &["--rate", "1000", "--chaos", "--chaos-rate", "10"]).await;
    run.assert_all_agree();
    let actors = app.actors().await;
    let restarts = actors.iter().map(|actor| actor["restarts"].as_u64());
    assert!(restarts.map(Option::unwrap).sum::<u64>() > 0);
}

#[tokio::test]
async fn a_run_through_the_broker_agrees_with_the_service() {
    let broker = TestBroker::create().await;
    let app = TestApp::builder(Engine::Postgres)
        .await
        .broker(&broker)
        .start()
        .await;
    let way = ["--transport", "redis", "--redis-url", broker.url()];
    let run = Run::against(&app, &[&way[..], &["--stream", broker.stream()]].concat()).await;
    run.assert_all_agree();
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["unique_processed_count"], run.fact("unique"));
}

#[tokio::test]
async fn a_comparison_waits_for_a_database_that_is_away() {
    let broker = TestBroker::create().await;
    let mut postgres = PostgresServer::start().await;
    let app = TestApp::on(Arc::new(Database::at(postgres.url("postgres"))))
        .broker(&broker)
        .start()
        .await;
    let process = Run::start(&app, &["--rate", "1000"]);
    eventually("some are sent", RUN_MAX, async || {
        app.stats().await["received_count"].as_u64() >= Some(100)
    })
    .await;
    postgres.kill().await;
    // What was sent since then is queued.
    eventually("all is sent", RUN_MAX, async || {
        process.stdout().contains("\ntime: ")
    })
    .await;
    eventually("counters cannot be read", RUN_MAX, async || {
        app.status("/stats").await == Some(503)
    })
    .await;
    postgres.start_again().await;
    Run::end_of(process).await.assert_all_agree();
}

#[tokio::test]
async fn an_interrupted_run_reports_and_compares_what_it_has_sent() {
    let app = TestApp::start(Engine::Sqlite).await;
    let process = Run::start(&app, &["--rate", "100"]);
    eventually("some are sent", RUN_MAX, async || {
        app.stats().await["received_count"].as_u64() >= Some(50)
    })
    .await;
    process.signal(Signal::INT);
    let run = Run::end_of(process).await;
    assert_eq!(run.code, Some(1), "{}", run.report);
    let stats = app.assert_counters_are_exact().await;
    let sends = run.fact("sends");
    assert!(sends < SENDS, "{}", run.report);
    assert_eq!(stats["received_count"], sends);
    assert_eq!(stats["unique_processed_count"], run.fact("unique"));
    assert_eq!(stats["duplicate_dropped_count"], run.fact("duplicates"));
    assert!(!run.report.contains("missing"), "{}", run.report);
    assert!(!run.report.contains("DIFFERS"), "{}", run.report);
}

#[tokio::test]
async fn whoever_interrupts_it_again_does_not_wait() {
    let app = TestApp::start(Engine::Sqlite).await;
    let mut process = Run::start(&app, &["--rate", "100"]);
    eventually("some are sent", RUN_MAX, async || {
        app.stats().await["received_count"].as_u64() >= Some(20)
    })
    .await;
    app.signal(Signal::STOP);
    // The first one lets what is on its way end, which nobody answers.
    let patience = Duration::from_secs(5);
    eventually("it has ended", patience, async || {
        process.signal(Signal::INT);
        process.try_wait().is_some()
    })
    .await;
    app.signal(Signal::CONT);
}
