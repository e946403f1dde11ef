//! A primary dies and its standby is promoted: the service finds it by itself.

use super::{Allowance, assert_the_accounts_agree, load::Load, rows, seed};
use crate::support::{Database, PostgresServer, Subscriber, TestApp, event, eventually};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;

const CLIENTS: u64 = 12;
const SOON: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(60);
/// From the order to promote to the first publish that is answered 200: what is usual is a tenth of that.
const RECOVERY_MAX: Duration = Duration::from_secs(20);
/// What both aggregators say of their one database.
const COUNTS: [&str; 4] = [
    "received_count",
    "unique_processed_count",
    "duplicate_dropped_count",
    "conflict_count",
];

/// One URL with these servers, in this order, and without a word about which of them is wanted.
fn servers(servers: [&PostgresServer; 2]) -> String {
    let [one, other] = servers.map(PostgresServer::address);
    format!("postgres://postgres@{one},{other}/postgres")
}

/// The same as docs/operations.md has it.
fn url_of(pair: [&PostgresServer; 2]) -> String {
    format!("{}?target_session_attrs=read-write", servers(pair))
}

/// On the server that will be the primary in the end: the account is compared with its table.
async fn app_on(url: String, last: &PostgresServer) -> TestApp {
    TestApp::on(Arc::new(Database::at(last.url("postgres"))))
        .set("DATABASE_URL", url)
        .set("DATABASE_STATEMENT_TIMEOUT_MS", 1_000)
        .start()
        .await
}

async fn is_used_again(app: &TestApp) {
    eventually("it is used again", SOON, async || {
        app.status("/readyz").await == Some(200)
    })
    .await;
    assert_eq!(app.get("/health").await.ok()["database_role"], "primary");
}

#[tokio::test]
async fn nothing_that_was_answered_is_lost_with_a_primary_whose_standby_is_synchronous() {
    let mut primary = PostgresServer::start().await;
    let standby = primary.standby().await;
    primary
        .execute(&[
            "alter system set synchronous_standby_names = '*'",
            "select pg_reload_conf()",
        ])
        .await;
    primary
        .says("select bool_or(sync_state = 'sync') from pg_stat_replication")
        .await;
    // The standby comes first, so the service has to pass it over at its start.
    let url = url_of([&standby, &primary]);
    let app = app_on(url.clone(), &standby).await;
    let other = app_on(url, &standby).await;
    let apps = [&app, &other];
    let mut subscriber = Subscriber::open(&app, "").await;
    let urls = apps.map(|app| format!("http://{}", app.address()));
    let load = Load::start(seed(), CLIENTS, urls.to_vec());
    load.answers(100).await;

    primary.kill().await;
    // Answers that were on their way have come by then.
    let is_cut_off = "select count(*) = 0 from pg_stat_wal_receiver";
    standby.says(is_cut_off).await;
    let (answered, promotion) = (load.answered(), Instant::now());
    standby.execute(&["select pg_promote()"]).await;
    let promoted = promotion.elapsed();
    load.answers_beyond(answered).await;
    let first = promotion.elapsed();
    for app in apps {
        is_used_again(app).await;
    }
    eprintln!(
        "promotion ordered, done after {promoted:?}, first publish answered after {first:?}, both \
         aggregators ready after {:?}",
        promotion.elapsed()
    );
    assert!(first < RECOVERY_MAX, "{first:?}");
    load.answers(100).await;

    let ledger = load.finish().await;
    assert_the_accounts_agree(&app, &ledger, Allowance::default()).await;
    let (mine, theirs) = (app.stats().await, other.stats().await);
    for count in COUNTS {
        assert_eq!(mine[count], theirs[count], "{count}");
    }
    for app in apps {
        let moves = app.log();
        let moves = moves.matches("the database is on another server now");
        assert!(moves.count() >= 2, "past the standby, and back to it");
    }
    let stored: BTreeSet<(String, String)> = rows(&standby.url("postgres"))
        .await
        .into_keys()
        .map(|key| (key.topic, key.event_id))
        .collect();
    let mut seen = BTreeSet::new();
    let all = async {
        while seen.len() < stored.len() {
            let event = subscriber.next().await.expect("an open stream");
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            let is_new = seen.insert((text("topic"), text("event_id")));
            assert!(is_new, "{event} came twice");
        }
    };
    let is_all = timeout(PATIENCE, all).await.is_ok();
    assert!(is_all, "{} of {} events", seen.len(), stored.len());
    assert_eq!(seen, stored);
}

#[tokio::test]
async fn what_an_asynchronous_standby_never_got_is_stored_anew_and_not_taken_from_memory() {
    let mut primary = PostgresServer::start().await;
    let standby = primary.standby().await;
    let app = app_on(url_of([&primary, &standby]), &standby).await;
    let (kept, lost) = (event("t", "kept"), event("t", "lost"));
    assert_eq!(app.publish(&kept).await.ok()["outcome"], "stored");
    standby
        .says("select count(*) = 1 from processed_events")
        .await;
    standby
        .execute(&[
            "alter system set primary_conninfo = ''",
            "select pg_reload_conf()",
        ])
        .await;
    primary
        .says("select count(*) = 0 from pg_stat_replication")
        .await;
    assert_eq!(app.publish(&lost).await.ok()["outcome"], "stored");
    // From memory.
    assert_eq!(app.publish(&lost).await.ok()["outcome"], "duplicate");

    primary.kill().await;
    standby.execute(&["select pg_promote()"]).await;
    is_used_again(&app).await;
    let mut outcome = String::new();
    eventually("an answer", SOON, async || {
        let answer = app.publish(&lost).await;
        if answer.status == 200 {
            answer.ok()["outcome"]
                .as_str()
                .unwrap()
                .clone_into(&mut outcome);
        }
        answer.status == 200
    })
    .await;
    assert_eq!(outcome, "stored");
    assert_eq!(app.publish(&kept).await.ok()["outcome"], "duplicate");
    assert_eq!(app.publish(&lost).await.ok()["outcome"], "duplicate");
    app.assert_counters_are_exact().await;
}

#[tokio::test]
async fn a_primary_that_takes_no_more_writes_is_left_for_the_next_one() {
    let primary = PostgresServer::start().await;
    let other = PostgresServer::start().await;
    let app = app_on(servers([&primary, &other]), &other).await;
    assert_eq!(app.publish(&event("t", "1")).await.status, 200);
    primary
        .execute(&[
            "alter system set default_transaction_read_only = on",
            "select pg_reload_conf()",
        ])
        .await;
    // Before that the event could be stored where it must not be.
    primary
        .says("select current_setting('transaction_read_only') = 'on'")
        .await;
    // Which has nothing of ours yet, not even the tables.
    eventually("stored on the other one", SOON, async || {
        app.publish(&event("t", "2")).await.status == 200
    })
    .await;
    is_used_again(&app).await;
    assert_eq!(app.database().rows().await, 1);
    assert_eq!(app.events("").await.len(), 1);
    app.assert_counters_are_exact().await;
}
