//! The calls that show what is stored.

use super::parts::{Call, header, json, limit, name, path, query, string, text};
use serde_json::{Value, json as value};
use utoipa::openapi::{
    HttpMethod, KnownFormat, ObjectBuilder, PathsBuilder, SchemaFormat, path::ParameterBuilder,
};

const STREAM: &str = "Server-Sent Events: id: a cursor, event: event, data: the event. Starts \
    at now, or after a cursor. A subscriber that reconnects with Last-Event-ID sees every later \
    event once, in an order that never changes. A comment is sent while there is nothing new.";
const FRAME: &str =
    "retry: 1000\nid: 812-3\n\nid: 813-1\nevent: event\ndata: {\"topic\":\"orders\",…}\n\n";

pub(super) fn paths(paths: PathsBuilder) -> PathsBuilder {
    let paths = events().at(HttpMethod::Get, "/events", paths);
    let paths = event().at(HttpMethod::Get, "/events/{topic}/{event_id}", paths);
    let paths = stream().at(HttpMethod::Get, "/events/stream", paths);
    let paths = topics().at(HttpMethod::Get, "/topics", paths);
    stats().at(HttpMethod::Get, "/stats", paths)
}

fn read(id: &str, summary: &str, about: &str) -> Call {
    Call::new("Read", id, summary, about)
        .guarded()
        .asks_database()
}

fn events() -> Call {
    let about = "Newest stored first, unless order=asc. An empty parameter counts as none.";
    let order = string()
        .enum_values(Some(["desc", "asc"]))
        .default(Some("desc".into()));
    read("listEvents", "List events", about)
        .parameter(query("topic", "Only events of this topic.", name()))
        .parameter(query("source", "Only events of this source.", name()))
        .parameter(query(
            "since",
            "Only events with this timestamp or a later one.",
            time(),
        ))
        .parameter(query(
            "until",
            "Only events with an earlier timestamp.",
            time(),
        ))
        .parameter(query(
            "order",
            "By storing; asc for those who follow.",
            order,
        ))
        .parameter(limit(100))
        .parameter(cursor())
        .answers(
            200,
            json(
                "A page of events.",
                "EventPage",
                value!({"events": [stored()], "count": 1, "topic_filter": null, "limit": 100,
                    "limit_clamped": false, "next_cursor": null}),
            ),
        )
        .refuses(&[400])
}

fn event() -> Call {
    read(
        "getEvent",
        "Get one event",
        "Both parts of the key are percent-encoded.",
    )
    .parameter(path("topic", "The topic.", name()))
    .parameter(path("event_id", "The event id.", name()))
    .answers(200, json("The event.", "StoredEvent", stored()))
    .refuses(&[404])
}

fn stream() -> Call {
    read("streamEvents", "Follow events as they are stored", STREAM)
        .parameter(query("topic", "Only events of this topic.", name()))
        .parameter(query("source", "Only events of this source.", name()))
        .parameter(cursor())
        .parameter(header(
            "Last-Event-ID",
            "Goes on after this cursor; wins over ?cursor=.",
            cursor_text(),
        ))
        .answers(
            200,
            text(
                "Events, until either side ends it.",
                "text/event-stream",
                FRAME,
            ),
        )
        .refuses(&[400])
}

fn topics() -> Call {
    let topic = value!({"topic": "orders", "unique_count": 4, "duplicate_count": 1,
        "first_stored_at": "2026-01-31T12:00:00.120345Z",
        "last_stored_at": "2026-01-31T12:07:41.003211Z"});
    let page = value!({"topics": [topic], "count": 1, "limit": 1000, "next_cursor": null});
    read("listTopics", "List topics with their counts", "By name.")
        .parameter(limit(1000))
        .parameter(query("cursor", "Goes on after this topic.", name()))
        .answers(200, json("A page of topics.", "TopicPage", page))
        .refuses(&[400])
}

fn stats() -> Call {
    let about = "received_count = unique_processed_count + duplicate_dropped_count, after any \
        crash and from every replica. queue_length is what waits in the actors and in the broker. \
        What retention drops or deletes stays counted, and is counted in retention besides.";
    let counters = value!({"received_count": 5, "unique_processed_count": 4,
        "duplicate_dropped_count": 1, "conflict_count": 0, "rejected_count": 0, "topics_count": 1,
        "dead_letter_count": 0, "uptime_seconds": 61.684, "queue_length": 0,
        "last_updated": "2026-01-31T12:07:41.003211Z",
        "retention": {"rules": "*=90d", "dead_letter_age": "30d", "payloads_dropped_count": 0,
            "events_deleted_count": 0, "dead_letters_deleted_count": 0,
            "last_run_at": "2026-01-31T12:07:00.120345Z"}});
    read("getStats", "Read the counters", about)
        .answers(200, json("The counters.", "Stats", counters))
}

/// A place in the order of storing.
fn cursor() -> ParameterBuilder {
    query(
        "cursor",
        "Goes on after this place; from an earlier answer.",
        cursor_text(),
    )
}

fn cursor_text() -> ObjectBuilder {
    string().pattern(Some("^[0-9]{1,18}-[0-9]{1,18}$"))
}

fn time() -> ObjectBuilder {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

fn stored() -> Value {
    value!({"topic": "orders", "event_id": "42", "timestamp": "2026-01-31T12:00:00.000000Z",
        "source": "shop", "payload": {"total": 19.90},
        "processed_at": "2026-01-31T12:00:00.120345Z"})
}
