//! Batches as JSON and as lines: none, too many, mixed, nested.

use super::{
    request::{
        Request, batch_of, event, events, post, publish, publish_batch, with, with_text, without,
    },
    row::{Row, invalid_at, row, status, stored},
};

const EVENTS_MAX: usize = 1000;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = shapes();
    rows.extend(contents());
    rows.extend(lines());
    rows
}

fn shapes() -> Vec<Row> {
    let wrong = [
        ("an empty object", "{}", ""),
        ("no events", "{\"events\":[]}", "/events"),
        ("events are null", "{\"events\":null}", "/events"),
        ("events are an object", "{\"events\":{}}", "/events"),
        ("events are a string", "{\"events\":\"[]\"}", "/events"),
        ("events are a number", "{\"events\":1}", "/events"),
        ("events are true", "{\"events\":true}", "/events"),
        ("another name", "{\"event\":[]}", "/events"),
        ("another capital", "{\"Events\":[]}", "/events"),
        ("the body is an array", "[]", ""),
        ("the body is null", "null", ""),
        ("the body is a string", "\"events\"", ""),
        ("an event is null", "{\"events\":[null]}", "/events/0"),
        ("an event is an array", "{\"events\":[[]]}", "/events/0"),
        ("an event is a string", "{\"events\":[\"{}\"]}", "/events/0"),
        ("an event is a number", "{\"events\":[1]}", "/events/0"),
    ];
    let mut rows: Vec<Row> = wrong
        .map(|(name, body, pointer)| {
            let pointer = if name == "an empty object" {
                "/events"
            } else {
                pointer
            };
            row(name, publish_batch(body), invalid_at(&[pointer]))
        })
        .into();
    let broken = [
        ("no body", ""),
        ("an opening brace", "{"),
        ("an array that never ends", "{\"events\":[{}"),
        ("a comma at the end", "{\"events\":[{},]}"),
        ("a word for an event", "{\"events\":[event]}"),
        ("ten thousand brackets", &"[".repeat(10_000)),
    ];
    rows.extend(broken.map(|(name, body)| row(name, publish_batch(body), status(422))));
    let array = format!("[{}]", event());
    rows.push(row(
        "events without their name",
        publish_batch(array),
        invalid_at(&[""]),
    ));
    let nested = batch_of(&[batch_of(&events(1))]);
    let missing = ["topic", "event_id", "timestamp", "source", "payload"];
    let pointers = missing.map(|field| &*format!("/events/0/{field}").leak());
    rows.push(row(
        "a batch in a batch",
        publish_batch(nested),
        invalid_at(&pointers),
    ));
    rows.push(row(
        "one event to /publish/batch",
        publish_batch(event()),
        invalid_at(&["/events"]),
    ));
    rows.push(row(
        "a batch to /publish",
        publish(batch_of(&events(2))),
        status(422),
    ));
    rows
}

