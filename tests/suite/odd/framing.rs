//! HTTP/1.1 as bytes: framing that lies, requests behind each other, connections that end early.

use super::{
    request::{Request, event},
    row::{Expected, Row, row},
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
    let lines: [(&str, &str, &'static [u16]); 15] = [
        ("no version", "GET /livez", REFUSED),
        ("HTTP/0.9", "GET /livez HTTP/0.9", REFUSED),
        ("HTTP/1.2", "GET /livez HTTP/1.2", &[400, 505]),
        ("HTTP/2.0", "GET /livez HTTP/2.0", &[400, 505]),
        ("a version in small letters", "GET /livez http/1.1", REFUSED),
        ("another protocol", "GET /livez ICY/1.1", REFUSED),
        ("two blanks", "GET  /livez HTTP/1.1", REFUSED),
        ("a tab", "GET\t/livez HTTP/1.1", REFUSED),
        ("no target", "GET HTTP/1.1", REFUSED),
        ("no slash in front", "GET livez HTTP/1.1", &[400, 404]),
        (
            "the absolute form",
            "GET http://other/livez HTTP/1.1",
            &[200],
        ),
        ("the asterisk", "OPTIONS * HTTP/1.1", &[400, 404, 405]),
        (
            "the authority form",
            "CONNECT oncelog:443 HTTP/1.1",
            &[400, 404, 405],
        ),
        ("bytes above ASCII", "GET /\u{fc} HTTP/1.1", &[400, 404]),
        ("a method with a brace", "G{T /livez HTTP/1.1", REFUSED),
    ];
    let mut rows: Vec<Row> = lines
        .map(|(name, line, statuses)| {
            let bytes = format!("{line}\r\nHost: oncelog\r\n\r\n");
            row(name, Request::raw(bytes), Expected::Refused(statuses))
        })
        .into();
    let raw: [(&str, &[u8], &'static [u16]); 9] = [
        (
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            REFUSED,
        ),
        ("zeros", &[0; 100], REFUSED),
        ("Redis", b"*1\r\n$4\r\nPING\r\n\r\n", REFUSED),
        (
            "HTTP/2 by prior knowledge",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &[400, 505],
        ),
        ("no Host", b"GET /livez HTTP/1.1\r\n\r\n", REFUSED),
        (
            "an empty Host",
            b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n",
            &[200, 400],
        ),
        (
            "empty lines in front",
            b"\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
            &[200, 400],
        ),
        (
            "line feeds alone",
            b"GET /livez HTTP/1.1\nHost: a\n\n",
            &[200, 400],
        ),
        (
            "HTTP/1.0 without Host",
            b"GET /livez HTTP/1.0\r\n\r\n",
            &[200],
        ),
    ];
    rows.extend(raw.map(|(name, bytes, statuses)| {
        row(name, Request::raw(bytes), Expected::Refused(statuses))
    }));
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
            Expected::Answers(vec![422]),
        ),
        row(
            "a body that ends early",
            post("Content-Length: 1000", &half[..20]).half_closed(),
            Expected::Refused(&[400, 408]),
        ),
        row(
            "a body that stops",
            post("Content-Length: 1000", "{\"to"),
            Expected::Answers(vec![408]),
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
    let kept = |name: &str, request: Request| row(name, request, Expected::Answers(vec![200]));
    let refused = |name: &str, request: Request| row(name, request, Expected::Refused(&[400, 408]));
    let body = event();
    let (one, other) = body.split_at(10);
    let end = "0\r\n\r\n";
    let again = event();
    vec![
        kept("one chunk", of(&size(&again), &again, end)),
        kept(
            "two chunks",
            post(
                lines,
                &format!("a\r\n{one}\r\n{}\r\n{other}\r\n{end}", size(other)),
            ),
        ),
        kept("a size in capitals with zeros", {
            let body = event();
            of(&format!("000{:X}", body.len()), &body, end)
        }),
        kept("an extension", {
            let body = event();
            of(&format!("{};name=\"a\"", size(&body)), &body, end)
        }),
        row("no chunk", post(lines, end), Expected::Answers(vec![422])),
        refused("a size that is no number", of("zz", "{}", end)),
        refused("a size below zero", of("-2", "{}", end)),
        refused("a size with 0x", of("0x2", "{}", end)),
        refused("a size above 64 bits", of("fffffffffffffffff", "{}", end)),
        refused("no size", of("", "{}", end)),
        refused("a size that is too small", of("1", "{}", end)),
        refused(
            "a size that is too large",
            of("ff", "{}", end).half_closed(),
        ),
        refused("no last chunk", of("2", "{}", "").half_closed()),
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
    let sent = |event: String| {
        let length = event.len();
        format!(
            "POST /publish HTTP/1.1\r\nHost: oncelog\r\nContent-Length: {length}\r\n\r\n{event}"
        )
    };
    let old = event();
    let old = format!(
        "POST /publish HTTP/1.0\r\nContent-Length: {}\r\n\r\n{old}",
        old.len()
    );
    let expecting = event();
    let (length, expects) = (expecting.len(), "Expect: 100-continue");
    let upgraded = event();
    vec![
        row(
            "five behind each other",
            Request::raw(live.repeat(5)).answered(5),
            Expected::Answers(vec![200; 5]),
        ),
        row(
            "good and bad behind each other",
            Request::raw([sent(event()), sent("{}".to_owned()), sent(event())].concat())
                .answered(3),
            Expected::Answers(vec![200, 422, 200]),
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
            Expected::Answers(vec![200, 200]),
        ),
        row(
            "nonsense behind a good one",
            Request::raw(format!("{live}nonsense\r\n\r\n")).answered(2),
            Expected::Answers(vec![200, 400]),
        ),
        row(
            "a client that half-closes",
            Request::raw(sent(event())).half_closed(),
            Expected::Answers(vec![200]),
        ),
        row(
            "HTTP/1.0 with a body",
            Request::raw(old),
            Expected::Answers(vec![200]),
        ),
        row(
            "a client that waits for 100",
            post(
                &format!("{expects}\r\nContent-Length: {length}"),
                &expecting,
            ),
            Expected::Answers(vec![200]),
        ),
        row(
            "an upgrade to WebSocket with a body",
            post(
                &format!(
                    "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: {}",
                    upgraded.len()
                ),
                &upgraded,
            )
            .half_closed(),
            Expected::Refused(&[200, 400, 408, 422, 426]),
        ),
        row(
            "a refusal before the body has come",
            post("Content-Type: text/plain\r\nContent-Length: 100000", "x").half_closed(),
            Expected::Answers(vec![415]),
        ),
    ]
}
