//! A database that an older version has left, of any schema there has been: this version brings it up to date and
//! goes on, with every event, key and counter as it was. That an older version works beside this one is shown by
//! `scripts/check-upgrade.sh`, which needs one.

use crate::support::{Database, Engine, TestApp, event};
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, PgConnection, SqliteConnection, migrate::Migrator, raw_sql};
use std::{fs, path::Path, sync::Arc};

on_both_engines!(a_database_of_any_earlier_schema_is_brought_up_to_date);

fn directory(engine: Engine) -> &'static Path {
    Path::new(match engine {
        Engine::Postgres => concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres"),
        Engine::Sqlite => concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite"),
    })
}

/// The numbers of all migrations.
fn all(engine: Engine) -> Vec<u32> {
    let files = fs::read_dir(directory(engine)).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut numbers: Vec<u32> = names.map(|name| name[..4].parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// Does what an older version did at its first start, which knew these migrations; and stores an event and its
/// repeat, in the words of the first schema.
async fn leave(database: &Database, engine: Engine, known: &[u32]) {
    let only = tempfile::tempdir().unwrap();
    for file in fs::read_dir(directory(engine)).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        if known.contains(&name[..4].parse().unwrap()) {
            fs::copy(file.path(), only.path().join(name)).unwrap();
        }
    }
    let migrator = Migrator::new(only.path()).await.unwrap();
    match engine {
        Engine::Postgres => {
            let mut connection = PgConnection::connect(database.url()).await.unwrap();
            migrator.run(&mut connection).await.unwrap();
            raw_sql(STORED_IN_POSTGRES)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        Engine::Sqlite => {
            let url = format!("{}?mode=rwc", database.url());
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            migrator.run(&mut connection).await.unwrap();
            raw_sql(STORED_IN_SQLITE)
                .execute(&mut connection)
                .await
                .unwrap();
        }
    }
}

const STORED_IN_POSTGRES: &str = r#"
    insert into processed_events (topic, event_id, timestamp, source, payload, seq)
    values ('old', 'e', '2026-01-31T12:00:00Z', 'suite', '{"n": 12345678901234567890}', 0);
    insert into system_stats (slot, received_count, unique_processed_count, duplicate_dropped_count, topics_count)
    values (1, 2, 1, 1, 1);
    insert into topics (topic) values ('old');
    insert into topic_deltas (slot, topics, unique_counts, duplicate_counts) values (1, '{old}', '{1}', '{1}');
"#;

const STORED_IN_SQLITE: &str = r#"
    insert into processed_events (topic, event_id, timestamp, source, payload, processed_at, txn)
    values ('old', 'e', 1769860800000000, 'suite', '{"n": 12345678901234567890}', 1769860800000000, 1);
    insert into system_stats
        (slot, received_count, unique_processed_count, duplicate_dropped_count, topics_count, updated_at)
    values (1, 2, 1, 1, 1, 1769860800000000);
    insert into topics (topic, first_stored_at) values ('old', 1769860800000000);
    insert into topic_stats (topic, unique_count, duplicate_count, last_stored_at)
    values ('old', 1, 1, 1769860800000000);
"#;

/// What was stored, as a client sends it.
fn sent_again(payload: &'static str) -> String {
    format!(
        r#"{{"topic":"old","event_id":"e","timestamp":"2026-01-31T12:00:00Z","source":"suite","payload":{payload}}}"#
    )
}

async fn a_database_of_any_earlier_schema_is_brought_up_to_date(engine: Engine) {
    let all = all(engine);
    let mut schemas: Vec<Vec<u32>> = (1..=all.len()).map(|count| all[..count].to_vec()).collect();
    // The sixth was there before the fifth.
    schemas.push(vec![1, 2, 3, 4, 6]);
    for known in schemas {
        let database = Database::create(engine).await;
        leave(&database, engine, &known).await;
        let app = TestApp::on(Arc::new(database)).start().await;
        let outcome = async |body: String| {
            let request = app.request(Method::POST, "/publish").body(body);
            let answer = crate::support::Answer::of(request).await.ok();
            answer["outcome"].as_str().unwrap().to_owned()
        };
        let stored = app.get("/events/old/e").await;
        assert_eq!(stored.status, 200, "{known:?}: {}", stored.text);
        assert!(
            stored.text.contains(r#"{"n": 12345678901234567890}"#),
            "{known:?}: {}",
            stored.text
        );
        let same = outcome(sent_again(r#"{"n":12345678901234567890}"#)).await;
        let other = outcome(sent_again(r#"{"n":12345678901234567891}"#)).await;
        assert_eq!(
            (same.as_str(), other.as_str()),
            ("duplicate", "conflict"),
            "{known:?}"
        );
        app.publish(&event("new", "e")).await.ok();
        assert_eq!(app.events("").await.len(), 2, "{known:?}");
        let stats = app.assert_counters_are_exact().await;
        let counts = [
            "received_count",
            "unique_processed_count",
            "conflict_count",
            "topics_count",
        ];
        assert_eq!(
            json!(counts.map(|name| &stats[name])),
            json!([5, 2, 1, 2]),
            "{known:?}"
        );
        let topics = app.get("/topics").await.ok();
        let old = &topics["topics"][1];
        assert_eq!(
            json!([old["topic"], old["unique_count"], old["duplicate_count"]]),
            json!(["old", 1, 3])
        );
        let versions = "select count(*) from _sqlx_migrations where success";
        let versions = app.database().number(versions).await;
        assert_eq!(usize::try_from(versions), Ok(all.len()), "{known:?}");
    }
}
