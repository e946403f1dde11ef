//! The process: how it starts, how it refuses to, and what it never shows.

use crate::support::{Engine, Process, TestApp, oncelog};
use rustix::process::Signal;
use std::{process::Command, time::Duration};

const END_MAX: Duration = Duration::from_secs(15);

/// Runs it to its end: exit code, stdout, stderr.
async fn run(command: Command) -> (Option<i32>, String, String) {
    let mut process = Process::spawn(command, None, Signal::KILL);
    let (status, _) = process.wait(END_MAX).await;
    (status.code(), process.stdout(), process.stderr())
}

fn with(variable: &str, value: &str) -> Command {
    let mut command = oncelog();
    command.env(variable, value);
    command
}

#[tokio::test]
async fn a_wrong_setting_is_one_line_that_names_it_and_exit_2() {
    for (variable, value) in [
        ("BIND", "nowhere"),
        ("DATABASE_URL", "mysql://root:topsecret@localhost/x"),
        ("DATABASE_URL", "sqlite::memory:"),
        ("DATABASE_URL", "sqlite://:memory:"),
        ("DATABASE_URL", "sqlite://events.db?mode=memory"),
        ("DATABASE_URL", "sqlite://events.db?nothing=known"),
        ("DATABASE_URL", "sqlite:///dev/null/below-a-file/events.db"),
        ("REDIS_URL", "http://127.0.0.1"),
        ("PERSIST_ACTORS", "0"),
        ("MAX_BODY_BYTES", "-1"),
        ("LOG_FORMAT", "xml"),
        ("API_TOKENS", ","),
        ("API_TOKENS_FILE", "/nowhere/topsecret"),
        ("ADMIN_TOKEN_FILE", "/dev/null"),
    ] {
        let (code, _, stderr) = run(with(variable, value)).await;
        assert_eq!(code, Some(2), "{variable}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{variable}: {stderr}");
        assert!(stderr.contains(variable), "{variable}: {stderr}");
        assert!(!stderr.contains("topsecret"), "{stderr}");
    }
}

#[tokio::test]
async fn a_taken_port_is_one_line_and_a_failure() {
    let app = TestApp::start(Engine::Postgres).await;
    let mut second = with("BIND", &app.address().to_string());
    second.env("DATABASE_URL", app.database().url());
    let (code, _, stderr) = run(second).await;
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(&app.address().to_string()), "{stderr}");
}

#[tokio::test]
async fn the_healthcheck_is_0_beside_a_healthy_service_and_1_beside_none() {
    let mut app = TestApp::start(Engine::Postgres).await;
    let check = || {
        let mut command = with("BIND", &app.address().to_string());
        command.arg("healthcheck");
        command
    };
    let (beside, alone) = (check(), check());
    assert_eq!(run(beside).await.0, Some(0));
    app.kill9().await;
    let (code, _, stderr) = run(alone).await;
    assert_eq!(code, Some(1));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[tokio::test]
async fn no_secret_shows_in_the_help_or_in_the_log() {
    let secrets = ["admin-hush-1", "api-hush-2"];
    let mut help = oncelog();
    help.arg("--help")
        .env("ADMIN_TOKEN", secrets[0])
        .env("API_TOKENS", secrets[1]);
    help.env("DATABASE_URL", "postgres://u:db-hush-3@127.0.0.1/x");
    let (code, stdout, _) = run(help).await;
    assert_eq!(code, Some(0));
    assert!(stdout.contains("--admin-token"));
    assert!(!stdout.contains("hush"), "{stdout}");

    let app = TestApp::builder(Engine::Postgres)
        .await
        .set("ADMIN_TOKEN", secrets[0])
        .set("API_TOKENS", secrets[1])
        .set("RUST_LOG", "debug")
        .start()
        .await;
    app.get("/events").await.problem(401);
    let log = app.log();
    assert!(log.contains("serving"), "{log}");
    assert!(!log.contains("hush"), "{log}");
}
