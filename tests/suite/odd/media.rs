//! Content types and content encodings, those that lie among them.

use super::{
    request::{Request, batch_of, event, events, post, publish},
    row::{Row, row, status, stored},
};
use crate::support::{brotli, gzip, zstd};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = types();
    rows.extend(encodings());
    rows.extend(broken_encodings());
    rows
}

fn types() -> Vec<Row> {
    let good = [
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "application/json ; charset=\"utf-8\"",
        "application/json; indent=4; charset=utf-8",
        "application/json;",
        "",
        ";",
    ];
    let bad = [
        "text/plain",
        "text/json",
        "text/html",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "application/x-ndjson",
        "application/json5",
        "application/json-seq",
        "application/merge-patch+json",
        "application/cloudevents",
        "application/cloudevents+avro",
        "application/json, text/plain",
        "application/json; charset=latin1",
        "application/json; charset=utf-16",
        "json",
        "*/*",
        "application/",
        "/",
        "garbage; charset=utf-8",
    ];
    let mut rows: Vec<Row> = good
        .map(|of| {
            let event = event();
            let name = format!("type {of:?}");
            row(
                name,
                post("/publish", of, event.clone()),
                stored(vec![event]),
            )
        })
        .into();
    rows.extend(bad.map(|of| {
        row(
            format!("type {of:?}"),
            post("/publish", of, event()),
            status(415),
        )
    }));
    let typeless = event();
    rows.push(row(
        "no type",
        Request::new("POST", "/publish").body(typeless.clone()),
        stored(vec![typeless]),
    ));
    rows.push(row(
        "a type that is no text",
        Request::new("POST", "/publish")
            .header("Content-Type", b"application/json\xff")
            .body(event()),
        status(415),
    ));
    for of in [
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
    ] {
        let two = events(2);
        let request = post("/publish/batch", of, two.join("\n"));
        rows.push(row(format!("batch type {of}"), request, stored(two)));
    }
    for of in [
        "text/plain",
        "text/csv",
        "application/json; charset=koi8-r",
        "application/x-ndjson; charset=latin1",
    ] {
        let request = post("/publish/batch", of, batch_of(&events(1)));
        rows.push(row(format!("batch type {of}"), request, status(415)));
    }
    rows
}

type Encode = fn(&[u8]) -> Vec<u8>;

fn encoded(encoding: &str, body: impl Into<Vec<u8>>) -> Request {
    publish(body).header("Content-Encoding", encoding)
}

fn encodings() -> Vec<Row> {
    let kept = |name: &str, encode: &dyn Fn(&[u8]) -> Vec<u8>| {
        let event = event();
        let body = encode(event.as_bytes());
        row(
            format!("encoding {name:?}"),
            encoded(name, body),
            stored(vec![event]),
        )
    };
    let as_it_is = |body: &[u8]| body.to_vec();
    let mut rows = vec![
        kept("gzip", &gzip),
        kept("GZIP", &gzip),
        kept("x-gzip", &gzip),
        kept(" gzip ", &gzip),
        kept("zstd", &zstd),
        kept("br", &brotli),
        kept("identity", &as_it_is),
        kept("", &as_it_is),
    ];
    let two_members = event();
    let (one, other) = two_members.as_bytes().split_at(20);
    rows.push(row(
        "gzip in two members",
        encoded("gzip", [gzip(one), gzip(other)].concat()),
        stored(vec![two_members.clone()]),
    ));
    for name in [
        "deflate",
        "compress",
        "lz4",
        "gzip, gzip",
        "gzip, br",
        "identity, gzip",
        "gzip;q=1",
        "*",
        "gzi p",
        "utf-8",
    ] {
        rows.push(row(
            format!("encoding {name:?}"),
            encoded(name, gzip(event().as_bytes())),
            status(415),
        ));
    }
    let twice = encoded("gzip", gzip(event().as_bytes())).header("Content-Encoding", "gzip");
    rows.push(row("encoding in two headers", twice, status(415)));
    let no_text = publish(event()).header("Content-Encoding", b"gzip\xff");
    rows.push(row("an encoding that is no text", no_text, status(415)));
    rows
}

/// What does not decompress is 400; what decompresses to no event is 422.
fn broken_encodings() -> Vec<Row> {
    let mut rows = Vec::new();
    let encodings: [(&str, Encode); 3] = [("gzip", gzip), ("zstd", zstd), ("br", brotli)];
    for (name, encode) in encodings {
        let whole = encode(event().as_bytes());
        let mut flipped = whole.clone();
        flipped[0] ^= 0xff;
        let broken = [
            ("cut before its end", whole[..whole.len() - 1].to_vec()),
            ("cut in the middle", whole[..whole.len() / 2].to_vec()),
            ("with another first byte", flipped),
        ];
        for (how, body) in broken {
            rows.push(row(
                format!("{name} {how}"),
                encoded(name, body),
                status(400),
            ));
        }
        let letters = encode(b"hello");
        rows.push(row(
            format!("{name} of no JSON"),
            encoded(name, letters),
            status(422),
        ));
        let latin = encode(b"{\"topic\":\"\xe4\"}");
        rows.push(row(
            format!("{name} of no UTF-8"),
            encoded(name, latin),
            status(422),
        ));
        let twice = encode(&encode(event().as_bytes()));
        rows.push(row(
            format!("{name} twice, announced once"),
            encoded(name, twice),
            status(422),
        ));
    }
    rows.push(row(
        "JSON that is said to be gzip",
        encoded("gzip", event()),
        status(400),
    ));
    rows.push(row(
        "JSON that is said to be zstd",
        encoded("zstd", event()),
        status(400),
    ));
    rows.push(row(
        "gzip that is said to be zstd",
        encoded("zstd", gzip(event().as_bytes())),
        status(400),
    ));
    rows.push(row(
        "zstd that is said to be gzip",
        encoded("gzip", zstd(event().as_bytes())),
        status(400),
    ));
    let behind = [gzip(event().as_bytes()), b"x".to_vec()].concat();
    rows.push(row(
        "gzip with a letter behind it",
        encoded("gzip", behind),
        status(400),
    ));
    rows
}
