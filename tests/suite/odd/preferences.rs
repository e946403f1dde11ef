//! `Prefer` where there is a broker: what asks for an answer before the event is stored, and what
//! only looks like it. Either way the event is stored.

use super::{
    kept::Kept,
    request::{Request, batch_of, event, events, post, publish, publish_batch},
    row::{Expected, Row, row, status, stored},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = queued_or_not();
    rows.extend(batches());
    rows.extend(refused());
    rows
}

fn queued(events: Vec<String>) -> Expected {
    Expected::Queued(Kept::all(events))
}

fn queued_or_not() -> Vec<Row> {
    let long = format!("respond-async, x=\"{}\"", "a".repeat(60_000));
    let many = format!("{}respond-async", "x, ".repeat(10_000));
    let asks: [&[u8]; 18] = [
        b"respond-async",
        b"Respond-Async",
        b"RESPOND-ASYNC",
        b"  respond-async  ",
        b"respond-async;",
        b"respond-async; wait=10",
        b"respond-async=",
        b"respond-async=\"\"",
        b"respond-async,respond-async",
        b"respond-async, wait=0",
        b"wait=10, respond-async",
        b"return=minimal, respond-async",
        b"return=representation, respond-async",
        b",,respond-async,,",
        b"a=\"b\";c=\"d,e\", respond-async",
        b"a=\"\\\"\", respond-async",
        long.as_bytes(),
        many.as_bytes(),
    ];
    let asks_not: [&[u8]; 17] = [
        b"",
        b",",
        b",;=\",;",
        b"wait=0",
        b"return=representation",
        b"async",
        b"respond async",
        b"respond_async",
        b"respond-asynchronous",
        b"xrespond-async",
        b"\"respond-async\"",
        b"a=respond-async",
        b"a=\"b, respond-async\"",
        b"a;respond-async",
        b"a=\"b, respond-async",
        b"respond-async\xff",
        b"\xff, respond-async",
    ];
    let prefer = |value: &[u8], expected: fn(Vec<String>) -> Expected| {
        let event = event();
        let shown = String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
        let request = publish(event.clone()).header("Prefer", value);
        row(format!("Prefer: {shown}"), request, expected(vec![event]))
    };
    let mut rows: Vec<Row> = asks.map(|value| prefer(value, queued)).into();
    rows.extend(asks_not.map(|value| prefer(value, stored)));
    let (second, unread) = (event(), event());
    let request = publish(second.clone()).header("Prefer", "wait=5");
    rows.push(row(
        "a second Prefer",
        request.header("Prefer", "respond-async"),
        queued(vec![second]),
    ));
    let request = publish(unread.clone()).header("Prefer", b"\xff");
    rows.push(row(
        "a second Prefer behind one that is no text",
        request.header("Prefer", "respond-async"),
        queued(vec![unread]),
    ));
    rows
}

fn asynchronous(request: Request) -> Request {
    request.header("Prefer", "respond-async")
}

fn batches() -> Vec<Row> {
    let (three, lines, thousand) = (events(3), events(3), events(1000));
    let repeated = event();
    let twice = vec![repeated.clone(), repeated];
    vec![
        row(
            "a batch, queued",
            asynchronous(publish_batch(batch_of(&three))),
            queued(three),
        ),
        row(
            "lines, queued",
            asynchronous(post(
                "/publish/batch",
                "application/x-ndjson",
                lines.join("\n"),
            )),
            queued(lines),
        ),
        row(
            "a thousand, queued",
            asynchronous(publish_batch(batch_of(&thousand))),
            queued(thousand),
        ),
        row(
            "the same event twice, queued",
            asynchronous(publish_batch(batch_of(&twice))),
            queued(twice),
        ),
    ]
}

/// What is no event is refused before anything is queued.
fn refused() -> Vec<Row> {
    let mixed = batch_of(&[event(), "{}".to_owned()]);
    vec![
        row("no event, queued", asynchronous(publish("{}")), status(422)),
        row("no JSON, queued", asynchronous(publish("{")), status(422)),
        row("no body, queued", asynchronous(publish("")), status(422)),
        row(
            "a mixed batch, queued",
            asynchronous(publish_batch(mixed)),
            status(422),
        ),
        row(
            "another type, queued",
            asynchronous(post("/publish", "text/plain", event())),
            status(415),
        ),
        row(
            "no encoding of ours, queued",
            asynchronous(publish(event()).header("Content-Encoding", "lz4")),
            status(415),
        ),
    ]
}
