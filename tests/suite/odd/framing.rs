//! HTTP/1.1 as bytes: framing that lies, requests behind each other, connections that end early.

use super::{
    kept::Kept,
    request::{Request, event},
    row::{Expected, Row, row, status, stored},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = request_lines();
    rows.extend(lengths());
    rows.extend(chunks());
    rows.extend(connections());
    rows
}

const REFUSED: &[u16] = &[400];

fn request_lines() -> Vec<Row> {
    let refused = |name: &str, bytes: Vec<u8>| {
        let request = Request::raw(bytes);
        row(name, request, Expected::Refused(REFUSED))
    };
    let lines = [
        ("no version", "GET /livez"),
        ("HTTP/0.9", "GET /livez HTTP/0.9"),
        ("HTTP/1.2", "GET /livez HTTP/1.2"),
        ("HTTP/2.0", "GET /livez HTTP/2.0"),
        ("a version in small letters", "GET /livez http/1.1"),
        ("another protocol", "GET /livez ICY/1.1"),
        ("two blanks", "GET  /livez HTTP/1.1"),
        ("a tab", "GET\t/livez HTTP/1.1"),
        ("no target", "GET HTTP/1.1"),
        ("bytes above ASCII", "GET /\u{fc} HTTP/1.1"),
        ("a method with a brace", "G{T /livez HTTP/1.1"),
    ];
    let mut rows: Vec<Row> = lines
        .map(|(name, line)| {
            let bytes = format!("{line}\r\nHost: oncelog\r\n\r\n");
            refused(name, bytes.into_bytes())
        })
        .into();
    let others: [(&str, &[u8]); 5] = [
        (
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        ),
        ("zeros", &[0; 100]),
        ("Redis", b"*1\r\n$4\r\nPING\r\n\r\n"),
        (
            "HTTP/2 by prior knowledge",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ),
        ("no Host", b"GET /livez HTTP/1.1\r\n\r\n"),
    ];
    rows.extend(others.map(|(name, bytes)| refused(name, bytes.to_vec())));
    let ours = [
        (
            "no slash in front",
            "GET livez HTTP/1.1\r\nHost: a\r\n\r\n",
            404,
        ),
        (
            "the absolute form",
            "GET http://other/livez HTTP/1.1\r\nHost: a\r\n\r\n",
            200,
        ),
        ("the asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (
            "the authority form",
            "CONNECT oncelog:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            404,
        ),
        ("an empty Host", "GET /livez HTTP/1.1\r\nHost:\r\n\r\n", 200),
        (
            "empty lines in front",
            "\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
            200,
        ),
        ("line feeds alone", "GET /livez HTTP/1.1\nHost: a\n\n", 200),
        ("HTTP/1.0 without Host", "GET /livez HTTP/1.0\r\n\r\n", 200),
    ];
    rows.extend(
        ours.map(|(name, bytes, expected)| row(name, Request::raw(bytes), status(expected))),
    );
    rows
}

/// `POST /publish` with these lines in its head, and what follows.
fn post(lines: &str, rest: &str) -> Request {
    Request::raw(format!(
        "POST /publish HTTP/1.1\r\nHost: oncelog\r\n{lines}\r\n\r\n{rest}"
    ))
}

fn lengths() -> Vec<Row> {
    let refused =
        |name: &str, lines: &str| row(name, post(lines, &event()), Expected::Refused(REFUSED));
    let half = event();
    vec![
        refused(
            "two lengths that differ",
            "Content-Length: 5\r\nContent-Length: 6",
        ),
        refused("two lengths in one", "Content-Length: 5, 6"),
        refused("a length below zero", "Content-Length: -5"),
        refused("a length with a plus", "Content-Length: +5"),
        refused("a length in hex", "Content-Length: 0x10"),
        refused("a length with a point", "Content-Length: 5.0"),
        refused(
            "a length above 64 bits",
            "Content-Length: 99999999999999999999",
        ),
        refused("a length of nothing", "Content-Length:"),
        refused(
            "a length and chunks",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
        ),
        row(
            "a body without its length",
            post("X-Odd: a", ""),
            status(422),
        ),
        row(
            "a body that ends early",
            post("Content-Length: 1000", &half[..20]).half_closed(),
            status(400),
        ),
        row(
            "a body that stops",
            post("Content-Length: 1000", "{\"to"),
            status(408),
        ),
        row(
            "a head that stops",
            Request::raw("GET /livez HTTP/1.1\r\nHos"),
            Expected::Refused(&[408]),
        ),
        row(
            "a connection that says nothing",
            Request::raw(""),
            Expected::Refused(&[408]),
        ),
    ]
}

