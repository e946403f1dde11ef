//! Claims about CloudEvents.

use super::*;
use crate::wire::WireErrorKind;

const HEADERS: [(&str, &str); 5] = [
    ("ce-specversion", "1.0"),
    ("CE-ID", "7"),
    ("ce-source", "/shop"),
    ("ce-type", "order.created"),
    ("ce-time", "2026-01-31T12:00:00Z"),
];

/// The attributes of a good event, followed by `more`.
fn object(more: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"7","source":"/shop","type":"order.created","time":"2026-01-31T12:00:00Z","subject":null{more}}}"#
    )
}

fn structured(body: &str) -> Result<Event, WireError> {
    event_from_cloudevents_structured(body.to_owned().into())
}

fn binary(changes: &[(&str, &str)], body: &str) -> Result<Event, WireError> {
    let headers: Vec<(&str, &str)> = HEADERS
        .iter()
        .filter(|(name, _)| {
            changes
                .iter()
                .all(|(changed, _)| !changed.eq_ignore_ascii_case(name))
        })
        .chain(changes.iter().filter(|(_, value)| !value.is_empty()))
        .copied()
        .collect();
    event_from_cloudevents_binary(
        headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes())),
        body.to_owned().into(),
    )
}

fn listed<T: std::fmt::Debug>(result: Result<T, WireError>) -> (Vec<String>, u64) {
    let error = result.expect_err("it is refused");
    let errors = match error.kind {
        WireErrorKind::Invalid { errors, .. } => errors
            .into_iter()
            .map(|error| format!("{} {}", error.pointer, error.detail))
            .collect(),
        WireErrorKind::UnsupportedData { detail } => vec![format!("unsupported: {detail}")],
        other @ WireErrorKind::Malformed { .. } => vec![other.to_string()],
    };
    (errors, error.events)
}

