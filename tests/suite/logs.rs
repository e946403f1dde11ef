//! The log: the files that keep it, and what it warns of at the start.

use crate::support::{
    Database, Engine, PostgresServer, Process, Sabotage, TestApp, event, eventually, oncelog,
};
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};
use std::{fs, sync::Arc, time::Duration};

const WITHIN: Duration = Duration::from_secs(10);
/// Between two looks of the service at the database's settings.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

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

/// What the log says that is switched off, each time that it says so.
fn warnings(app: &TestApp) -> Vec<String> {
    let log = app.log();
    let warnings = log.lines().filter(|line| line.contains("NOT DURABLE"));
    let off = |line: &str| {
        line.split("off=\"")
            .nth(1)?
            .split('"')
            .next()
            .map(str::to_owned)
    };
    warnings.map(|line| off(line).expect(line)).collect()
}

async fn durability(app: &TestApp) -> String {
    let health = app.get("/health").await.ok();
    health["durability"].as_str().unwrap().to_owned()
}

/// A server that loses nothing, until it is told to, and one that may.
async fn sound_and_unsound() -> (PostgresServer, PostgresServer) {
    let mut sound = PostgresServer::prepared().sabotaged(&Sabotage::prepare());
    sound.start_again().await;
    (sound, PostgresServer::start().await)
}

#[tokio::test]
async fn a_database_that_forgets_nothing_is_ok_and_warned_of_by_nobody() {
    let (sound, _) = sound_and_unsound().await;
    let postgres = TestApp::on(Arc::new(Database::at(sound.url("postgres"))));
    let apps = [postgres.start().await, TestApp::start(Engine::Sqlite).await];
    for app in &apps {
        assert_eq!(durability(app).await, "ok");
    }
    // Looked at twice by then, and nothing comes of it.
    tokio::time::sleep(LOOK_PAUSE + LOOK_PAUSE / 4).await;
    for app in &apps {
        assert_eq!(warnings(app), Vec::<String>::new());
        assert_eq!(durability(app).await, "ok");
    }
}

#[tokio::test]
async fn each_setting_with_which_a_database_may_forget_is_named_in_health_and_log() {
    let (sound, unsound) = sound_and_unsound().await;
    for (server, statement, expected) in [
        // It has no fsync, as all servers of the tests.
        (&unsound, "select 1", "fsync"),
        (
            &sound,
            "alter system set full_page_writes = off",
            "full_page_writes",
        ),
        (
            &sound,
            "alter system set synchronous_commit = off",
            "full_page_writes, synchronous_commit",
        ),
        (
            &sound,
            "alter system reset full_page_writes",
            "synchronous_commit",
        ),
    ] {
        server
            .execute(&[statement, "select pg_reload_conf()"])
            .await;
        let app = TestApp::on(Arc::new(Database::at(server.url("postgres"))));
        let app = app.start().await;
        // The server takes its settings up at its leisure.
        let in_health = expected
            .split(", ")
            .map(|name| format!("{name} is off"))
            .collect::<Vec<_>>()
            .join(", ");
        eventually(&in_health, WITHIN, async || {
            durability(&app).await == in_health
        })
        .await;
        eventually(
            &format!("the log warns of {expected}"),
            WITHIN,
            async || warnings(&app).last().is_some_and(|off| off == expected),
        )
        .await;
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_asked_at_the_start_is_asked_again() {
    let server = PostgresServer::start().await;
    server
        .execute(&[
            "create role service login",
            "create database events owner service",
        ])
        .await;
    let url = server.url("events");
    let mut owner = PgConnection::connect(&url).await.unwrap();
    let mut execute = async |statement: &'static str| {
        sqlx::query(statement).execute(&mut owner).await.unwrap();
    };
    execute("revoke select on pg_settings from public").await;
    let url = url.replace("postgres@", "service@");
    let app = TestApp::on(Arc::new(Database::at(url))).start().await;
    assert_eq!(durability(&app).await, "unknown");
    app.publish(&event("t", "e")).await.ok();
    assert_eq!(warnings(&app), Vec::<String>::new());
    execute("grant select on pg_settings to public").await;
    eventually("the log warns", WITHIN, async || {
        warnings(&app) == ["fsync"]
    })
    .await;
}

#[tokio::test]
async fn a_server_that_takes_over_and_may_forget_is_warned_of_too() {
    let (mut sound, unsound) = sound_and_unsound().await;
    let [first, second] = [sound.address(), unsound.address()];
    let app = TestApp::on(Arc::new(Database::at(unsound.url("postgres"))))
        .set(
            "DATABASE_URL",
            format!("postgres://postgres@{first},{second}/postgres"),
        )
        .start()
        .await;
    assert_eq!(durability(&app).await, "ok");
    assert_eq!(warnings(&app), Vec::<String>::new());
    sound.kill().await;
    eventually("the log warns", 3 * WITHIN, async || {
        warnings(&app) == ["fsync"]
    })
    .await;
    assert_eq!(durability(&app).await, "fsync is off");
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