fn contents() -> Vec<Row> {
    let whole = |name: &str, events: Vec<String>| {
        row(name, publish_batch(batch_of(&events)), stored(events))
    };
    let mixed = |name: &str, bad: String, pointers: &[&'static str]| {
        let body = batch_of(&[event(), bad, event()]);
        row(name, publish_batch(body), invalid_at(pointers))
    };
    let repeated = event();
    let unknown = events(2);
    let later = events(1);
    let twice = events(1);
    vec![
        whole("one", events(1)),
        whole("two", events(2)),
        whole("a thousand", events(EVENTS_MAX)),
        row(
            "a thousand and one",
            publish_batch(batch_of(&events(EVENTS_MAX + 1))),
            invalid_at(&["/events"]),
        ),
        row(
            "a hundred thousand that are nothing",
            publish_batch(format!("{{\"events\":[{}0]}}", "0,".repeat(100_000))),
            invalid_at(&["/events"]),
        ),
        whole("the same event twice", vec![repeated.clone(), repeated]),
        row(
            "fields that nobody knows",
            publish_batch(batch_of(&unknown).replacen('{', "{\"count\":-1,\"more\":[[{}]],", 1)),
            stored(unknown),
        ),
        row(
            "events twice, of which the last counts",
            publish_batch(batch_of(&later).replacen('{', "{\"events\":[],", 1)),
            stored(later),
        ),
        row(
            "events twice, the last of them none",
            publish_batch(batch_of(&twice).replacen("]}", "],\"events\":[]}", 1)),
            invalid_at(&["/events"]),
        ),
        mixed("one without topic", without("topic"), &["/events/1/topic"]),
        mixed(
            "one with a long source",
            with_text("source", &"s".repeat(256)),
            &["/events/1/source"],
        ),
        mixed(
            "one with a bad timestamp",
            with_text("timestamp", "now"),
            &["/events/1/timestamp"],
        ),
        mixed(
            "one that jsonb cannot hold",
            with("payload", r#"{"a":"\u0000"}"#),
            &["/events/1/payload"],
        ),
        mixed(
            "one with a number out of range",
            with("payload", r#"{"a":1e999999}"#),
            &["/events/1/payload"],
        ),
        mixed(
            "one that is nested too deeply",
            with(
                "payload",
                format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200)),
            ),
            &["/events/1/payload"],
        ),
        mixed(
            "one with half a surrogate pair",
            with("event_id", r#""\ud800""#),
            &["/events/1/event_id"],
        ),
        mixed("one that is null", "null".to_owned(), &["/events/1"]),
        row(
            "the first and the last are wrong",
            publish_batch(batch_of(&[without("source"), event(), without("payload")])),
            invalid_at(&["/events/0/source", "/events/2/payload"]),
        ),
        row(
            "all of a thousand are wrong",
            publish_batch(batch_of(&vec!["{}".to_owned(); EVENTS_MAX])),
            status(422),
        ),
    ]
}

fn lines() -> Vec<Row> {
    let of = |body: String| -> Request { post("/publish/batch", "application/x-ndjson", body) };
    let three = events(3);
    let spaced = events(2);
    let marked = events(2);
    let many = events(EVENTS_MAX);
    let kept = |name: &str, body: String, events: Vec<String>| row(name, of(body), stored(events));
    let wrong = |name: &str, body: String, pointers: &[&'static str]| {
        row(format!("lines: {name}"), of(body), invalid_at(pointers))
    };
    let cut = event();
    let (cut, rest) = cut.split_at(30);
    vec![
        kept("lines: three", three.join("\n"), three),
        kept(
            "lines: blank ones and carriage returns",
            format!("\n\r\n{}\r\n \t \n{}\n\n", spaced[0], spaced[1]),
            spaced,
        ),
        kept(
            "lines: a byte order mark",
            format!("\u{feff}{}", marked.join("\n")),
            marked,
        ),
        kept("lines: a thousand", many.join("\n"), many),
        wrong(
            "a thousand and one",
            events(EVENTS_MAX + 1).join("\n"),
            &["/events"],
        ),
        wrong("only blank ones", "\n\r\n \n".to_owned(), &["/events"]),
        row("lines: no body", of(String::new()), status(422)),
        wrong(
            "a comma between",
            format!("{},\n{}", event(), event()),
            &["/events/0"],
        ),
        wrong(
            "two events on one",
            format!("{}{}", event(), event()),
            &["/events/0"],
        ),
        wrong(
            "an event on two",
            format!("{cut}\n{rest}"),
            &["/events/0", "/events/1"],
        ),
        wrong("a word", format!("{}\nevent", event()), &["/events/1"]),
        wrong("an array", "[]".to_owned(), &["/events/0"]),
        wrong(
            "a batch on one",
            batch_of(&events(2)),
            &[
                "/events/0/topic",
                "/events/0/event_id",
                "/events/0/timestamp",
                "/events/0/source",
                "/events/0/payload",
            ],
        ),
        wrong(
            "a carriage return for a line end",
            format!("{}\r{}", event(), event()),
            &["/events/0"],
        ),
        wrong(
            "a record separator in front",
            format!("\u{1e}{}", event()),
            &["/events/0"],
        ),
        wrong(
            "a comment",
            format!("# events\n{}", event()),
            &["/events/0"],
        ),
        wrong(
            "blank lines count for nothing",
            format!("\n\n{}\n\n{}", event(), without("topic")),
            &["/events/1/topic"],
        ),
        row(
            "lines: Latin-1",
            post(
                "/publish/batch",
                "application/x-ndjson",
                [event().as_bytes(), b"\n\xe4"].concat(),
            ),
            status(422),
        ),
    ]
}