fn chunks() -> Vec<Row> {
    let lines = "Transfer-Encoding: chunked";
    let size = |body: &str| format!("{:x}", body.len());
    let of = |size: &str, body: &str, end: &str| post(lines, &format!("{size}\r\n{body}\r\n{end}"));
    let kept = |name: &str, event: String, request: &dyn Fn(&str) -> Request| {
        let request = request(&event);
        row(name, request, stored(vec![event]))
    };
    // The head is read already: the refusal is ours.
    let broken = |name: &str, request: Request| row(name, request, status(400));
    let refused = |name: &str, request: Request| row(name, request, Expected::Refused(REFUSED));
    let end = "0\r\n\r\n";
    vec![
        kept("one chunk", event(), &|body| of(&size(body), body, end)),
        kept("two chunks", event(), &|body| {
            let (one, other) = body.split_at(10);
            let rest = format!("a\r\n{one}\r\n{}\r\n{other}\r\n{end}", size(other));
            post(lines, &rest)
        }),
        kept("a size in capitals with zeros", event(), &|body| {
            of(&format!("000{:X}", body.len()), body, end)
        }),
        kept("an extension", event(), &|body| {
            of(&format!("{};name=\"a\"", size(body)), body, end)
        }),
        row("no chunk", post(lines, end), status(422)),
        broken("a size that is no number", of("zz", "{}", end)),
        broken("a size below zero", of("-2", "{}", end)),
        broken("a size with 0x", of("0x2", "{}", end)),
        broken("a size above 64 bits", of("fffffffffffffffff", "{}", end)),
        broken("no size", of("", "{}", end)),
        broken("a size that is too small", of("1", "{}", end)),
        broken(
            "a size that is too large",
            of("ff", "{}", end).half_closed(),
        ),
        broken("no last chunk", of("2", "{}", "").half_closed()),
        refused("gzip for chunked", post("Transfer-Encoding: gzip", end)),
        refused(
            "gzip, then chunked",
            post("Transfer-Encoding: gzip, chunked", end),
        ),
        refused(
            "chunked twice",
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                end,
            ),
        ),
        refused(
            "chunked that is none",
            post("Transfer-Encoding: xchunked", end),
        ),
        refused(
            "chunks in HTTP/1.0",
            Request::raw("POST /publish HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
    ]
}

fn connections() -> Vec<Row> {
    let live = "GET /livez HTTP/1.1\r\nHost: oncelog\r\n\r\n";
    let hidden = "GET /nothing HTTP/1.1\r\nHost: oncelog\r\n\r\n";
    let sent = |event: &str| {
        let length = event.len();
        format!(
            "POST /publish HTTP/1.1\r\nHost: oncelog\r\nContent-Length: {length}\r\n\r\n{event}"
        )
    };
    let old = |event: &str| {
        Request::raw(format!(
            "POST /publish HTTP/1.0\r\nContent-Length: {}\r\n\r\n{event}",
            event.len()
        ))
    };
    let with = |lines: &str, event: &str| {
        post(
            &format!("{lines}\r\nContent-Length: {}", event.len()),
            event,
        )
    };
    let kept = |name: &str, event: String, request: &dyn Fn(&str) -> Request| {
        let request = request(&event);
        row(name, request, stored(vec![event]))
    };
    let (first, last) = (event(), event());
    vec![
        row(
            "five behind each other",
            Request::raw(live.repeat(5)).answered(5),
            Expected::Answers(vec![200; 5], Vec::new()),
        ),
        row(
            "good and bad behind each other",
            Request::raw([sent(&first), sent("{}"), sent(&last)].concat()).answered(3),
            Expected::Answers(vec![200, 422, 200], Kept::all(vec![first, last])),
        ),
        // The body itself is never answered: that would be a 404.
        row(
            "a body of a GET that looks like a request",
            Request::raw(format!(
                "GET /livez HTTP/1.1\r\nHost: oncelog\r\nContent-Length: {}\r\n\r\n{hidden}{live}",
                hidden.len()
            ))
            .answered(3)
            .half_closed(),
            Expected::Answers(vec![200, 200], Vec::new()),
        ),
        row(
            "nonsense behind a good one",
            Request::raw(format!("{live}nonsense\r\n\r\n")).answered(2),
            Expected::AnswersUntil(vec![200], REFUSED),
        ),
        kept("a client that half-closes", event(), &|event| {
            Request::raw(sent(event)).half_closed()
        }),
        kept("HTTP/1.0 with a body", event(), &old),
        kept("a client that waits for 100", event(), &|event| {
            with("Expect: 100-continue", event)
        }),
        kept("an upgrade to WebSocket with a body", event(), &|event| {
            with("Connection: upgrade\r\nUpgrade: websocket", event)
        }),
        // The answer is the last one on its connection, which it does not say.
        kept("an upgrade to HTTP/2 with a body", event(), &|event| {
            let lines = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA";
            with(lines, event).half_closed()
        }),
        row(
            "a refusal before the body has come",
            post("Content-Type: text/plain\r\nContent-Length: 100000", "x").half_closed(),
            status(415),
        ),
    ]
}
