//! The calls for those who run the service.

use super::parts::{Call, JSON, content, json, limit, named, path, query, sent, string, text};
use serde_json::json as value;
use utoipa::openapi::{
    HttpMethod, Object, PathsBuilder, ResponseBuilder, Type, request_body::RequestBodyBuilder,
};

pub(super) fn paths(paths: PathsBuilder) -> PathsBuilder {
    let paths = health().at(HttpMethod::Get, "/health", paths);
    let paths = metrics().at(HttpMethod::Get, "/metrics", paths);
    let paths = live().at(HttpMethod::Get, "/livez", paths);
    let paths = ready().at(HttpMethod::Get, "/readyz", paths);
    let paths = dead_letters().at(HttpMethod::Get, "/dead-letters", paths);
    let paths = delete_letter().at(HttpMethod::Delete, "/dead-letters/{id}", paths);
    let paths = retry_letter().at(HttpMethod::Post, "/dead-letters/{id}/retry", paths);
    let paths = actors().at(HttpMethod::Get, "/admin/actors", paths);
    let paths = crash().at(HttpMethod::Post, "/admin/actors/{name}/crash", paths);
    let paths = page("getDashboard", "The dashboard").at(HttpMethod::Get, "/", paths);
    let paths = page("getDocs", "This description, for people").at(HttpMethod::Get, "/docs", paths);
    description().at(HttpMethod::Get, "/openapi.json", paths)
}

fn operate(id: &str, summary: &str, about: &str) -> Call {
    Call::new("Operate", id, summary, about)
}

fn health() -> Call {
    let well = value!({"status": "healthy", "database": "connected", "redis": "disabled",
        "durability": "ok", "database_role": "primary",
        "timestamp": "2026-01-31T12:00:00.000000Z"});
    let ill = value!({"status": "unhealthy", "database": "disconnected", "redis": "connected",
        "durability": "unknown", "database_role": "unknown",
        "timestamp": "2026-01-31T12:00:00.000000Z"});
    operate(
        "getHealth",
        "What the service reaches",
        "degraded: the broker is lost.",
    )
    .answers(200, json("healthy or degraded.", "Health", well))
    .answers(
        503,
        waiting(json("The database is out of reach.", "Health", ill)),
    )
}

fn metrics() -> Call {
    let sample = "# HELP oncelog_events_stored_total Events stored.\n\
        # TYPE oncelog_events_stored_total counter\noncelog_events_stored_total 42\n";
    let about = "Counts of this process since its start. What only the database or the broker \
        knows is left out while it is out of reach.";
    operate("getMetrics", "The numbers, for Prometheus", about)
        .guarded()
        .answers(200, text("Text format 0.0.4.", "text/plain", sample))
}

fn live() -> Call {
    operate("getLiveness", "Whether the process serves", "").answers(
        200,
        json("It does.", "Readiness", value!({"status": "alive"})),
    )
}

fn ready() -> Call {
    let reasons = value!({"status": "not ready", "reasons": ["persist-0 is not connected"]});
    operate("getReadiness", "Whether to send requests here", "")
        .answers(
            200,
            json("Ready.", "Readiness", value!({"status": "ready"})),
        )
        .answers(
            503,
            waiting(json(
                "The database is out of reach, an actor has failed, or the service goes down.",
                "Readiness",
                reasons,
            )),
        )
}

fn waiting(answer: ResponseBuilder) -> ResponseBuilder {
    answer.header("Retry-After", sent("Seconds after which to ask again."))
}

fn dead_letters() -> Call {
    let letter = value!({"id": 7, "reason": "timestamp must be RFC 3339", "entry": "{\"topic\":1}",
        "truncated": false, "origin": "1769860800000-0",
        "received_at": "2026-01-31T12:00:00.000000Z"});
    let page = value!({"dead_letters": [letter], "count": 1, "limit": 100, "next_cursor": null});
    let cursor = string().pattern(Some("^[0-9]{1,18}$"));
    operate(
        "listDeadLetters",
        "List what could not be stored",
        "What came through the broker and can be no event; newest first.",
    )
    .guarded()
    .asks_database()
    .parameter(limit(100))
    .parameter(query(
        "cursor",
        "Goes on after this letter; from an earlier answer.",
        cursor,
    ))
    .answers(200, json("A page of dead letters.", "DeadLetterPage", page))
    .refuses(&[400])
}

fn letter(id: &str, summary: &str, about: &str) -> Call {
    let number = Object::builder()
        .schema_type(Type::Integer)
        .minimum(Some(1));
    operate(id, summary, about)
        .guarded()
        .asks_database()
        .parameter(path("id", "The dead letter's id.", number))
        .refuses(&[404])
}

fn delete_letter() -> Call {
    letter("deleteDeadLetter", "Throw a dead letter away", "")
        .answers(204, ResponseBuilder::new().description("It is gone."))
}

fn retry_letter() -> Call {
    let retried = value!({"status": "accepted", "outcome": "stored",
        "message": "the event is stored and its dead letter is gone"});
    letter(
        "retryDeadLetter",
        "Store a dead letter's event",
        "Should it be an event by now; then the letter is thrown away.",
    )
    .answers(200, json("Stored.", "Retried", retried))
    .refuses(&[422])
}

fn actors() -> Call {
    let actor = value!({"name": "persist-0", "kind": "persist", "shard": 0, "state": "running",
        "restarts": 1, "started_at": "2026-01-31T12:00:00.000000Z",
        "last_failure": {"reason": "crashed on request (now)", "at": "2026-01-31T11:59:59.990000Z"},
        "mailbox_depth": 0, "connected": true});
    operate(
        "listActors",
        "Look at the actors",
        "States: running, restarting, failed.",
    )
    .guarded()
    .answers(
        200,
        json("Every actor.", "Actors", value!({"actors": [actor]})),
    )
}

fn crash() -> Call {
    let name = string().min_length(Some(1));
    let crashing = value!({"status": "crashing", "actor": "persist-0", "incarnation": 1});
    let about = "It really panics, or stops, and its supervisor restarts it. Nothing that was \
        accepted is lost. Only persist actors and retention take \"at\"; around a commit an actor can only panic.";
    let mut call = operate("crashActor", "Crash an actor", about)
        .guarded()
        .parameter(path(
            "name",
            "ingest, persist-0 and on, stats, redis-bridge, retention.",
            name,
        ))
        .answers(202, json("It is about to end.", "Crashing", crashing))
        .refuses(&[400, 404, 408, 409, 413, 415, 422, 503]);
    let body = RequestBodyBuilder::new()
        .description(Some("None is the default: panic, now."))
        .content(
            JSON,
            content(named("CrashRequest"), value!({"mode": "panic"})),
        );
    call.operation = call.operation.request_body(Some(body.build()));
    call
}

fn page(id: &str, summary: &str) -> Call {
    operate(id, summary, "Loads nothing from other hosts.")
        .answers(200, text("A page.", "text/html", "<!doctype html>…"))
}

fn description() -> Call {
    let schema = Object::with_type(Type::Object);
    let answer = ResponseBuilder::new()
        .description("OpenAPI 3.1.")
        .content(JSON, content(schema, value!({"openapi": "3.1.0"})));
    operate("getOpenApi", "This description, for machines", "").answers(200, answer)
}
