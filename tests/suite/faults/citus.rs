//! The statements for Citus, on a plain Postgres with stand-ins for Citus' own functions: they do what the one
//! statement does, and the step that distributes the events is SQL that runs. Citus itself is in no registry
//! that these tests can use, so nothing here says that it takes them.

use super::{Allowance, actors::crash_one, assert_the_accounts_agree, load::Load, seed};
use crate::support::{
    Database, PostgresServer, Subscriber, TestApp, TestAppBuilder, event, eventually,
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

const CLIENTS: u64 = 8;
const SOON: Duration = Duration::from_secs(30);

/// Of the signatures that Citus 12 and 13 document.
const STAND_INS: [&str; 4] = [
    "create schema citus",
    "create type citus.distribution_type as enum ('hash', 'range', 'append')",
    "create table pg_dist_partition (logicalrelid regclass primary key, partkey text)",
    "create function create_distributed_table( \
         table_name regclass, distribution_column text, \
         distribution_type citus.distribution_type default 'hash', \
         colocate_with text default 'default', shard_count int default null \
     ) returns void language sql as \
     $$ insert into pg_dist_partition values (table_name, distribution_column) $$",
];

async fn stand_ins() -> (PostgresServer, TestAppBuilder) {
    let server = PostgresServer::start().await;
    server.execute(&STAND_INS).await;
    let app =
        TestApp::on(Arc::new(Database::at(server.url("postgres")))).set("DATABASE_CITUS", "true");
    (server, app)
}

async fn on_stand_ins() -> (PostgresServer, TestApp) {
    let (server, app) = stand_ins().await;
    let app = app.start().await;
    (server, app)
}

#[tokio::test]
async fn events_are_distributed_by_topic_once_and_nothing_else_is() {
    let (server, mut app) = on_stand_ins().await;
    app.restart().await;
    server
        .says(
            "select count(*) = 1 and min(logicalrelid::text) = 'processed_events' \
                 and min(partkey) = 'topic' from pg_dist_partition",
        )
        .await;
    server
        .says("select count(*) = 0 from pg_trigger where tgrelid = 'processed_events'::regclass")
        .await;
    let mut subscriber = Subscriber::open(&app, "topic=t").await;
    for (id, outcome) in [("1", "stored"), ("2", "stored"), ("1", "duplicate")] {
        assert_eq!(app.publish(&event("t", id)).await.ok()["outcome"], outcome);
    }
    let ids = timeout(SOON, subscriber.next_ids(2)).await.unwrap();
    assert_eq!(ids, ["1", "2"]);
    assert_eq!(app.events("order=asc&topic=t").await.len(), 2);
    assert_eq!(app.events("order=asc").await.len(), 2);
    // Without the trigger nobody would say so.
    app.database()
        .execute("delete from processed_events where event_id = '2'")
        .await;
    assert_eq!(
        app.publish(&event("t", "2")).await.ok()["outcome"],
        "stored"
    );
}

#[tokio::test]
async fn step_by_step_a_group_is_stored_as_by_the_one_statement() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let (_server, app) = on_stand_ins().await;
    let load = Load::start(seed, CLIENTS, vec![format!("http://{}", app.address())]);
    for _ in 0..12 {
        load.answers(10).await;
        crash_one(&app, &mut random).await;
    }
    load.answers(10).await;
    let ledger = load.finish().await;
    assert_the_accounts_agree(&app, &ledger, Allowance::default()).await;
}

const TOPICS: usize = 6;
const OLD_OF_TOPIC: usize = 50;

/// Of several topics, whose names begin so.
fn old_events(kind: &str) -> Vec<Value> {
    let events = (0..TOPICS * OLD_OF_TOPIC).map(|number| {
        let topic = format!("{kind}-{}", number % TOPICS);
        event(&topic, &number.to_string())
    });
    events.collect()
}

#[tokio::test]
async fn retention_goes_topic_by_topic_and_stays_exact_while_its_actor_crashes() {
    let (_server, app) = stand_ins().await;
    let app = app
        .set("RETENTION", "dropped-*=1d,deleted-*=1d:delete")
        .set("DEAD_LETTER_RETENTION", "1d")
        .set("RETENTION_INTERVAL_MS", 100)
        .set("RETENTION_BATCH", 20)
        .start()
        .await;
    let old = i64::try_from(TOPICS * OLD_OF_TOPIC).unwrap();
    for kind in ["dropped", "deleted"] {
        app.batch(&old_events(kind)).await.ok();
    }
    for by_hand in [
        // Before it is old: retention is at it at once.
        "update processed_events set payload = '[1]' where event_id = '7'",
        "update processed_events set processed_at = processed_at - interval '2 days'",
        "insert into dead_letters (origin, reason, entry, is_truncated, received_at) \
         values ('a/1', 'by hand', '', false, now() - interval '2 days')",
    ] {
        app.database().execute(by_hand).await;
    }
    let expired = async || {
        let retention = app.stats().await["retention"].clone();
        ["payloads_dropped", "events_deleted", "dead_letters_deleted"]
            .map(|what| retention[format!("{what}_count")].as_i64().unwrap())
    };
    let mut published = 0;
    let mut points = ["before-commit", "after-commit"].iter().cycle();
    eventually("all of it has expired", SOON, async || {
        let order = json!({ "at": points.next() }).to_string();
        app.post("/admin/actors/retention/crash", order).await;
        let sent = event("young", &published.to_string());
        assert_eq!(app.publish(&sent).await.ok()["outcome"], "stored");
        published += 1;
        expired().await == [old, old, 1]
    })
    .await;
    assert_eq!(app.database().rows().await, old + published);
    let again = app.batch(&old_events("dropped")).await.ok();
    assert_eq!(
        (&again["duplicates"], &again["conflicts"]),
        (&old.into(), &1.into())
    );
    let mut others = old_events("dropped");
    for other in &mut others {
        other["payload"] = json!({ "another": 1 });
    }
    assert_eq!(app.batch(&others).await.ok()["conflicts"], old);
    assert_eq!(app.batch(&old_events("deleted")).await.ok()["stored"], old);
    let dropped = app.events("topic=dropped-0&limit=1").await;
    assert_eq!(dropped[0]["payload_dropped"], true);
    let stats = app.stats().await;
    assert_eq!(stats["unique_processed_count"], 3 * old + published);
    assert_eq!(app.database().rows().await, 2 * old + published);
    eventually("a run has come to its end", SOON, async || {
        app.stats().await["retention"]["last_run_at"].is_string()
    })
    .await;
    assert_eq!(expired().await, [old, old, 1]);
    let actors = app.actors().await;
    let actor = actors.iter().find(|actor| actor["name"] == "retention");
    assert!(actor.unwrap()["restarts"].as_i64() > Some(0));
}
