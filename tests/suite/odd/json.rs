//! Whether two texts are the same JSON value, without a float in between: an account of its own, so
//! that the service is not its own judge.

use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The members of an object, as texts; of a repeated key the last.
pub(super) fn members(text: &str) -> Result<BTreeMap<String, &RawValue>, serde_json::Error> {
    serde_json::from_str(text)
}

pub(super) fn is_same(one: &str, other: &str) -> bool {
    if let (Ok(one), Ok(other)) = (members(one), members(other)) {
        let mut values = one.values().zip(other.values());
        return one.keys().eq(other.keys())
            && values.all(|(one, other)| is_same(one.get(), other.get()));
    }
    if let (Ok(one), Ok(other)) = (items(one), items(other)) {
        let mut values = one.iter().zip(&other);
        return one.len() == other.len()
            && values.all(|(one, other)| is_same(one.get(), other.get()));
    }
    if let (Ok(one), Ok(other)) = (string(one), string(other)) {
        return one == other;
    }
    match (number(one), number(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one.trim() == other.trim(),
    }
}

fn items(text: &str) -> Result<Vec<&RawValue>, serde_json::Error> {
    serde_json::from_str(text)
}

fn string(text: &str) -> Result<String, serde_json::Error> {
    serde_json::from_str(text)
}

/// A number as sign, digits and power of ten; zero has no digits and no sign.
fn number(text: &str) -> Option<(bool, String, i64)> {
    let text = text.trim();
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let (written, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
    let unsigned = written.trim_start_matches('-');
    let (integer, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let all = format!("{integer}{fraction}");
    let digits = all.trim_end_matches('0');
    let exponent = exponent.parse::<i64>().ok()? - i64::try_from(fraction.len()).ok()?
        + i64::try_from(all.len() - digits.len()).ok()?;
    let digits = digits.trim_start_matches('0').to_owned();
    Some(match digits.is_empty() {
        true => (false, digits, 0),
        false => (written.starts_with('-'), digits, exponent),
    })
}

#[test]
fn values_are_told_apart_and_spellings_are_not() {
    for (one, other) in [
        ("{\"a\":[1.50,{}]}", "{ \"a\" : [15e-1 , { } ] }"),
        ("{\"b\":1,\"a\":2}", "{\"a\":2,\"b\":1}"),
        ("{\"a\":1,\"a\":2}", "{\"a\":2}"),
        ("\"\\u00e4\"", "\"ä\""),
        ("1e400", &format!("1{}", "0".repeat(400))),
        ("-0", "0.000"),
        ("0.001", "1E-3"),
    ] {
        assert!(is_same(one, other), "{one} {other}");
    }
    for (one, other) in [
        ("1", "-1"),
        ("9007199254740993", "9007199254740992"),
        ("{}", "[]"),
        ("\"1\"", "1"),
        ("{\"a\":1}", "{\"A\":1}"),
        ("[1]", "[1,1]"),
        ("null", "false"),
    ] {
        assert!(!is_same(one, other), "{one} {other}");
    }
}
