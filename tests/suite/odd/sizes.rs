//! Bodies at the limit of their bytes and one over, however they are sent: 413 counts what is left
//! after decompression.

use super::{
    request::{Request, batch_of, event, post, publish, publish_batch},
    row::{Row, row, status, stored},
};
use crate::support::{brotli, gzip, zstd};

pub(super) const BODY_BYTES_MAX: usize = 32 << 10;
/// What a bomb of some kilobytes becomes.
const BOMB_BYTES: usize = 64 << 20;

pub(super) fn rows() -> Vec<Row> {
    let fits = |name: &str, request: &dyn Fn(String) -> Request| {
        let event = event();
        let body = filled(&event, BODY_BYTES_MAX);
        row(
            format!("{name} at the limit"),
            request(body),
            stored(vec![event]),
        )
    };
    let is_over = |name: &str, request: &dyn Fn(String) -> Request| {
        let body = filled(&event(), BODY_BYTES_MAX + 1);
        row(format!("{name} one over"), request(body), status(413))
    };
    let compressed =
        |body: String| publish(gzip(body.as_bytes())).header("Content-Encoding", "gzip");
    let zstandard =
        |body: String| publish(zstd(body.as_bytes())).header("Content-Encoding", "zstd");
    let br = |body: String| publish(brotli(body.as_bytes())).header("Content-Encoding", "br");
    let line = |body: String| post("/publish/batch", "application/x-ndjson", body);
    let crash = |body: String| post("/admin/actors/nobody/crash", "application/json", body);
    let mut rows = Vec::new();
    let ways: [(&str, &dyn Fn(String) -> Request); 6] = [
        ("plain", &|body| publish(body)),
        ("in chunks", &|body| chunked(&body, 1000)),
        ("gzip", &compressed),
        ("zstd", &zstandard),
        // The tests' own encoding is larger than what it encodes.
        ("br", &br),
        ("a line", &line),
    ];
    for (name, request) in ways {
        rows.push(fits(name, request));
        rows.push(is_over(name, request));
    }
    let batched = event();
    let batch = batch_of(std::slice::from_ref(&batched));
    rows.push(row(
        "a batch at the limit",
        publish_batch(filled(&batch, BODY_BYTES_MAX)),
        stored(vec![batched]),
    ));
    rows.push(is_over("a batch", &|body| publish_batch(body)));
    rows.push(row(
        "a crash request at the limit",
        crash(filled("{}", BODY_BYTES_MAX)),
        status(404),
    ));
    rows.push(is_over("a crash request", &crash));
    rows.push(row(
        "ten times the limit",
        publish(vec![b' '; 10 * BODY_BYTES_MAX]),
        status(413),
    ));
    rows.push(row(
        "a bomb",
        compressed(" ".repeat(BOMB_BYTES)),
        status(413),
    ));
    rows.push(row("a bomb of lines", bomb_of_lines(), status(413)));
    rows.push(row(
        "no JSON, too long",
        publish(vec![b'x'; BODY_BYTES_MAX + 1]),
        status(413),
    ));
    rows.push(row(
        "a type that is not taken, too long",
        post("/publish", "text/plain", vec![b'x'; BODY_BYTES_MAX + 1]),
        status(415),
    ));
    rows.push(row(
        "a body where none is read",
        Request::new("GET", "/stats").body(vec![b'x'; 1000]),
        status(200),
    ));
    rows.push(row(
        "a length of 64 bits and no more",
        Request::new("POST", "/publish")
            .header("Content-Length", u64::MAX.to_string())
            .half_closed(),
        status(413),
    ));
    rows
}

/// Good events, one a line, until it is too much.
fn bomb_of_lines() -> Request {
    let line = format!("{}\n", event());
    let lines = line.repeat(BOMB_BYTES / line.len());
    post(
        "/publish/batch",
        "application/x-ndjson",
        gzip(lines.as_bytes()),
    )
    .header("Content-Encoding", "gzip")
}

/// JSON with blanks behind it.
fn filled(json: &str, bytes: usize) -> String {
    format!("{json}{}", " ".repeat(bytes - json.len()))
}

fn chunked(body: &str, chunk_bytes: usize) -> Request {
    let mut bytes =
        b"POST /publish HTTP/1.1\r\nHost: oncelog\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.as_bytes().chunks(chunk_bytes) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    Request::raw(bytes)
}
