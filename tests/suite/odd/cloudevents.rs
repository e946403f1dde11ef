//! CloudEvents 1.0 in binary, structured and batched mode.

use super::{
    request::{Request, fresh_id, post, quoted},
    row::{Expected, Row, invalid_at, row, status, stored, stored_at},
};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCHED: &str = "application/cloudevents-batch+json";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = structured();
    rows.extend(batched());
    rows.extend(binary_headers());
    rows.extend(binary_bodies());
    rows
}

/// The event that a CloudEvent of this id, with this payload, becomes.
fn becomes(id: &str, payload: &str) -> String {
    let event_id = quoted(&format!("/shop#{id}"));
    format!(
        r#"{{"topic":"order.created","event_id":{event_id},"source":"/shop","payload":{payload}}}"#
    )
}

/// A CloudEvent as JSON, with these members besides.
fn object(id: &str, more: &str) -> String {
    let id = quoted(id);
    format!(
        r#"{{"specversion":"1.0","id":{id},"source":"/shop","type":"order.created","time":"2026-01-31T12:00:00Z"{more}}}"#
    )
}

fn structured() -> Vec<Row> {
    let of = |body: String| post("/publish", STRUCTURED, body);
    let kept = |name: &str, more: &str, payload: &str| {
        let id = fresh_id();
        let name = format!("structured: {name}");
        row(
            name,
            of(object(&id, more)),
            stored(vec![becomes(&id, payload)]),
        )
    };
    let wrong = |name: &str, from: &str, to: &str, expected: Expected| {
        let body = object(&fresh_id(), ",\"data\":{}").replacen(from, to, 1);
        row(format!("structured: {name}"), of(body), expected)
    };
    let time = r#""time":"2026-01-31T12:00:00Z""#;
    let zoned = fresh_id();
    vec![
        kept(
            "data is an object",
            r#","data":{"n":1.50}"#,
            r#"{"n":1.50}"#,
        ),
        kept(
            "data is an array",
            r#","data":[1,{}]"#,
            r#"{"data":[1,{}]}"#,
        ),
        kept(
            "data is a string",
            r#","data":"text""#,
            r#"{"data":"text"}"#,
        ),
        kept("data is a number", r#","data":1e400"#, r#"{"data":1e400}"#),
        kept("data is null", r#","data":null"#, r#"{"data":null}"#),
        kept("no data", "", "{}"),
        kept(
            "an extension and a subject",
            r#","subject":"a","comexample":7,"data":{}"#,
            "{}",
        ),
        kept(
            "a type of the data that is JSON",
            r#","datacontenttype":"application/vnd.a+json; charset=utf-8","data":[]"#,
            r#"{"data":[]}"#,
        ),
        kept(
            "attributes that are null",
            r#","datacontenttype":null,"dataschema":null,"data_base64":null,"data":{}"#,
            "{}",
        ),
        kept(
            "data nested 128 levels deep",
            &format!(",\"data\":{}{{}}{}", "{\"a\":".repeat(127), "}".repeat(127)),
            &format!("{}{{}}{}", "{\"a\":".repeat(127), "}".repeat(127)),
        ),
        row(
            "structured: an offset",
            of(object(&zoned, "").replacen("12:00:00Z", "12:00:00.5+01:00", 1)),
            stored_at("2026-01-31T11:00:00.500000Z", vec![becomes(&zoned, "{}")]),
        ),
        row("structured: no body", of(String::new()), status(422)),
        row("structured: no JSON", of("{".to_owned()), status(422)),
        row(
            "structured: an array",
            of(format!("[{}]", object("1", ""))),
            invalid_at(&[""]),
        ),
        row(
            "structured: nothing in it",
            of("{}".to_owned()),
            status(422),
        ),
        wrong("no time", &format!(",{time}"), "", invalid_at(&["/time"])),
        wrong(
            "time is null",
            time,
            "\"time\":null",
            invalid_at(&["/time"]),
        ),
        wrong(
            "time is a date",
            time,
            "\"time\":\"2026-01-31\"",
            invalid_at(&["/time"]),
        ),
        wrong(
            "no type",
            ",\"type\":\"order.created\"",
            "",
            invalid_at(&["/type"]),
        ),
        wrong(
            "type is blank",
            "order.created",
            " ",
            invalid_at(&["/type"]),
        ),
        wrong(
            "type is a number",
            "\"order.created\"",
            "1",
            invalid_at(&["/type"]),
        ),
        wrong(
            "no source",
            ",\"source\":\"/shop\"",
            "",
            invalid_at(&["/source"]),
        ),
        wrong("source is too long", "/shop", &"s".repeat(256), status(422)),
        wrong(
            "id is empty",
            "\"id\":\"",
            "\"id\":\"\",\"x\":\"",
            invalid_at(&["/id"]),
        ),
        wrong(
            "id is a number",
            "\"id\":\"",
            "\"id\":1,\"x\":\"",
            invalid_at(&["/id"]),
        ),
        wrong("version 0.3", "1.0", "0.3", invalid_at(&["/specversion"])),
        wrong(
            "version is a number",
            "\"1.0\"",
            "1.0",
            invalid_at(&["/specversion"]),
        ),
        wrong(
            "no version",
            "\"specversion\":\"1.0\",",
            "",
            invalid_at(&["/specversion"]),
        ),
        wrong(
            "data with U+0000",
            "\"data\":{}",
            r#""data":"\u0000""#,
            invalid_at(&["/data"]),
        ),
        wrong(
            "data nested 128 levels deep in an array",
            "\"data\":{}",
            &format!("\"data\":{}{}", "[".repeat(128), "]".repeat(128)),
            invalid_at(&["/data"]),
        ),
        wrong(
            "data in base64",
            "\"data\":{}",
            r#""data_base64":"AAAA""#,
            status(415),
        ),
        wrong(
            "data that is XML",
            "\"data\":{}",
            r#""datacontenttype":"application/xml","data":"<a/>""#,
            status(415),
        ),
        wrong(
            "a type of the data that is a number",
            "\"data\":{}",
            r#""datacontenttype":1,"data":{}"#,
            invalid_at(&["/datacontenttype"]),
        ),
    ]
}

fn batched() -> Vec<Row> {
    let of = |body: String| post("/publish/batch", BATCHED, body);
    let (one, other) = (fresh_id(), fresh_id());
    let many = |ids: &[String]| {
        let objects: Vec<String> = ids.iter().map(|id| object(id, "")).collect();
        format!("[{}]", objects.join(","))
    };
    let ids: Vec<String> = (0..1001).map(|_| fresh_id()).collect();
    let fits = &ids[..1000];
    let mixed = |bad: &str| format!("[{},{bad}]", object(&fresh_id(), ""));
    vec![
        row(
            "batched: two",
            of(format!(
                "[{},{}]",
                object(&one, ""),
                object(&other, ",\"data\":7")
            )),
            stored(vec![becomes(&one, "{}"), becomes(&other, "{\"data\":7}")]),
        ),
        row(
            "batched: a thousand",
            of(many(fits)),
            stored(fits.iter().map(|id| becomes(id, "{}")).collect()),
        ),
        row(
            "batched: a thousand and one",
            of(many(&ids)),
            invalid_at(&[""]),
        ),
        row("batched: none", of("[]".to_owned()), invalid_at(&[""])),
        row("batched: an object", of(object("1", "")), invalid_at(&[""])),
        row("batched: null", of("null".to_owned()), invalid_at(&[""])),
        row("batched: no body", of(String::new()), status(422)),
        row(
            "batched: one is a number",
            of(mixed("1")),
            invalid_at(&["/1"]),
        ),
        row(
            "batched: one without id",
            of(mixed(&object("", ""))),
            invalid_at(&["/1/id"]),
        ),
        row(
            "batched: one in base64",
            of(mixed(&object("1", ",\"data_base64\":\"AA==\""))),
            status(415),
        ),
        row(
            "batched to /publish",
            post("/publish", BATCHED, many(&ids[..1])),
            status(415),
        ),
        row(
            "structured to /publish/batch",
            post("/publish/batch", STRUCTURED, object("1", "")),
            status(415),
        ),
    ]
}

/// A CloudEvent in binary mode, whose attributes are changed so.
fn binary(id: &str, changes: &[(&str, &[u8])], body: &str) -> Request {
    let usual: [(&str, &[u8]); 5] = [
        ("ce-specversion", b"1.0"),
        ("ce-id", id.as_bytes()),
        ("ce-source", b"/shop"),
        ("ce-type", b"order.created"),
        ("ce-time", b"2026-01-31T12:00:00Z"),
    ];
    let is_changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
    let kept = usual.into_iter().filter(|(name, _)| !is_changed(name));
    let changed = changes.iter().copied().filter(|(_, value)| *value != GONE);
    let mut request = Request::new("POST", "/publish");
    for (name, value) in kept.chain(changed) {
        request = request.header(name, value);
    }
    request.body(body)
}

/// In the place of a value: the header is not there.
const GONE: &[u8] = b"gone";

fn binary_headers() -> Vec<Row> {
    let wrong = |name: &str, header: &str, value: &[u8], pointers: &[&'static str]| {
        let request = binary(&fresh_id(), &[(header, value)], "{}");
        row(format!("binary: {name}"), request, invalid_at(pointers))
    };
    let typed = |name: &str, value: &[u8], topic: &str| {
        let id = fresh_id();
        let event = becomes(&id, "{}").replacen("\"order.created\"", &quoted(topic), 1);
        let request = binary(&id, &[("ce-type", value)], "{}");
        row(format!("binary: {name}"), request, stored(vec![event]))
    };
    vec![
        typed(
            "percent-encoded",
            b"Euro%20%E2%82%AC%20%F0%9F%98%80",
            "Euro € 😀",
        ),
        typed("percent-encoded twice", b"100%2525", "100%25"),
        typed("a percent sign that encodes nothing", b"50% off", "50% off"),
        typed("in quotes", b"\"a \\\"b\\\" %41\"", "a \"b\" A"),
        typed("plain UTF-8", "über".as_bytes(), "über"),
        typed("white space around it", b" \t created \t", "created"),
        wrong("no time", "ce-time", GONE, &["/time"]),
        wrong("an empty time", "ce-time", b"", &["/time"]),
        wrong("a time that is none", "ce-time", b"yesterday", &["/time"]),
        wrong("no id", "ce-id", GONE, &["/id"]),
        wrong("an empty id", "ce-id", b"", &["/id"]),
        wrong("no source", "ce-source", GONE, &["/source"]),
        wrong("no type", "ce-type", GONE, &["/type"]),
        wrong("no version", "ce-specversion", GONE, &["/specversion"]),
        wrong(
            "another version",
            "ce-specversion",
            b"2.0",
            &["/specversion"],
        ),
        wrong("a type of blanks", "ce-type", b"%20%20", &["/type"]),
        wrong("a control character", "ce-type", b"a%0Ab", &["/type"]),
        wrong("a zero", "ce-id", b"%00", &["/id"]),
        wrong("no UTF-8", "ce-type", b"\xe4", &["/type"]),
        wrong("no UTF-8 when decoded", "ce-source", b"%ff", &["/source"]),
        wrong(
            "a surrogate when decoded",
            "ce-type",
            b"%ED%A0%80",
            &["/type"],
        ),
        wrong(
            "a type of 256 characters",
            "ce-type",
            &[b'a'; 256],
            &["/type"],
        ),
        wrong(
            "an id that is too long with its source",
            "ce-id",
            &[b'a'; 250],
            &["/id"],
        ),
    ]
}

fn binary_bodies() -> Vec<Row> {
    let kept = |name: &str, content_type: &str, body: &str, payload: &str| {
        let id = fresh_id();
        let request = binary(&id, &[("Content-Type", content_type.as_bytes())], body);
        row(
            format!("binary: {name}"),
            request,
            stored(vec![becomes(&id, payload)]),
        )
    };
    let of_type = |name: &str, content_type: &str, body: &str, expected: u16| {
        let request = binary(
            &fresh_id(),
            &[("Content-Type", content_type.as_bytes())],
            body,
        );
        row(format!("binary: {name}"), request, status(expected))
    };
    let plain = fresh_id();
    let no_body = fresh_id();
    vec![
        kept("an object", "application/json", "{\"n\":1}", "{\"n\":1}"),
        kept("an array", "text/json", "[1]", "{\"data\":[1]}"),
        kept(
            "null",
            "application/json; charset=utf-8",
            "null",
            "{\"data\":null}",
        ),
        kept(
            "white space around it",
            "application/vnd.a.b+json",
            " \r\n{} ",
            "{}",
        ),
        kept("no body of any type", "image/png", "", "{}"),
        row(
            "binary: no type",
            binary(&plain, &[], "\"a\""),
            stored(vec![becomes(&plain, "{\"data\":\"a\"}")]),
        ),
        row(
            "binary: neither type nor body",
            binary(&no_body, &[], ""),
            stored(vec![becomes(&no_body, "{}")]),
        ),
        of_type("text", "text/plain", "hello", 415),
        of_type("XML", "application/xml", "<a/>", 415),
        of_type("bytes", "application/octet-stream", "\u{1}", 415),
        of_type("no JSON", "application/json", "{", 422),
        of_type("blanks", "application/json", "  ", 422),
        of_type("U+0000", "application/json", r#""\u0000""#, 422),
        of_type(
            "nested too deeply",
            "application/json",
            &format!("{}{}", "[".repeat(128), "]".repeat(128)),
            422,
        ),
        row(
            "binary to /publish/batch",
            Request::new("POST", "/publish/batch")
                .header("ce-specversion", "1.0")
                .header("ce-id", "1")
                .body("{}"),
            status(415),
        ),
    ]
}
