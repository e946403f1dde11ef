//! Methods and paths: 405 with `Allow` where the path is known, 404 where it is not.

use super::{
    request::{Request, get},
    row::{Expected, Row, row, status},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = methods();
    rows.extend(paths());
    rows.extend(keys());
    rows
}

fn methods() -> Vec<Row> {
    let mut rows = Vec::new();
    for path in ["/publish", "/publish/batch", "/admin/actors/ingest/crash"] {
        for method in [
            "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "post",
        ] {
            rows.push(row(
                format!("{method} {path}"),
                Request::new(method, path),
                status(405),
            ));
        }
    }
    let readable = [
        "/events",
        "/events/t/e",
        "/events/stream",
        "/topics",
        "/stats",
        "/metrics",
        "/health",
        "/livez",
        "/readyz",
        "/dead-letters",
        "/admin/actors",
        "/openapi.json",
        "/docs",
        "/",
    ];
    for path in readable {
        rows.push(row(
            format!("POST {path}"),
            Request::new("POST", path).body("{}"),
            status(405),
        ));
        rows.push(row(
            format!("DELETE {path}"),
            Request::new("DELETE", path),
            status(405),
        ));
        let head = if path == "/events/t/e" { 404 } else { 200 };
        rows.push(row(
            format!("HEAD {path}"),
            Request::new("HEAD", path),
            status(head),
        ));
    }
    let long = "M".repeat(5000);
    rows.push(row(
        "a method of 5000 letters",
        Request::new(&long, "/livez"),
        status(405),
    ));
    rows.push(row(
        "a method with a digit and a dash",
        Request::new("M-1", "/livez"),
        status(405),
    ));
    rows
}

fn paths() -> Vec<Row> {
    let unknown = [
        "/nothing",
        "/publish/",
        "/publish/x",
        "/publish/batch/",
        "/PUBLISH",
        "/events/",
        "/events/t",
        "/events/t/e/x",
        "//",
        "//publish",
        "/./publish",
        "/../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/publish%2Fbatch",
        "/publish%00",
        "/%00",
        "/%ff",
        "/%",
        "/%zz",
        "/%E2%82",
        "/admin",
        "/admin/",
        "/admin/actors/",
        "/admin/actors/ingest",
        "/stats.json",
        "/stats;a=b",
        "/.env",
        "/wp-login.php",
        "/favicon.icon",
        "/a b",
    ];
    let mut rows: Vec<Row> = unknown
        .map(|path| {
            let expected = match path {
                // A blank ends the target, and what follows is no version.
                "/a b" => Expected::Refused(&[400]),
                _ => status(404),
            };
            row(format!("GET {path}"), get(path), expected)
        })
        .into();
    rows.push(row(
        "a path of 5000 letters",
        get(format!("/{}", "a".repeat(5000))),
        status(404),
    ));
    rows.push(row(
        "a path of 70,000 letters",
        get(format!("/{}", "a".repeat(70_000))),
        Expected::Refused(&[400]),
    ));
    rows.push(row(
        "a path of 200,000 letters",
        get(format!("/{}", "a".repeat(200_000))),
        Expected::Refused(&[431]),
    ));
    rows.push(row(
        "a thousand segments",
        get("/a".repeat(1000)),
        status(404),
    ));
    rows.push(row(
        "a known path, percent-encoded",
        get("/%6Civez"),
        status(200),
    ));
    rows.push(row("a fragment", get("/livez#a"), status(200)));
    rows.push(row(
        "a query behind a path that takes none",
        get("/livez?a=b&&=%zz"),
        status(200),
    ));
    rows
}

/// What can be no key is the key of no event.
fn keys() -> Vec<Row> {
    let long = "a".repeat(256);
    let of = [
        "t/%00",
        "%00/e",
        "t/%ff",
        "t/%0A",
        "%20/e",
        "t/%20",
        "t/%C2%85",
        "t/%E2%80%83",
        "t/%ED%A0%80",
        "t/%zz",
        "t/%",
        "%2F/%2F",
        "t/e%2Fx",
        "../..",
        "%2E%2E/%2E%2E",
        "t/'%20or%20''='",
        "t/%25",
        "t/+",
        "stream/e",
        "%3Cscript%3E/e",
        &format!("{long}/e"),
        &format!("t/{long}"),
    ];
    let mut rows: Vec<Row> = of
        .map(|key| {
            row(
                format!("the event {key}"),
                get(format!("/events/{key}")),
                status(404),
            )
        })
        .into();
    rows.push(row(
        "the event /e of no topic",
        get("/events//e"),
        status(404),
    ));
    rows.push(row(
        "the event of a topic and no id",
        get("/events/t/"),
        status(404),
    ));
    rows
}
