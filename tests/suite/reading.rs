//! Reading what is stored: pages, single events, topics.

use crate::support::{Engine, Subscriber, TestApp, event, eventually, large_event};
use serde_json::{Value, json};
use std::time::Duration;

on_both_engines!(
    pages_of_any_size_are_the_whole_in_either_order_under_every_filter,
    an_empty_page_at_the_end_of_an_ascending_walk_leads_on,
    a_wrong_parameter_is_400_and_named,
    an_event_is_found_by_its_key_whatever_is_in_it,
    topics_are_counted_and_come_in_pages,
    a_page_larger_than_the_largest_is_cut,
    pages_of_large_events_end_early_and_lead_on,
);

const EVENTS: usize = 24;
/// Far longer than any other test keeps a transaction open.
const TAIL_MAX: Duration = Duration::from_secs(20);

/// Every combination of two topics, two sources and some times, in an order of their own.
async fn store_mixed(app: &TestApp) -> Vec<Value> {
    let mut events = Vec::new();
    for number in 0..EVENTS {
        let mut event = event(["a", "b c"][number % 2], &format!("e-{number}"));
        event["source"] = json!(["s", "t&u"][number / 2 % 2]);
        event["timestamp"] = json!(format!(
            "2026-01-{:02}T00:00:00.000000Z",
            1 + number * 7 % EVENTS
        ));
        assert_eq!(app.publish(&event).await.ok()["outcome"], "stored");
        events.push(event);
    }
    reach(app, EVENTS).await;
    events
}

/// Waits until an ascending walk meets so many events. A transaction of another test on the same server may
/// hold them back for longer than a page waits.
async fn reach(app: &TestApp, events: usize) {
    eventually("the end is reached", TAIL_MAX, async || {
        walk(app, "order=asc", EVENTS).await.0.len() == events
    })
    .await;
}

/// All pages of a query, joined; and the last cursor.
async fn walk(app: &TestApp, query: &str, limit: usize) -> (Vec<Value>, Value) {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/events?{query}&limit={limit}&cursor={cursor}");
        let page = app.get(&path).await.ok();
        let events = page["events"].as_array().unwrap();
        assert!(events.len() <= limit, "{path}");
        assert_eq!(page["count"], events.len(), "{path}");
        ids.extend(events.iter().map(|event| event["event_id"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) if !events.is_empty() => next.clone_into(&mut cursor),
            _ => return (ids, page["next_cursor"].clone()),
        }
    }
}

async fn pages_of_any_size_are_the_whole_in_either_order_under_every_filter(engine: Engine) {
    let app = TestApp::start(engine).await;
    let stored = store_mixed(&app).await;
    let (since, until) = ("2026-01-05T00:00:00.000000Z", "2026-01-19T00:00:00.000000Z");
    for filters in 0..8 {
        let (by_topic, by_source, by_time) = (filters & 1 != 0, filters & 2 != 0, filters & 4 != 0);
        let mut query = String::new();
        if by_topic {
            query.push_str("&topic=b+c");
        }
        if by_source {
            query.push_str("&source=t%26u");
        }
        if by_time {
            query.push_str(&format!("&since={since}&until={until}"));
        }
        let mut expected: Vec<Value> = stored
            .iter()
            .filter(|event| {
                let time = event["timestamp"].as_str().unwrap();
                (!by_topic || event["topic"] == "b c")
                    && (!by_source || event["source"] == "t&u")
                    && (!by_time || (since..until).contains(&time))
            })
            .map(|event| event["event_id"].clone())
            .collect();
        assert!(expected.len() > 2, "{query} tells nothing");
        for order in ["asc", "desc"] {
            for limit in 1..=expected.len() + 1 {
                let query = format!("order={order}{query}");
                let (found, cursor) = walk(&app, &query, limit).await;
                assert_eq!(found, expected, "{query} by {limit}");
                assert_eq!(cursor.is_string(), order == "asc", "{query} by {limit}");
            }
            expected.reverse();
        }
    }
}

async fn an_empty_page_at_the_end_of_an_ascending_walk_leads_on(engine: Engine) {
    let app = TestApp::start(engine).await;
    let (none, cursor) = walk(&app, "order=asc", 10).await;
    assert!(none.is_empty());
    app.publish(&event("t", "1")).await.ok();
    reach(&app, 1).await;
    let path = |cursor: &Value| format!("/events?order=asc&cursor={}", cursor.as_str().unwrap());
    let page = app.get(&path(&cursor)).await.ok();
    assert_eq!(page["events"][0]["event_id"], "1");
    let (_, cursor) = walk(&app, "order=asc", 10).await;
    app.publish(&event("t", "2")).await.ok();
    reach(&app, 2).await;
    let page = app.get(&path(&cursor)).await.ok();
    assert_eq!(page["count"], 1);
    assert_eq!(page["events"][0]["event_id"], "2");
}

