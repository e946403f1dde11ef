//! The log: the files that keep it, and what it warns of at the start.

use crate::support::{Database, Engine, Process, TestApp, event, eventually, oncelog};
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};
use std::{fs, sync::Arc, time::Duration};

const WITHIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_log_is_kept_as_json_in_the_directory_too() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("logs");
    let app = TestApp::builder(Engine::Sqlite)
        .await
        .set("LOG_DIR", directory.display())
        .start()
        .await;
    assert!(app.log().contains("serving"), "stdout has it as well");
    assert_eq!(app.stderr(), "");
    let files: Vec<_> = fs::read_dir(&directory).unwrap().flatten().collect();
    assert_eq!(files.len(), 1);
    let name = files[0].file_name().into_string().unwrap();
    assert!(
        name.starts_with("oncelog.") && name.ends_with(".log"),
        "{name}"
    );
    let text = fs::read_to_string(files[0].path()).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines.iter().any(|line| line["message"] == "serving"),
        "{text}"
    );
}

#[tokio::test]
async fn a_log_directory_that_cannot_be_written_is_one_line_and_a_failure() {
    let mut command = oncelog();
    command.env("LOG_DIR", "/dev/null/logs");
    let mut process = Process::spawn(command, None, Signal::KILL);
    let (status, _) = process.wait(WITHIN).await;
    let stderr = process.stderr();
    assert!(matches!(status.code(), Some(1 | 2)), "{status}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("LOG_DIR"), "{stderr}");
}

#[tokio::test]
async fn the_published_secret_is_refused_but_for_development_and_not_shown() {
    let known = "oncelog-development-only";
    let mut command = oncelog();
    command.env("ADMIN_TOKEN", known);
    let mut process = Process::spawn(command, None, Signal::KILL);
    let (status, _) = process.wait(WITHIN).await;
    let stderr = process.stderr();
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("ADMIN_TOKEN") && !stderr.contains(known),
        "{stderr}"
    );

    let warned = |app: &TestApp| app.log().contains("set your own");
    let app = TestApp::builder(Engine::Sqlite)
        .await
        .set("ADMIN_TOKEN", known)
        .set("DEVELOPMENT", "true")
        .start()
        .await;
    let log = app.log();
    assert!(warned(&app) && log.contains("ADMIN_TOKEN"), "{log}");
    assert!(!log.contains(known), "{log}");
    let own = TestApp::builder(Engine::Sqlite).await;
    assert!(!warned(&own.set("ADMIN_TOKEN", "own").start().await));
}

#[tokio::test]
async fn a_database_that_may_forget_is_told_in_health_and_log() {
    let sound = TestApp::start(Engine::Sqlite).await;
    assert_eq!(sound.get("/health").await.ok()["durability"], "ok");
    assert!(!sound.log().contains("NOT DURABLE"));
    // The tests' own Postgres runs without fsync already; this is one more.
    let database = Arc::new(Database::create(Engine::Postgres).await);
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let statement = "do $$ begin execute format('alter database %I set synchronous_commit = off', \
        current_database()); end $$";
    sqlx::query(statement)
        .execute(&mut connection)
        .await
        .unwrap();
    let unsound = TestApp::on(database).start().await;
    let durability = unsound.get("/health").await.ok()["durability"].to_string();
    assert!(
        durability.contains("synchronous_commit is off"),
        "{durability}"
    );
    eventually("the log warns", WITHIN, async || {
        unsound.log().contains("NOT DURABLE")
    })
    .await;
}

#[tokio::test]
async fn why_an_actor_ended_is_a_sentence_and_where_is_for_the_log() {
    let app = TestApp::start(Engine::Sqlite).await;
    for (crash, reason) in [
        ("", "crashed on request (now)"),
        (
            r#"{"at":"before-commit"}"#,
            "crashed on request (before-commit)",
        ),
        (
            r#"{"at":"after-commit"}"#,
            "crashed on request (after-commit)",
        ),
        (r#"{"mode":"stop"}"#, "stopped"),
    ] {
        let path = "/admin/actors/persist-0/crash";
        eventually("the actor can be crashed", WITHIN, async || {
            app.post(path, crash).await.status == 202
        })
        .await;
        // Around a commit there has to be one.
        app.publish(&event("orders", reason)).await.ok();
        eventually(reason, WITHIN, async || {
            let actors = app.actors().await;
            let actor = actors.iter().find(|actor| actor["name"] == "persist-0");
            actor.unwrap()["last_failure"]["reason"] == reason
        })
        .await;
    }
    let log = app.log();
    let ends: Vec<_> = log
        .lines()
        .filter(|line| line.contains("actor ended"))
        .collect();
    assert_eq!(ends.len(), 4, "{log}");
    assert!(ends[0].contains("location=\"src/"), "{log}");
    assert!(!ends[3].contains("location"), "{log}");
}
