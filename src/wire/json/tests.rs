//! Claims about plain JSON bodies.

use super::*;
use crate::wire::{FIELD_ERRORS_MAX, WireErrorKind};
use proptest::prelude::*;

const GOOD: &str = r#"{"topic":"t","event_id":"e","timestamp":"2026-01-31T12:00:00Z","source":"s","payload":{"a":[1,{"b":null}]}}"#;

/// The fields of an event, as JSON.
const USUAL: [(&str, &str); 5] = [
    ("topic", "\"t\""),
    ("event_id", "\"e\""),
    ("timestamp", "\"2026-01-31T12:00:00Z\""),
    ("source", "\"s\""),
    ("payload", "{}"),
];

/// The usual event with one field replaced.
fn with(field: &str, value: &str) -> String {
    let members: Vec<String> = USUAL
        .iter()
        .map(|(name, usual)| {
            let value = if *name == field { value } else { usual };
            format!("\"{name}\":{value}")
        })
        .collect();
    format!("{{{}}}", members.join(","))
}

fn batch_of(events: &[String]) -> String {
    format!("{{\"events\":[{}]}}", events.join(","))
}

fn event(body: &str) -> Event {
    event_from_json(body.to_owned().into()).expect("it is an event")
}

fn listed(error: WireError) -> (Vec<String>, u64) {
    let errors = match error.kind {
        WireErrorKind::Invalid { errors, .. } => errors
            .into_iter()
            .map(|error| format!("{} {}", error.pointer, error.detail))
            .collect(),
        other => vec![other.to_string()],
    };
    (errors, error.events)
}

fn refused(body: impl Into<Bytes>) -> (Vec<String>, u64) {
    listed(event_from_json(body.into()).expect_err("it is no event"))
}

fn batch_refused(body: impl Into<Bytes>) -> (Vec<String>, u64) {
    listed(batch_from_json(body.into()).expect_err("it is no batch"))
}

#[test]
fn an_event_comes_out_as_it_went_in() {
    let event = event(
        r#" { "payload": {"n":12345678901234567890, "x":1.50} , "topic":"tä", "extra":[{}],
        "source":"a\u00e9", "event_id":"e/~", "timestamp":"2026-01-31T13:00:00+01:00" } "#,
    );
    assert_eq!(event.key(), ("tä", "e/~"));
    assert_eq!(event.source().as_str(), "aé");
    assert_eq!(
        event.payload().as_str(),
        r#"{"n":12345678901234567890, "x":1.50}"#
    );
    assert_eq!(event.timestamp().to_string(), "2026-01-31T12:00:00.000000Z");
}

