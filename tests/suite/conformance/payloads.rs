//! Whatever the domain accepts as a payload, the engine accepts, and gives back as the same JSON
//! value: a property. Which spellings are the same value, both engines agree on: a table.

use super::{Fixture, append, batch, event_with};
use crate::support::Engine;
use oncelog::domain::{
    Outcome::{self, Conflict, Duplicate, Stored},
    Payload, PayloadDigest,
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

const CASES: usize = 300;

/// Two values, and what the second one is under the key of the first.
pub(super) const SPELLINGS: [(&str, &str, Outcome); 19] = [
    ("1", "1.0", Duplicate),
    ("100", "1e2", Duplicate),
    ("0", "-0", Duplicate),
    ("[1,2]", " [ 1 ,\n2 ] ", Duplicate),
    ("\"é\"", "\"\\u00e9\"", Duplicate),
    ("\"\u{1f600}\"", "\"\\uD83D\\ude00\"", Duplicate),
    (r#"{"b":1,"a":2}"#, r#"{"a":2,"b":1}"#, Duplicate),
    (r#"{"a":1,"a":2}"#, r#"{"a":2}"#, Duplicate),
    ("9007199254740992", "9007199254740993", Conflict),
    (
        "123456789012345678901234567890",
        "123456789012345678901234567891",
        Conflict,
    ),
    ("1e131071", "1e131070", Conflict),
    ("1e-16383", "0", Conflict),
    ("1", "\"1\"", Conflict),
    ("1", "true", Conflict),
    ("null", "{}", Conflict),
    ("[1,2]", "[2,1]", Conflict),
    ("\"é\"", "\"e\u{301}\"", Conflict),
    ("\"a\"", "\"A\"", Conflict),
    (r#"{"a":1,"a":2}"#, r#"{"a":1}"#, Conflict),
];

/// A JSON number in any spelling, of any size that `numeric` holds.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        "-?[1-9][0-9]{29,60}",
        "-?(0|[1-9][0-9]{0,8})\\.[0-9]{1,40}",
        "-?[1-9](\\.[0-9]{1,5})?[eE][+-]?[0-9]{1,3}",
        Just("1e308".to_owned()),
        Just("-0".to_owned()),
        Just("1e131071".to_owned()),
        Just("1e-16383".to_owned()),
        Just("0.1000".to_owned()),
    ]
}

/// A JSON string with whatever may stand in one.
fn string() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[ -!#-\\[\\]-~]{0,8}",
        "\\PC{0,4}".prop_map(|text| text.replace(['"', '\\'], "")),
        Just("\\n\\t\\\"\\\\\\/\\b\\f\\r".to_owned()),
        Just("\\u00e9".to_owned()),
        Just("\\ud83d\\ude00".to_owned()),
        Just("\\u007f\\u0001".to_owned()),
        Just("\u{10ffff}\u{200d}\u{202e}".to_owned()),
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

fn object() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        number(),
        string(),
        Just("true".to_owned()),
        Just("null".to_owned())
    ];
    let value = leaf.prop_recursive(6, 40, 5, |inner| {
        let space = prop_oneof![Just(""), Just(" "), Just("\n\t")];
        let member = (string(), inner.clone()).prop_map(|(key, value)| format!("{key}:{value}"));
        prop_oneof![
            (prop::collection::vec(inner, 0..5), space.clone())
                .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(","))),
            (prop::collection::vec(member, 0..5), space)
                .prop_map(|(members, space)| format!("{{{space}{}}}", members.join(","))),
        ]
    });
    let member = (string(), value).prop_map(|(key, value)| format!("{key} : {value}"));
    prop::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(" , ")))
}

/// Texts that are payloads, of so many that were drawn.
pub(super) fn random_payloads(drawn: usize) -> Vec<String> {
    let mut runner = TestRunner::new(Config::default());
    let strategy = object();
    (0..drawn)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .filter(|text| Payload::parse(text.clone()).is_ok())
        .collect()
}

async fn every_accepted_payload_comes_back_as_the_same_value(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut payloads = random_payloads(CASES);
    assert!(
        payloads.len() > CASES / 2,
        "only {} payloads",
        payloads.len()
    );
    payloads.push(format!("{}{{}}{}", "{\"a\":".repeat(100), "}".repeat(100)));
    payloads.push(format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127)));
    payloads.push("{\"a\":1,\"a\":2,\"b\":{\"\":1,\"\":2}}".to_owned());
    let events: Vec<_> = payloads
        .iter()
        .enumerate()
        .map(|(number, payload)| event_with("payloads", &number.to_string(), payload))
        .collect();
    let group = [batch(events.clone())];
    let mut writer = fixture.writer().await;
    let receipts = append(&mut *writer, &group).await;
    assert!(receipts[0].iter().all(|receipt| receipt.outcome == Stored));
    for event in &events {
        let found = fixture.store.reader.find(event.topic(), event.event_id());
        let found = found.await.unwrap().unwrap().event;
        let (sent, came) = (event.payload().as_str(), found.payload().as_str());
        assert!(
            event.payload().is_same_value_as(found.payload()),
            "sent {sent}, came {came}"
        );
        let digest = PayloadDigest::of(event.payload());
        assert_eq!(digest, PayloadDigest::of(found.payload()), "{sent}");
        // A second opinion, as far as floats reach.
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text);
        if let (Ok(sent), Ok(came)) = (read(sent), read(came)) {
            assert!(are_close(&sent, &came), "sent {sent}, came {came}");
        }
    }
    // What is read back says the same, so it is a duplicate and no conflict.
    let receipts = append(&mut *writer, &group).await;
    let conflicts: Vec<_> = receipts[0]
        .iter()
        .zip(&payloads)
        .filter(|(receipt, _)| receipt.outcome != Duplicate)
        .collect();
    assert!(conflicts.is_empty(), "{conflicts:?}");
}

/// Equal, with numbers compared as floats, which serde_json reads to the last digit but one.
fn are_close(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (one, other) {
        (Number(one), Number(other)) => match (one.as_f64(), other.as_f64()) {
            (Some(one), Some(other)) => (one - other).abs() <= one.abs() * 1e-12,
            _ => false,
        },
        (Array(one), Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| are_close(a, b))
        }
        (Object(one), Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, value)| other.get(key).is_some_and(|other| are_close(value, other)))
        }
        _ => one == other,
    }
}

async fn another_spelling_is_a_duplicate_and_another_value_a_conflict(engine: Engine) {
    let fixture = Fixture::open(engine).await;
    let mut writer = fixture.writer().await;
    for (number, (first, second, expected)) in SPELLINGS.into_iter().enumerate() {
        let id = number.to_string();
        let said = |value: &str| event_with("spellings", &id, &format!("{{\"value\":{value}}}"));
        append(&mut *writer, &[batch(vec![said(first)])]).await;
        let receipts = append(&mut *writer, &[batch(vec![said(second)])]).await;
        assert_eq!(receipts[0][0].outcome, expected, "{first} and {second}");
    }
}

on_both_engines!(
    every_accepted_payload_comes_back_as_the_same_value,
    another_spelling_is_a_duplicate_and_another_value_a_conflict,
);
