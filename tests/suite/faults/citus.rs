//! The statements for Citus, on a plain Postgres with stand-ins for Citus' own functions: they do what the one
//! statement does, and the step that distributes the events is SQL that runs. Citus itself is in no registry
//! that these tests can use, so nothing here says that it takes them.

use super::{Allowance, actors::crash_one, assert_the_accounts_agree, load::Load, seed};
use crate::support::{Database, PostgresServer, Subscriber, TestApp, event};
use rand::{SeedableRng, rngs::StdRng};
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

async fn on_stand_ins() -> (PostgresServer, TestApp) {
    let server = PostgresServer::start().await;
    server.execute(&STAND_INS).await;
    let app = TestApp::on(Arc::new(Database::at(server.url("postgres"))))
        .set("DATABASE_CITUS", "true")
        .start()
        .await;
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
