//! Streams, admin calls and dead letters.

use super::{
    request::{Request, get, post},
    row::{Expected, Row, row, status},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = crashes();
    rows.extend(streams());
    rows.extend(dead_letters());
    rows
}

fn crashes() -> Vec<Row> {
    let crash = |name: &str, body: &str| {
        post(
            &format!("/admin/actors/{name}/crash"),
            "application/json",
            body,
        )
    };
    let wrong = [
        "{",
        "null",
        "[]",
        "[\"panic\"]",
        "\"panic\"",
        "1",
        "{\"mode\":null}",
        "{\"mode\":1}",
        "{\"mode\":\"\"}",
        "{\"mode\":\"Panic\"}",
        "{\"mode\":\"kill\"}",
        "{\"mode\":[\"panic\"]}",
        "{\"mode\":{\"panic\":null}}x",
        "{\"mode\":\"panic\"} {}",
        "{\"at\":\"never\"}",
        "{\"at\":\"before-commit\"}",
        "{\"mode\":\"panic\",\"mode\":\"stop\"}",
        "\u{feff}{}x",
        "\u{1}",
    ];
    let mut rows: Vec<Row> = wrong
        .map(|body| {
            row(
                format!("crash with {body:?}"),
                crash("stats", body),
                status(422),
            )
        })
        .into();
    let nobody = [
        "nobody",
        "persist",
        "persist-",
        "persist--1",
        "persist-99",
        "Persist-0",
        "ingest%20",
        "%00",
        "%ff",
        "..%2Fingest",
        "*",
    ];
    rows.extend(nobody.map(|name| row(format!("crash of {name}"), crash(name, "{}"), status(404))));
    let path = "/admin/actors/stats/crash";
    rows.push(row(
        "crash as text",
        post(path, "text/plain", "{}"),
        status(415),
    ));
    rows.push(row(
        "crash as a form",
        post(path, "application/x-www-form-urlencoded", "mode=panic"),
        status(415),
    ));
    // Two rows, one actor: the second may find it restarting.
    let either = || Expected::Either(&[202, 409]);
    rows.push(row(
        "a crash without a body",
        Request::new("POST", path),
        either(),
    ));
    rows.push(row(
        "a crash with a field that nobody knows",
        crash("persist-0", "{\"mode\":\"panic\",\"x\":[]}"),
        either(),
    ));
    rows.push(row(
        "a stop",
        crash("ingest", " {\"mode\":\"stop\"} "),
        either(),
    ));
    rows
}

fn streams() -> Vec<Row> {
    let of = |query: &str, expected: u16| {
        row(
            format!("stream?{query}"),
            get(format!("/events/stream?{query}")),
            status(expected),
        )
    };
    let placed = |name: &str, id: &str| {
        let request = get("/events/stream?cursor=nonsense-1").header("Last-Event-ID", id);
        row(name, request, status(400))
    };
    vec![
        of("", 200),
        of("topic=odd", 200),
        of("topic=&source=", 200),
        of("unknown=1&&", 200),
        of("cursor=", 200),
        of("cursor=0-0", 200),
        of("cursor=9223372036854775807-9223372036854775807", 200),
        of("cursor=1", 400),
        of("cursor=0-9223372036854775808", 400),
        of("topic=%20", 400),
        of("source=%ff", 400),
        of(&format!("topic={}", "a".repeat(256)), 400),
        placed("a good Last-Event-ID beside a bad cursor", "0-0"),
        placed("a bad Last-Event-ID beside a bad cursor", "x"),
        row(
            "an empty Last-Event-ID",
            get("/events/stream").header("Last-Event-ID", ""),
            status(200),
        ),
        row(
            "a stream in HTTP/1.0",
            Request::raw("GET /events/stream?cursor=x HTTP/1.0\r\n\r\n"),
            status(400),
        ),
    ]
}

fn dead_letters() -> Vec<Row> {
    let ids = [
        "0",
        "1",
        "-1",
        "9223372036854775807",
        "9223372036854775808",
        "x",
        "1.0",
        "%20",
        "%00",
        "%ff",
        "1%2F",
    ];
    let mut rows = Vec::new();
    for id in ids {
        let path = format!("/dead-letters/{id}");
        rows.push(row(
            format!("DELETE {path}"),
            Request::new("DELETE", &path),
            status(404),
        ));
        rows.push(row(
            format!("POST {path}/retry"),
            Request::new("POST", format!("{path}/retry")),
            status(404),
        ));
    }
    rows.push(row(
        "GET of one dead letter",
        get("/dead-letters/1"),
        status(405),
    ));
    rows.push(row(
        "GET of a retry",
        get("/dead-letters/1/retry"),
        status(405),
    ));
    rows
}
