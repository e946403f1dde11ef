//! `/metrics`: its counters are those of `/stats`, and its text is what Prometheus reads.

use crate::support::{Engine, TestApp, event};
use serde_json::json;
use std::collections::BTreeSet;

/// The value of a sample without labels.
fn value(text: &str, name: &str) -> i64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    value.parse().unwrap()
}

on_both_engines!(the_counters_grow_as_those_of_stats_do);

async fn the_counters_grow_as_those_of_stats_do(engine: Engine) {
    let app = TestApp::start(engine).await;
    let events: Vec<_> = (0..20).map(|n| event("t", &format!("e{n}"))).collect();
    app.batch(&events).await.ok();
    app.batch(&events[..7]).await.ok();
    let mut other = event("t", "e0");
    other["source"] = json!("another");
    app.publish(&other).await.ok();
    app.publish(&json!({})).await.problem(422);
    app.batch(&[event("t", ""), event("t", "new")])
        .await
        .problem(422);
    let stats = app.stats().await;
    let metrics = app.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    for (metric, stat, expected) in [
        ("oncelog_events_stored_total", "unique_processed_count", 20),
        (
            "oncelog_events_duplicate_total",
            "duplicate_dropped_count",
            8,
        ),
        ("oncelog_events_conflict_total", "conflict_count", 1),
        ("oncelog_events_rejected_total", "rejected_count", 3),
    ] {
        assert_eq!(value(&metrics.text, metric), expected, "{metric}");
        assert_eq!(stats[stat], expected, "{stat}");
    }
}

#[tokio::test]
async fn every_sample_has_a_family_with_help_and_type_before_it() {
    let app = TestApp::start(Engine::Sqlite).await;
    let text = app.get("/metrics").await.text;
    let (mut helped, mut typed) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["#", "HELP", name, _, ..] => assert!(helped.insert(name), "twice: {line}"),
            ["#", "TYPE", name, "counter" | "gauge" | "histogram"] => {
                assert!(helped.contains(name) && typed.insert(name), "{line}");
            }
            [sample, number] => {
                let name = sample.split('{').next().unwrap();
                let suffixes = ["_bucket", "_sum", "_count"].iter();
                let mut families = suffixes.filter_map(|suffix| name.strip_suffix(suffix));
                let has_family =
                    typed.contains(name) || families.any(|family| typed.contains(family));
                assert!(has_family && number.parse::<f64>().is_ok(), "{line}");
            }
            _ => panic!("{line}"),
        }
    }
    assert!(typed.len() > 10, "{text}");
}
