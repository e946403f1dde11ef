//! Actors and the process die.

use super::{Allowance, assert_the_accounts_agree, load::Load, restarts, seed};
use crate::support::{Client, Engine, TestApp};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

const CLIENTS: u64 = 12;

/// Crashes a random actor in a random way; whether it was told to.
pub(super) async fn crash_one(client: &Client, random: &mut StdRng) -> bool {
    let actors = client.actors().await;
    let actor = actors.choose(random).unwrap();
    let name = actor["name"].as_str().unwrap();
    let order = if actor["kind"] == "persist" {
        match random.random_range(0..5) {
            0 => json!({ "mode": "stop" }),
            1 => json!({ "at": "idle" }),
            2 => json!({ "at": "before-commit" }),
            3 => json!({ "at": "after-commit" }),
            _ => json!({ "mode": "panic" }),
        }
    } else {
        let mode = ["panic", "stop"].choose(random).unwrap();
        json!({ "mode": mode })
    };
    let path = format!("/admin/actors/{name}/crash");
    let answer = client.post(&path, order.to_string()).await;
    match answer.status {
        202 => true,
        409 => false,
        other => panic!("crash of {name}: {other} {}", answer.text),
    }
}

async fn actors_may_crash_at_any_moment_and_no_client_sees_an_error(engine: Engine) {
    let seed = seed();
    let app = TestApp::start(engine).await;
    let load = Load::start(seed, CLIENTS, vec![format!("http://{}", app.address())]);
    let mut random = StdRng::seed_from_u64(seed);
    let mut crashes = 0;
    while crashes < 25 {
        crashes += u64::from(crash_one(&app, &mut random).await);
        // The pace of the faults, not a wait for anything.
        sleep(Duration::from_millis(200)).await;
    }
    load.answers(50).await;
    let ledger = load.finish().await;
    // Orders for a moment that never came before the next order replaced them are no restart.
    let restarts = restarts(&app).await;
    assert!(
        restarts >= crashes / 2,
        "{restarts} restarts of {crashes} crashes"
    );
    assert_eq!(ledger.first_errors(), Vec::<String>::new());
    assert_the_accounts_agree(&app, &ledger, Allowance::default()).await;
}

async fn all_actors_may_crash_at_once(engine: Engine) {
    let app = TestApp::start(engine).await;
    let load = Load::start(seed(), CLIENTS, vec![format!("http://{}", app.address())]);
    for _ in 0..5 {
        load.answers(20).await;
        for actor in app.actors().await {
            let name = actor["name"].as_str().unwrap();
            let answer = app.post(&format!("/admin/actors/{name}/crash"), "{}").await;
            assert!([202, 409].contains(&answer.status), "{}", answer.text);
        }
    }
    load.answers(50).await;
    let ledger = load.finish().await;
    assert!(restarts(&app).await >= 10);
    assert_eq!(ledger.first_errors(), Vec::<String>::new());
    assert_the_accounts_agree(&app, &ledger, Allowance::default()).await;
}

async fn a_crash_after_the_commit_leaves_outcomes_and_counters_exact(engine: Engine) {
    let app = TestApp::builder(engine)
        .await
        .set("PERSIST_ACTORS", 1)
        .start()
        .await;
    for round in 0..10 {
        let path = "/admin/actors/persist-0/crash";
        let order = r#"{"at":"after-commit"}"#;
        crate::support::eventually("the order is taken", Duration::from_secs(10), async || {
            app.post(path, order).await.status == 202
        })
        .await;
        let event = crate::support::event("crashed", &round.to_string());
        // Its first answer comes from a later life than the one that committed it.
        assert_eq!(app.publish(&event).await.ok()["outcome"], "stored");
        assert_eq!(app.publish(&event).await.ok()["outcome"], "duplicate");
    }
    assert!(restarts(&app).await >= 10);
    let stats = app.assert_counters_are_exact().await;
    assert_eq!(stats["unique_processed_count"], 10);
    assert_eq!(stats["duplicate_dropped_count"], 10);
}

async fn a_killed_process_has_stored_what_it_answered(engine: Engine) {
    let mut app = TestApp::start(engine).await;
    let load = Load::start(seed(), CLIENTS, vec![format!("http://{}", app.address())]);
    for _ in 0..3 {
        load.answers(60).await;
        app.kill9().await;
        app.restart().await;
    }
    load.answers(60).await;
    let ledger = load.finish().await;
    assert!(ledger.sums().errors >= 3, "nobody noticed the kills");
    assert_the_accounts_agree(&app, &ledger, Allowance::default()).await;
}

async fn a_terminated_process_ends_well_and_has_stored_what_it_answered(engine: Engine) {
    let mut app = TestApp::start(engine).await;
    let load = Load::start(seed(), CLIENTS, vec![format!("http://{}", app.address())]);
    for _ in 0..3 {
        load.answers(60).await;
        let (status, took) = app.terminate().await;
        assert_eq!(status.code(), Some(0), "{}", app.stderr());
        assert!(took < Duration::from_secs(10), "took {took:?}");
        app.restart().await;
    }
    load.answers(60).await;
    let ledger = load.finish().await;
    assert_the_accounts_agree(&app, &ledger, Allowance::default()).await;
}

on_both_engines!(
    actors_may_crash_at_any_moment_and_no_client_sees_an_error,
    all_actors_may_crash_at_once,
    a_crash_after_the_commit_leaves_outcomes_and_counters_exact,
    a_killed_process_has_stored_what_it_answered,
    a_terminated_process_ends_well_and_has_stored_what_it_answered,
);