async fn a_wrong_parameter_is_400_and_named(engine: Engine) {
    let app = TestApp::start(engine).await;
    for (path, name) in [
        ("/events?cursor=x", "cursor"),
        ("/events?cursor=1", "cursor"),
        ("/events?cursor=1-2-3", "cursor"),
        ("/events?cursor=-1-2", "cursor"),
        ("/events?cursor=1-99999999999999999999", "cursor"),
        ("/events/stream?cursor=x", "cursor"),
        ("/events?limit=0", "limit"),
        ("/events?limit=-1", "limit"),
        ("/events?limit=1.5", "limit"),
        ("/topics?limit=0", "limit"),
        ("/events?order=up", "order"),
        ("/events?since=yesterday", "since"),
        ("/events?until=2026-02-30T00:00:00Z", "until"),
        ("/events?topic=%20", "topic"),
        ("/events?source=%00", "source"),
    ] {
        let problem = app.get(path).await.problem(400);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(name), "{path}: {detail}");
    }
}

async fn an_event_is_found_by_its_key_whatever_is_in_it(engine: Engine) {
    let app = TestApp::start(engine).await;
    let paths = [
        ("plain", "1", "plain/1"),
        ("a/b ü", "x/1", "a%2Fb%20%C3%BC/x%2F1"),
        ("a", "b/c", "a/b%2Fc"),
        ("a/b", "c", "a%2Fb/c"),
        ("%2F", "%", "%252F/%25"),
        ("名前", "🦀?#", "%E5%90%8D%E5%89%8D/%F0%9F%A6%80%3F%23"),
        ("a+b", "c;d", "a+b/c;d"),
    ];
    for (topic, event_id, _) in paths {
        app.publish(&event(topic, event_id)).await.ok();
    }
    for (topic, event_id, path) in paths {
        let found = app.get(&format!("/events/{path}")).await.ok();
        assert_eq!(
            (&found["topic"], &found["event_id"]),
            (&json!(topic), &json!(event_id))
        );
        assert_eq!(found["payload"]["of"], event_id);
        assert!(found["processed_at"].is_string());
    }
    for path in [
        "1/plain",
        "plain/2",
        "plain/%FF",
        "plain/%20",
        "a%2fb%2fc/x",
    ] {
        app.get(&format!("/events/{path}")).await.problem(404);
    }
}

async fn topics_are_counted_and_come_in_pages(engine: Engine) {
    let app = TestApp::start(engine).await;
    let names = ["A", "a", "b c", "z&", "é"];
    for (count, name) in names.iter().enumerate() {
        for number in 0..=count {
            app.publish(&event(name, &number.to_string())).await.ok();
        }
        app.publish(&event(name, "0")).await.ok();
    }
    for limit in 1..=names.len() + 1 {
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let name: String = url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
            let page = app
                .get(&format!("/topics?limit={limit}&cursor={name}"))
                .await
                .ok();
            let topics = page["topics"].as_array().unwrap();
            assert!(topics.len() <= limit);
            assert_eq!(page["count"], topics.len());
            found.extend(topics.clone());
            match page["next_cursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        assert_eq!(found.len(), names.len(), "by {limit}");
        for (count, (name, topic)) in names.iter().zip(&found).enumerate() {
            assert_eq!(topic["topic"], *name, "by {limit}");
            assert_eq!(topic["unique_count"], count + 1, "{topic}");
            assert_eq!(topic["duplicate_count"], 1, "{topic}");
            assert!(topic["first_stored_at"].as_str() <= topic["last_stored_at"].as_str());
        }
    }
}

async fn a_page_larger_than_the_largest_is_cut(engine: Engine) {
    let app = TestApp::start(engine).await;
    for (limit, shown, is_clamped) in [
        ("1000", 1000, false),
        ("1001", 1000, true),
        ("99999999999", 1000, true),
    ] {
        let page = app.get(&format!("/events?limit={limit}")).await.ok();
        assert_eq!(page["limit"], shown);
        assert_eq!(page["limit_clamped"], is_clamped);
    }
}

/// Small as they are sent, and on Postgres of four megabytes each as they are read: the largest that is taken.
async fn pages_of_large_events_end_early_and_lead_on(engine: Engine) {
    const COUNT: usize = 16;
    let app = TestApp::builder(engine)
        .await
        .set("DATABASE_STATEMENT_TIMEOUT_MS", 2_000)
        .start()
        .await;
    let events: Vec<Value> = (0..COUNT)
        .map(|number| large_event("large", &format!("e-{number}")))
        .collect();
    app.batch(&events).await.ok();
    let mut expected: Vec<Value> = events
        .iter()
        .map(|event| event["event_id"].clone())
        .collect();
    reach(&app, COUNT).await;
    for query in ["order=asc", "order=asc&topic=large"] {
        assert_eq!(walk(&app, query, 1000).await.0, expected, "{query}");
    }
    let mut subscriber = Subscriber::open(&app, "cursor=0-0").await;
    assert_eq!(json!(subscriber.next_ids(COUNT).await), json!(expected));
    expected.reverse();
    for query in ["", "topic=large"] {
        assert_eq!(walk(&app, query, 1000).await.0, expected, "{query}");
    }
    let page = app.get("/events?limit=1000").await.ok();
    assert_eq!(page["limit_clamped"], false);
    let is_cut = page["events"].as_array().unwrap().len() < COUNT;
    assert_eq!(is_cut, engine == Engine::Postgres);
    assert_eq!(page["next_cursor"].is_null(), !is_cut);
}
