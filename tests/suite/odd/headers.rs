//! Headers: preferences, conditions, expectations; repeated, very long, of odd bytes.

use super::{
    request::{Request, event, get, publish},
    row::{Expected, Row, row, status, stored},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = publishing();
    rows.extend(reading());
    rows.extend(heads());
    rows
}

fn publishing() -> Vec<Row> {
    let long = "x".repeat(60_000);
    let odd: [(&str, &[u8]); 30] = [
        // Without a broker the preference is ignored.
        ("Prefer", b"respond-async"),
        ("Prefer", b"respond-async, wait=0"),
        ("Prefer", b"return=representation"),
        ("Prefer", b"return=\"minimal\""),
        ("Prefer", b""),
        ("Prefer", b",;=\",;"),
        ("Prefer", b"\xff\xfe"),
        ("Prefer", long.as_bytes()),
        ("If-Match", b"*"),
        ("If-Match", b"\"nothing\""),
        ("If-None-Match", b"*"),
        ("If-Modified-Since", b"Sat, 31 Jan 2026 12:00:00 GMT"),
        ("If-Unmodified-Since", b"yesterday"),
        ("Range", b"bytes=0-0"),
        ("Accept", b"text/html"),
        ("Accept", b"image/png;q=0"),
        ("Accept-Encoding", b"gzip, *;q=0"),
        ("Accept-Charset", b"utf-16"),
        ("Expect", b"100-continue"),
        ("Authorization", b"Bearer nonsense"),
        ("Authorization", b"Basic \xff"),
        ("Cookie", long.as_bytes()),
        ("X-Forwarded-For", b"127.0.0.1, ::1, <script>"),
        ("X-HTTP-Method-Override", b"DELETE"),
        ("Connection", b"keep-alive"),
        ("Connection", b"close"),
        ("Connection", b"content-type, content-length"),
        ("X-Odd", b"a\tb"),
        ("X-Odd", b"\x80\xff"),
        ("Idempotency-Key", b"1"),
    ];
    odd.map(|(name, value)| {
        let event = event();
        let shown = String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
        let request = publish(event.clone()).header(name, value);
        row(format!("{name}: {shown}"), request, stored(vec![event]))
    })
    .into()
}

fn reading() -> Vec<Row> {
    let odd = [
        ("/events", "If-None-Match", "*", 200),
        ("/events", "Range", "bytes=0-1", 200),
        ("/events", "Accept", "application/xml", 200),
        ("/stats", "Accept", "text/html", 200),
        ("/openapi.json", "Accept-Encoding", "identity;q=0", 200),
        ("/livez", "Upgrade", "h2c", 200),
        ("/events/stream", "Last-Event-ID", "nonsense", 400),
        ("/events/stream", "Last-Event-ID", "1-2-3", 400),
        ("/events/stream", "Last-Event-ID", "-1-1", 400),
    ];
    let mut rows: Vec<Row> = odd
        .map(|(path, name, value, expected)| {
            row(
                format!("{path} with {name}: {value}"),
                get(path).header(name, value),
                status(expected),
            )
        })
        .into();
    let no_text = get("/events/stream").header("Last-Event-ID", b"\xff");
    rows.push(row("a Last-Event-ID that is no text", no_text, status(400)));
    rows
}

/// What is not the head of a request, or too much of one.
fn heads() -> Vec<Row> {
    let request = |lines: &str| {
        Request::raw(format!(
            "GET /livez HTTP/1.1\r\nHost: oncelog\r\n{lines}\r\n\r\n"
        ))
    };
    let raw = |name: &str, lines: &str, statuses: &'static [u16]| {
        row(name, request(lines), Expected::Refused(statuses))
    };
    let taken = |name: &str, lines: &str| row(name, request(lines), status(200));
    let many = |count: usize| {
        let lines: Vec<String> = (0..count).map(|number| format!("X-{number}: a")).collect();
        lines.join("\r\n")
    };
    vec![
        raw("a header without a colon", "Nonsense", &[400]),
        raw("a header without a name", ": a", &[400]),
        raw("a blank in a name", "X Odd: a", &[400]),
        raw("a blank before the colon", "X-Odd : a", &[400]),
        raw("a zero in a name", "X\0Odd: a", &[400]),
        raw("a zero in a value", "X-Odd: a\0b", &[400]),
        raw("an escape in a value", "X-Odd: \u{1b}[31m", &[400]),
        raw("a carriage return in a value", "X-Odd: a\rb", &[400]),
        raw("a name that is no ASCII", "X-Ödd: a", &[400]),
        raw("a folded line", "X-Odd: a\r\n b", &[400]),
        raw("a second Host", "Host: other", &[400]),
        taken("fifty headers", &many(50)),
        raw("two hundred headers", &many(200), &[431]),
        taken(
            "a header of 60,000 bytes",
            &format!("X-Odd: {}", "a".repeat(60_000)),
        ),
        raw(
            "a header of 300,000 bytes",
            &format!("X-Odd: {}", "a".repeat(300_000)),
            &[431],
        ),
        taken(
            "a name of 60,000 bytes",
            &format!("{}: a", "X".repeat(60_000)),
        ),
        // Above 65,535 bytes actix-http panics (`HeaderName::from_bytes(…).unwrap()` in its decoder), which
        // ends this connection alone.
        raw(
            "a name of 70,000 bytes",
            &format!("{}: a", "X".repeat(70_000)),
            &[],
        ),
    ]
}