#[test]
fn texts_and_payload_are_slices_of_the_body() {
    let body = Bytes::from(GOOD);
    let event = event_from_json(body.clone()).unwrap();
    let within = body.as_ptr_range();
    for text in [
        event.topic().as_str(),
        event.event_id().as_str(),
        event.source().as_str(),
        event.payload().as_str(),
    ] {
        assert!(within.contains(&text.as_ptr()), "{text}");
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert_eq!(event(&format!("\u{feff}{GOOD}")), event(GOOD));
}

#[test]
fn of_a_repeated_key_the_last_one_counts() {
    for (first, last) in [("\"a\"", "\"b\""), ("null", "\"b\""), ("[1]", "\"b\"")] {
        let body = GOOD
            .replacen('{', &format!("{{\"topic\":{first},"), 1)
            .replacen("\"topic\":\"t\"", &format!("\"topic\":{last}"), 1);
        assert_eq!(event(&body).topic().as_str(), "b", "{body}");
    }
    let body = format!("{{\"events\":7,\"events\":[{GOOD}]}}");
    assert!(batch_from_json(body.into()).is_ok());
    let body = format!("{{\"events\":[{GOOD}],\"events\":[]}}");
    assert_eq!(
        batch_refused(body).0,
        ["/events must hold at least one event"]
    );
}

#[test]
fn unknown_fields_may_hold_anything_that_is_json() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    for extra in [deep.as_str(), "1e999999", r#""\ud800\u0000""#] {
        event(&GOOD.replacen('{', &format!("{{\"x\":{extra},"), 1));
        let body = format!("{{\"x\":{extra},\"events\":[{GOOD}]}}");
        assert!(batch_from_json(body.into()).is_ok());
    }
    event(&GOOD.replacen('{', r#"{"\ud800":1,"#, 1));
}

#[test]
fn all_that_is_wrong_with_an_event_is_said() {
    assert_eq!(
        refused(r#"{"topic":"","event_id":null,"timestamp":"yesterday","payload":[1]}"#),
        (
            vec![
                "/topic must not be empty".to_owned(),
                "/event_id must be a string, is null".to_owned(),
                "/timestamp must be an RFC 3339 timestamp such as 2026-01-31T12:00:00.5Z or \
                 2026-01-31T12:00:00"
                    .to_owned(),
                "/source is required".to_owned(),
                "/payload must be an object, is an array".to_owned(),
            ],
            1
        )
    );
}

#[test]
fn each_wrong_field_has_its_own_words() {
    let long = format!("\"{}\"", "x".repeat(256));
    let deep = "{\"a\":".repeat(129) + "1" + &"}".repeat(129);
    let very_deep = "{\"a\":".repeat(100_000) + "1" + &"}".repeat(100_000);
    for (field, value, words) in [
        ("topic", "7", "must be a string, is a number"),
        ("topic", "-7", "must be a string, is a number"),
        ("event_id", "true", "must be a string, is a boolean"),
        ("source", " [ ]", "must be a string, is an array"),
        ("source", "{}", "must be a string, is an object"),
        ("timestamp", "1769860800", "must be a string, is a number"),
        (
            "timestamp",
            "\"2026-02-30T00:00:00Z\"",
            "is no date and time of the calendar",
        ),
        (
            "topic",
            "\" \\t\"",
            "must not hold control characters, holds U+0009",
        ),
        ("topic", "\"\\u00a0 \"", "must not be only white space"),
        (
            "topic",
            long.as_str(),
            "must have at most 255 characters, has 256",
        ),
        (
            "event_id",
            "\"a\\u0000\"",
            "must not hold control characters, holds U+0000",
        ),
        (
            "source",
            r#""a\ud800b""#,
            "must not hold a lone surrogate such as \\ud800",
        ),
        (
            "source",
            r#""\udc00\ud800""#,
            "must not hold a lone surrogate such as \\ud800",
        ),
        ("payload", "null", "must be an object, is null"),
        ("payload", "\"{}\"", "must be an object, is a string"),
        (
            "payload",
            deep.as_str(),
            "must be nested at most 128 levels deep",
        ),
        (
            "payload",
            very_deep.as_str(),
            "must be nested at most 128 levels deep",
        ),
        (
            "payload",
            r#"{"a":"\u0000"}"#,
            "must not hold the character U+0000, which the database cannot store",
        ),
        (
            "payload",
            r#"{"a":"\udfff"}"#,
            "must not hold a lone surrogate such as \\ud800, which is no character",
        ),
    ] {
        let (errors, events) = refused(with(field, value));
        assert_eq!(errors, [format!("/{field} {words}")]);
        assert_eq!(events, 1);
    }
}

#[test]
fn a_body_that_is_no_json_object_is_told_from_one_that_is_wrong() {
    for (body, words) in [
        (&b""[..], "the body is empty"),
        (
            b" ",
            "the body is not valid JSON: EOF while parsing a value at line 1 column 1",
        ),
        (b"{\"a\":\xff}", "the body is not UTF-8 at byte 5"),
        (
            b"{\n  \"topic\" \"t\"}",
            "the body is not valid JSON: expected `:` at line 2 column 11",
        ),
        (
            b"{} {}",
            "the body is not valid JSON: trailing characters at line 1 column 4",
        ),
        (b"[1]", " must be an object, is an array"),
        (b" \"a\"", " must be an object, is a string"),
        (b"null", " must be an object, is null"),
    ] {
        assert_eq!(refused(body), (vec![words.to_owned()], 1));
        assert_eq!(batch_refused(body), (vec![words.to_owned()], 1));
    }
    let (errors, _) = refused(GOOD.replace("null", "NaN"));
    assert!(
        errors[0].starts_with("the body is not valid JSON: expected"),
        "{errors:?}"
    );
    refused("[".repeat(1_000_000));
    refused("{\"a\":".repeat(1_000_000));
}

#[test]
fn an_array_of_the_fields_is_no_event() {
    let fields = r#"["t","e","2026-01-31T12:00:00Z","s",{}]"#;
    assert_eq!(refused(fields).0, [" must be an object, is an array"]);
    assert_eq!(
        batch_refused(batch_of(&[fields.to_owned()])).0,
        ["/events/0 must be an object, is an array"]
    );
    assert_eq!(
        batch_refused(format!("[[{GOOD}]]")).0,
        [" must be an object, is an array"]
    );
}

#[test]
fn events_must_be_an_array_of_1_to_1000() {
    for (body, words, count) in [
        ("{}".to_owned(), "/events is required", 1),
        (
            "{\"events\":null}".to_owned(),
            "/events must be an array, is null",
            1,
        ),
        (
            "{\"events\":{}}".to_owned(),
            "/events must be an array, is an object",
            1,
        ),
        (
            "{\"events\":[]}".to_owned(),
            "/events must hold at least one event",
            0,
        ),
        (
            batch_of(&vec![GOOD.to_owned(); 1001]),
            "/events must hold at most 1000 events, holds 1001",
            1001,
        ),
        (
            batch_of(&vec!["1".to_owned(); 1_000_000]),
            "/events must hold at most 1000 events, holds 1000000",
            1_000_000,
        ),
    ] {
        assert_eq!(batch_refused(body), (vec![words.to_owned()], count));
    }
    let batch = batch_from_json(batch_of(&vec![GOOD.to_owned(); 1000]).into()).unwrap();
    assert_eq!(batch.events().len(), 1000);
}

#[test]
fn every_event_of_a_rejected_batch_is_counted_and_every_wrong_one_is_named() {
    let events = [
        GOOD.to_owned(),
        with("topic", "\"\""),
        "7".to_owned(),
        with("payload", "1"),
    ];
    assert_eq!(
        batch_refused(batch_of(&events)),
        (
            vec![
                "/events/1/topic must not be empty".to_owned(),
                "/events/2 must be an object, is a number".to_owned(),
                "/events/3/payload must be an object, is a number".to_owned(),
            ],
            4
        )
    );
}

#[test]
fn errors_are_kept_up_to_a_number_and_counted_beyond() {
    let body = batch_of(&vec!["{}".to_owned(); 30]);
    let error = batch_from_json(body.into()).unwrap_err();
    let WireErrorKind::Invalid {
        errors,
        errors_total,
    } = error.kind
    else {
        panic!("{error:?}");
    };
    assert_eq!((errors.len(), errors_total), (FIELD_ERRORS_MAX, 150));
}

/// JSON values that are sometimes what a field asks for.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("\"t\"".to_owned()),
        4 => Just("\"2026-01-31T12:00:00Z\"".to_owned()),
        4 => Just("{\"a\":[1e3]}".to_owned()),
        1 => prop::sample::select(vec![
            "\"\"", "\" \"", "null", "1", "1e999", "[]", "[{}]", "true", "{}", "{\"a\":1e999999}",
            r#""\u0074""#, r#""\ud800""#, r#""\ud83d\ude00""#, r#"{"a":"\ud800"}"#,
            r#"{"a":"\u0000"}"#, "\"ü\"", "{\"a\":1,\"a\":2}", " \"t\" ",
        ]).prop_map(str::to_owned),
        1 => any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ]
}

/// Objects with all, some or repeated fields of an event, in any order.
fn object() -> impl Strategy<Value = String> {
    let usual = USUAL.map(|(name, value)| (format!("\"{name}\""), value.to_owned()));
    let key = prop_oneof![
        8 => prop::sample::select(USUAL.to_vec()).prop_map(|(name, _)| format!("\"{name}\"")),
        1 => Just(r#""\u0074opic""#.to_owned()),
        1 => Just(r#""\udfff""#.to_owned()),
        1 => any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    prop::collection::vec((key, value()), 0..3)
        .prop_flat_map(move |extra| {
            let members: Vec<(String, String)> = usual.iter().cloned().chain(extra).collect();
            Just(members).prop_shuffle()
        })
        .prop_map(|members| {
            let members: Vec<String> = members
                .into_iter()
                .map(|(key, value)| format!("{key}:{value}"))
                .collect();
            format!("{{{}}}", members.join(","))
        })
}

/// A text with one character put in, taken out or replaced.
fn damaged(text: String, at: prop::sample::Index, char: char, kind: u8) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let at = at.index(chars.len());
    match kind {
        0 => drop(chars.remove(at)),
        1 => chars.insert(at, char),
        _ => chars[at] = char,
    }
    chars.into_iter().collect()
}

/// What the patient way makes of a body, syntax and all.
fn patiently(body: &ByteString) -> Option<Event> {
    fields::check_syntax(body).ok()?;
    event_patiently(body, body, "", &mut FieldErrors::default())
}

fn same(one: &Event, other: &Event) -> bool {
    one == other && one.payload().as_str() == other.payload().as_str()
}

proptest! {
    #[test]
    fn what_is_read_quickly_is_read_patiently_as_the_same_event(
        text in object(),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<char>(), 0..3_u8)),
    ) {
        let body = ByteString::from(match damage {
            Some((at, char, kind)) => damaged(text, at, char, kind),
            None => text,
        });
        let patient = patiently(&body);
        if let Some(quick) = event_quickly(&body, &body) {
            prop_assert!(patient.as_ref().is_some_and(|event| same(event, &quick)), "{body}");
        }
        let read = event_from_json(body.clone().into_bytes()).ok();
        prop_assert_eq!(read, patient, "{}", body);
    }

    #[test]
    fn a_batch_is_read_quickly_and_patiently_as_the_same_batch(
        events in prop::collection::vec(object(), 0..4),
    ) {
        let body = ByteString::from(batch_of(&events));
        let patient = batch_patiently(&body);
        if let Some(quick) = batch_quickly(&body) {
            prop_assert_eq!(Ok(quick), patient.clone(), "{}", body);
        }
        let count = u64::try_from(events.len()).unwrap();
        if let Err(error) = patient {
            prop_assert_eq!(error.events, count);
        }
    }

    #[test]
    fn an_event_without_repeated_keys_and_surrogates_is_read_quickly(
        (topic, source) in ("[a-z\"\\\\é]{1,40}", "[ -~]{0,20}[!-~]"),
        number in any::<f64>().prop_filter("JSON has no NaN", |number| number.is_finite()),
    ) {
        let body = serde_json::json!({
            "topic": topic, "event_id": "e", "timestamp": "2026-01-31T12:00:00Z",
            "source": source, "payload": {"number": number},
        });
        let body = ByteString::from(body.to_string());
        let event = event_quickly(&body, &body).expect("it is an event");
        prop_assert_eq!(event.topic().as_str(), topic);
        prop_assert_eq!(event.source().as_str(), source);
    }
}

/// Not a claim but a number: `cargo test --release --lib wire -- --ignored --nocapture`.
#[test]
#[ignore = "measures, and is of use in release builds only"]
#[expect(clippy::print_stdout, reason = "the number is what it is run for")]
fn a_batch_of_1000_events_of_400_bytes_is_read_in_well_under_a_millisecond() {
    let filler = "lorem ipsum ".repeat(20);
    let events: Vec<String> = (0..1000)
        .map(|index| {
            format!(
                "{{\"topic\":\"orders.created\",\"event_id\":\"order-{index:08}-aa\",\
                 \"timestamp\":\"2026-01-31T12:00:00.123456Z\",\"source\":\"shop-frontend-3\",\
                 \"payload\":{{\"index\":{index},\"ok\":true,\"text\":\"{filler}\"}}}}"
            )
        })
        .collect();
    let body = Bytes::from(batch_of(&events));
    let mut best = std::time::Duration::MAX;
    for _ in 0..200 {
        let start = std::time::Instant::now();
        let batch = batch_from_json(body.clone()).expect("it is a batch");
        best = best.min(start.elapsed());
        assert_eq!(batch.events().len(), 1000);
    }
    println!("{} bytes in {best:?}", body.len());
}
