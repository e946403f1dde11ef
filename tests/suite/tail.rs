//! `oncelog tail`: the log on a command line.

use crate::support::{Engine, Process, TestApp, event, eventually, free_port, oncelog};
use rustix::process::Signal;
use serde_json::Value;
use std::{process::Command, time::Duration};

on_both_engines!(
    what_is_stored_is_printed_and_that_is_all,
    following_goes_on_without_gap_or_repeat_when_the_server_dies,
    whoever_has_read_enough_may_close_the_pipe,
);

const PATIENCE: Duration = Duration::from_secs(30);

fn tail(app: &TestApp, args: &[&str]) -> Command {
    let mut command = oncelog();
    command.args(["tail", "--url", &format!("http://{}", app.address())]);
    command.args(args);
    command
}

/// What it prints until it ends by itself, with 0.
async fn printed(command: Command) -> String {
    let mut process = Process::spawn(command, None, Signal::KILL);
    let (status, _) = process.wait(PATIENCE).await;
    assert_eq!(status.code(), Some(0), "{}", process.stderr());
    assert_eq!(process.stderr(), "");
    process.stdout()
}

/// Waits until this is the end of what can be read: transactions of other tests in the same Postgres may
/// hold it back for longer than a page waits.
async fn reach(app: &TestApp, event_id: &str) {
    eventually("the end can be read", PATIENCE, async || {
        let mut end = String::new();
        loop {
            let query = format!("order=asc&limit=1000&cursor={end}");
            let page = app.get(&format!("/events?{query}")).await.ok();
            let events = page["events"].as_array().unwrap();
            if events.iter().any(|event| event["event_id"] == event_id) {
                return true;
            }
            if events.is_empty() {
                return false;
            }
            page["next_cursor"].as_str().unwrap().clone_into(&mut end);
        }
    })
    .await;
}

fn numbered(count: usize) -> Vec<Value> {
    (0..count)
        .map(|number| event("many", &format!("e-{number}")))
        .collect()
}

async fn what_is_stored_is_printed_and_that_is_all(engine: Engine) {
    let app = TestApp::start(engine).await;
    for events in numbered(2500).chunks(1000) {
        app.batch(events).await.ok();
    }
    let mut late = event("one of them", "x");
    late["timestamp"] = "2026-02-01T00:00:00Z".into();
    app.publish(&late).await.ok();
    reach(&app, "x").await;
    let lines = printed(tail(&app, &["--json"])).await;
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2501);
    assert_eq!(lines[0]["event_id"], "e-0");
    let line = "2026-02-01T00:00:00.000000Z\tone of them\tx\tsuite\t{\"of\"";
    for filter in [
        ["--topic", "one of them"],
        ["--since", "2026-01-15T00:00:00Z"],
    ] {
        let text = printed(tail(&app, &filter)).await;
        assert!(
            text.starts_with(line) && text.lines().count() == 1,
            "{text}"
        );
    }
    assert_eq!(printed(tail(&app, &["--source", "nobody"])).await, "");
}

async fn following_goes_on_without_gap_or_repeat_when_the_server_dies(engine: Engine) {
    let mut app = TestApp::start(engine).await;
    app.publish(&event("t", "0")).await.ok();
    let args = ["--follow", "--json", "--since", "2026-01-01T00:00:00Z"];
    let mut process = Process::spawn(tail(&app, &args), None, Signal::KILL);
    for number in 1..6 {
        if number == 3 {
            app.kill9().await;
            app.restart().await;
        }
        app.publish(&event("t", &number.to_string())).await.ok();
        eventually("the line is there", PATIENCE, async || {
            process.stdout().lines().count() > number
        })
        .await;
    }
    let ids: Vec<String> = process
        .stdout()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event_id"].to_string())
        .collect();
    assert_eq!(ids, ["\"0\"", "\"1\"", "\"2\"", "\"3\"", "\"4\"", "\"5\""]);
    assert_eq!(process.stderr().lines().count(), 1, "{}", process.stderr());
    process.signal(Signal::INT);
    let (status, _) = process.wait(PATIENCE).await;
    assert_eq!(status.code(), Some(0));
}

async fn whoever_has_read_enough_may_close_the_pipe(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.batch(&numbered(1000)).await.ok();
    reach(&app, "e-999").await;
    let mut shell = Command::new("bash");
    shell
        .args([
            "-c",
            "set -o pipefail; \"$0\" tail --url \"$1\" | head -n 1",
        ])
        .arg(oncelog().get_program())
        .arg(format!("http://{}", app.address()));
    assert_eq!(printed(shell).await.lines().count(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_or_says_no_is_one_line_and_1() {
    let builder = TestApp::builder(Engine::Sqlite).await;
    let app = builder.set("API_TOKENS", "right").start().await;
    let mut nobody = oncelog();
    nobody.args(["tail", "--follow", "--url"]);
    nobody.arg(format!("http://127.0.0.1:{}", free_port()));
    for (command, expected) in [
        (nobody, "Connection refused"),
        (tail(&app, &["--token", "wrong"]), "401"),
    ] {
        let mut process = Process::spawn(command, None, Signal::KILL);
        let (status, _) = process.wait(PATIENCE).await;
        assert_eq!(status.code(), Some(1));
        let stderr = process.stderr();
        assert!(
            stderr.lines().count() == 1 && stderr.contains(expected),
            "{stderr}"
        );
        assert!(!stderr.contains("wrong"), "{stderr}");
    }
    assert_eq!(printed(tail(&app, &["--token", "right"])).await, "");
}
