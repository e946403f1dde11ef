//! The calls that take events.

use super::parts::{Call, JSON, content, header, json, named, sent, string};
use serde_json::{Value, json as value};
use utoipa::openapi::{
    HttpMethod, PathsBuilder, Required,
    request_body::{RequestBody, RequestBodyBuilder},
};

const ONE: &str = "200 means stored, or stored before, and durable. With CloudEvents headers \
    (ce-specversion, ce-id, ce-source, ce-type, ce-time) the body is the data of a CloudEvent in \
    binary mode. A missing Content-Type is taken as JSON.";
const BATCH: &str = "One transaction: all events are stored, or none. stored + duplicates = count; \
    conflicts are counted within duplicates.";

pub(super) fn paths(paths: PathsBuilder) -> PathsBuilder {
    let paths = one().at(HttpMethod::Post, "/publish", paths);
    batch().at(HttpMethod::Post, "/publish/batch", paths)
}

fn one() -> Call {
    let mut call = publishes(
        Call::new("Publish", "publish", "Publish one event", ONE),
        "Published",
        value!({"status": "accepted", "topic": "orders", "event_id": "42", "outcome": "stored",
            "message": "event stored", "processed_at": "2026-01-31T12:00:00.120345Z"}),
        value!({"status": "accepted", "topic": "orders", "event_id": "42", "outcome": "queued",
            "message": "queued in the broker, to be stored from there"}),
    );
    call.operation = call.operation.request_body(Some(one_body()));
    for (name, about) in [
        ("ce-specversion", "CloudEvents, binary mode: 1.0."),
        ("ce-id", "Its id; the event id is source, #, and this."),
        ("ce-source", "The source."),
        ("ce-type", "The topic."),
        ("ce-time", "The timestamp."),
    ] {
        call = call.parameter(header(name, about, string()));
    }
    call
}

fn batch() -> Call {
    let mut call = publishes(
        Call::new("Publish", "publishBatch", "Publish 1 to 1000 events", BATCH),
        "BatchPublished",
        value!({"status": "accepted", "count": 5, "stored": 4, "duplicates": 1, "conflicts": 0,
            "message": "every event is stored"}),
        value!({"status": "accepted", "count": 5, "outcome": "queued",
            "message": "queued in the broker, to be stored from there"}),
    );
    call.operation = call.operation.request_body(Some(batch_body()));
    call
}

fn publishes(call: Call, schema: &str, stored: Value, queued: Value) -> Call {
    let applied = || sent("The preference that the answer follows, if any.");
    call.guarded()
        .parameter(header(
            "Prefer",
            "RFC 7240. respond-async: answer once the broker has it, where there is one. \
             return=representation: list what became of each event of a batch.",
            string(),
        ))
        .parameter(header(
            "Content-Encoding",
            "How the body is compressed.",
            string().enum_values(Some(["gzip", "zstd", "br", "identity"])),
        ))
        .answers(
            200,
            json("Stored, or stored before.", schema, stored)
                .header("Preference-Applied", applied()),
        )
        .answers(
            202,
            json(
                "Queued in the broker: asked for, or because the database is out of reach.",
                "Queued",
                queued,
            )
            .header("Preference-Applied", applied()),
        )
        .refuses(&[400, 408, 413, 415, 422])
        .asks_database()
}

fn one_body() -> RequestBody {
    RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content(JSON, content(named("Event"), event()))
        .content(
            "application/cloudevents+json",
            content(named("CloudEvent"), cloud_event()),
        )
        .build()
}

fn batch_body() -> RequestBody {
    let lines = format!("{}\n{}\n", event(), event());
    RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content(
            JSON,
            content(named("EventBatch"), value!({"events": [event()]})),
        )
        .content(
            "application/x-ndjson",
            content(
                string().description(Some("One event a line.")).build(),
                lines.into(),
            ),
        )
        .content(
            "application/cloudevents-batch+json",
            content(named("CloudEventBatch"), value!([cloud_event()])),
        )
        .build()
}

pub(super) fn event() -> Value {
    value!({"topic": "orders", "event_id": "42", "timestamp": "2026-01-31T12:00:00Z",
        "source": "shop", "payload": {"total": 19.90}})
}

fn cloud_event() -> Value {
    value!({"specversion": "1.0", "type": "orders", "source": "/shop", "id": "42",
        "time": "2026-01-31T12:00:00Z", "data": {"total": 19.90}})
}