#[test]
fn attributes_become_the_fields_of_an_event() {
    for event in [
        structured(&object(r#","data":{"n":1}"#)).unwrap(),
        binary(
            &[("content-type", "application/json; charset=utf-8")],
            " {\"n\":1} ",
        )
        .unwrap(),
        batch_from_cloudevents(format!("[{}]", object(r#","data":{"n":1}"#)).into())
            .unwrap()
            .first()
            .clone(),
    ] {
        assert_eq!(event.key(), ("order.created", "/shop#7"));
        assert_eq!(event.source().as_str(), "/shop");
        assert_eq!(event.timestamp().to_string(), "2026-01-31T12:00:00.000000Z");
        assert_eq!(event.payload().as_str(), "{\"n\":1}");
    }
}

#[test]
fn data_that_is_no_object_is_wrapped_and_none_is_an_empty_object() {
    for (data, payload) in [
        ("[1, 2]", "{\"data\":[1, 2]}"),
        ("\"a\"", "{\"data\":\"a\"}"),
        ("7", "{\"data\":7}"),
        ("null", "{\"data\":null}"),
    ] {
        let event = structured(&object(&format!(",\"data\":{data}"))).unwrap();
        assert_eq!(event.payload().as_str(), payload);
        assert_eq!(binary(&[], data).unwrap().payload().as_str(), payload);
    }
    assert_eq!(structured(&object("")).unwrap().payload().as_str(), "{}");
    let without_body = binary(&[("content-type", "text/plain")], "");
    assert_eq!(without_body.unwrap().payload().as_str(), "{}");
}

#[test]
fn data_that_is_not_json_is_unsupported() {
    for more in [
        r#","data_base64":"AAAA""#,
        r#","datacontenttype":"text/plain","data":"hello""#,
        r#","datacontenttype":"application/xml","data":"<a/>""#,
    ] {
        let (errors, events) = listed(structured(&object(more)));
        assert!(errors[0].starts_with("unsupported: "), "{errors:?}");
        assert_eq!(events, 1);
        let body = format!("[{},{{}},{}]", object(""), object(more));
        let (errors, events) = listed(batch_from_cloudevents(body.into()));
        assert!(errors[0].starts_with("unsupported: /2 "), "{errors:?}");
        assert_eq!(events, 3);
    }
    let (errors, _) = listed(binary(&[("Content-Type", "text/plain")], "hello"));
    assert!(errors[0].starts_with("unsupported: "), "{errors:?}");
}

#[test]
fn json_goes_by_several_names() {
    for media_type in [
        "application/json",
        "Text/JSON ; a=b",
        "application/vnd.api+json",
    ] {
        assert!(
            binary(&[("content-type", media_type)], "{}").is_ok(),
            "{media_type}"
        );
        let more = format!(r#","datacontenttype":"{media_type}","data":{{}}"#);
        assert!(structured(&object(&more)).is_ok(), "{media_type}");
    }
    let unset = r#","datacontenttype":null,"data_base64":null,"data":1"#;
    assert!(structured(&object(unset)).is_ok());
}

#[test]
fn every_missing_or_wrong_attribute_is_named() {
    assert_eq!(
        listed(structured(
            r#"{"specversion":"0.3","id":7,"source":"","type":null,"data":{}}"#
        )),
        (
            vec![
                "/id must be a string, is a number".to_owned(),
                "/type is required".to_owned(),
                "/time is required".to_owned(),
                "/specversion must be 1.0".to_owned(),
                "/source must not be empty".to_owned(),
            ],
            1
        )
    );
    let changes = [
        ("ce-time", ""),
        ("ce-type", "%20"),
        ("ce-source", "%ff"),
        ("ce-id", "%00"),
    ];
    assert_eq!(
        listed(binary(&changes, "{\"a\":\"\\u0000\"}")).0,
        [
            "/source must be percent-encoded UTF-8",
            "/time is required as header ce-time",
            "/data must not hold the character U+0000, which the database cannot store",
            "/id must not hold control characters, holds U+0000",
            "/type must not be only white space",
        ]
    );
    let (errors, _) = listed(structured(&object(r#","datacontenttype":7,"data":1"#)));
    assert_eq!(errors, ["/datacontenttype must be a string, is a number"]);
}

#[test]
fn an_event_id_is_measured_with_its_source() {
    let long = "x".repeat(250);
    assert_eq!(
        listed(binary(&[("ce-id", &long)], "")).0,
        ["/id behind its source and a # must have at most 255 characters, has 256"]
    );
    assert!(binary(&[("ce-id", &long[1..])], "").is_ok());
}

#[test]
fn header_values_are_unquoted_and_percent_decoded_once() {
    for (value, text) in [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("100%2525", "100%25"),
        ("\"a \\\"b\\\" %41\"", "a \"b\" A"),
        ("50%", "50%"),
        ("über", "über"),
    ] {
        let event = binary(&[("ce-type", value)], "").unwrap();
        assert_eq!(event.topic().as_str(), text);
    }
}

#[test]
fn a_body_that_is_no_json_is_malformed() {
    let (errors, events) = listed(binary(&[], "{"));
    assert!(
        errors[0].starts_with("the body is not valid JSON"),
        "{errors:?}"
    );
    assert_eq!(events, 1);
    for body in ["", "{", "\u{feff}"] {
        assert_eq!(listed(structured(body)).1, 1);
        assert_eq!(listed(batch_from_cloudevents(body.into())).1, 1);
    }
    assert_eq!(
        listed(structured("[]")).0,
        [" must be an object, is an array"]
    );
}

#[test]
fn a_batch_is_an_array_of_1_to_1000() {
    let batch = |count: usize| {
        let events = vec![object(""); count].join(",");
        batch_from_cloudevents(format!("[{events}]").into())
    };
    assert_eq!(batch(1000).unwrap().events().len(), 1000);
    assert_eq!(
        listed(batch(1001)),
        (
            vec![" must hold at most 1000 events, holds 1001".to_owned()],
            1001
        )
    );
    assert_eq!(
        listed(batch(0)),
        (vec![" must hold at least one event".to_owned()], 0)
    );
    assert_eq!(
        listed(batch_from_cloudevents("{}".into())).0,
        [" must be an array, is an object"]
    );
    let body = format!("[{},1,{{\"id\":\"\"}}]", object(""));
    let (errors, events) = listed(batch_from_cloudevents(body.into()));
    assert_eq!(errors[0], "/1 must be an object, is a number");
    assert!(
        errors.contains(&"/2/id must not be empty".to_owned()),
        "{errors:?}"
    );
    assert_eq!(events, 3);
}
