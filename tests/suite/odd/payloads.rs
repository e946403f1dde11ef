//! Payloads: what `jsonb` holds and what it does not, at the edge of each.

use super::{
    request::{publish, with},
    row::{Row, accepted, invalid_at, row},
};

pub(super) fn rows() -> Vec<Row> {
    let bad = REFUSED.map(|(name, payload)| refused(name, payload));
    let good = ACCEPTED.map(|(name, payload)| kept(name, payload));
    let mut rows: Vec<Row> = bad.into_iter().chain(good).collect();
    rows.extend(large_ones());
    rows
}

fn refused(name: &str, payload: &str) -> Row {
    row(
        name,
        publish(with("payload", payload)),
        invalid_at(&["/payload"]),
    )
}

fn kept(name: &str, payload: &str) -> Row {
    accepted(name, with("payload", payload))
}

const REFUSED: [(&str, &str); 26] = [
    ("a string", "\"text\""),
    ("a number", "7"),
    ("an array of objects", "[{\"a\":1}]"),
    ("U+0000 in a value", r#"{"a":"\u0000"}"#),
    ("U+0000 in a key", r#"{"\u0000":1}"#),
    ("U+0000 deep within", r#"{"a":[{"b":["x\u0000y"]}]}"#),
    ("a high surrogate alone", r#"{"a":"\ud800"}"#),
    ("a low surrogate alone", r#"{"a":"\udfff"}"#),
    ("two high surrogates", r#"{"a":"\ud800\ud800"}"#),
    ("a high surrogate before a letter", r#"{"a":"\udbffx"}"#),
    (
        "a high surrogate before another escape",
        r#"{"a":"\ud83d\n"}"#,
    ),
    ("surrogates the wrong way round", r#"{"a":"\ude00\ud83d"}"#),
    ("half a surrogate pair in a key", r#"{"\ud800":1}"#),
    ("one digit too many before the point", r#"{"a":1e131072}"#),
    ("the same below zero", r#"{"a":-1e131072}"#),
    ("the same with ten in front", r#"{"a":10e131071}"#),
    ("one place too many behind the point", r#"{"a":1e-16384}"#),
    ("the same of a zero", r#"{"a":0e-16384}"#),
    ("the same with a point", r#"{"a":1.5e-16383}"#),
    (
        "an exponent above 64 bits",
        r#"{"a":1e99999999999999999999}"#,
    ),
    ("the same below zero", r#"{"a":1e-99999999999999999999}"#),
    (
        "a zero with such an exponent",
        r#"{"a":0e99999999999999999999}"#,
    ),
    ("an exponent of 2 to the 31", r#"{"a":0e2147483648}"#),
    (
        "a number out of range in an array",
        r#"{"a":[1,[2,{"b":1e200000}]]}"#,
    ),
    (
        "a repeated key whose first is out of range",
        r#"{"a":1e200000,"a":1}"#,
    ),
    (
        "a repeated key whose first holds U+0000",
        r#"{"a":"\u0000","a":1}"#,
    ),
];

const ACCEPTED: [(&str, &str); 43] = [
    ("no members", "{}"),
    ("no members, with white space", "{ \r\n\t }"),
    ("an empty key", r#"{"":""}"#),
    ("a key of blanks", r#"{"  ":1}"#),
    ("two keys that differ in case", r#"{"a":1,"A":2}"#),
    ("a repeated key", r#"{"a":1,"a":2}"#),
    ("a repeated key, once as an escape", r#"{"a":1,"\u0061":2}"#),
    (
        "keys of the event itself",
        r#"{"topic":null,"event_id":1,"payload":{}}"#,
    ),
    (
        "a key that readers may trip over",
        r#"{"__proto__":{"a":1},"constructor":1}"#,
    ),
    ("every literal", r#"{"a":[null,true,false]}"#),
    ("empty containers", r#"{"a":[[],{},[[]],[{}]]}"#),
    ("a zero below zero", r#"{"a":-0}"#),
    ("zeros", r#"{"a":[0,0.0,0e0,-0.0e-0,0E+5]}"#),
    ("zeros at the end", r#"{"a":[1.0,1.50,100,1e2]}"#),
    (
        "2 to the 53, and one more",
        r#"{"a":[9007199254740992,9007199254740993]}"#,
    ),
    (
        "the ends of 64 bits",
        r#"{"a":[9223372036854775807,-9223372036854775808]}"#,
    ),
    (
        "one beyond 64 bits",
        r#"{"a":[9223372036854775808,-9223372036854775809]}"#,
    ),
    (
        "one beyond 64 bits without a sign",
        r#"{"a":18446744073709551616}"#,
    ),
    (
        "forty digits",
        r#"{"a":1234567890123456789012345678901234567890}"#,
    ),
    (
        "forty places",
        r#"{"a":0.1234567890123456789012345678901234567891}"#,
    ),
    ("a tenth", r#"{"a":[0.1,0.2,0.30000000000000004]}"#),
    ("the largest double", r#"{"a":1.7976931348623157e308}"#),
    ("above the largest double", r#"{"a":[1e309,-1e400]}"#),
    ("the smallest double", r#"{"a":5e-324}"#),
    ("below the smallest double", r#"{"a":1e-400}"#),
    ("the last digit before the point", r#"{"a":1e131071}"#),
    ("the same below zero", r#"{"a":-1e131071}"#),
    ("the same from a fraction", r#"{"a":0.1e131072}"#),
    ("the last place behind the point", r#"{"a":1e-16383}"#),
    (
        "capitals and signs in exponents",
        r#"{"a":[1E5,1e+5,1E-5]}"#,
    ),
    ("a zero with a large exponent", r#"{"a":0e999999}"#),
    ("every short escape", r#"{"a":"\"\\\/\b\f\n\r\t"}"#),
    ("U+0001 as an escape", r#"{"a":"\u0001\u001f\u007f"}"#),
    ("a surrogate pair", r#"{"a":"\ud83d\ude00"}"#),
    (
        "the first and the last pair",
        r#"{"a":"\ud800\udc00\udbff\udfff"}"#,
    ),
    ("a surrogate pair in a key", r#"{"\ud83d\ude00":1}"#),
    ("capitals in an escape", r#"{"a":"\u00E4\uD83D\uDE00"}"#),
    ("a backslash before a u", r#"{"a":"\\ud800\\u0000"}"#),
    (
        "characters that are none",
        "{\"a\":\"\u{fffe}\u{ffff}\u{fdd0}\"}",
    ),
    ("a separator of lines", "{\"a\":\"\u{2028}\u{2029}\"}"),
    (
        "a delete and a C1 control",
        "{\"a\":\"\u{7f}\u{85}\u{9f}\"}",
    ),
    (
        "every plane",
        "{\"a\":\"a\u{e9}\u{20ac}\u{1F600}\u{10ffff}\"}",
    ),
    (
        "line breaks between tokens",
        "{\r\n\"a\"\r\n:\r\n[\n1\r,\n2\n]\n}",
    ),
];

fn large_ones() -> Vec<Row> {
    let arrays = |levels: usize| {
        let arrays = levels - 1;
        format!("{{\"a\":{}{}}}", "[".repeat(arrays), "]".repeat(arrays))
    };
    let objects = |levels: usize| {
        let outer = levels - 1;
        format!("{}{{}}{}", "{\"a\":".repeat(outer), "}".repeat(outer))
    };
    let list = |item: &str, count: usize| format!("{{\"a\":[{}]}}", vec![item; count].join(","));
    let members: Vec<String> = (0..5000).map(|key| format!("\"{key}\":{key}")).collect();
    vec![
        kept("128 levels of objects", &objects(128)),
        kept("127 arrays in an object", &arrays(128)),
        refused("129 levels of objects", &objects(129)),
        refused("128 arrays in an object", &arrays(129)),
        refused("50,000 levels", &arrays(50_000)),
        kept("128 levels a hundred times", &list(&arrays(126), 100)),
        kept(
            "a text of 200,000 letters",
            &format!("{{\"a\":\"{}\"}}", "x".repeat(200_000)),
        ),
        kept(
            "a key of 100,000 letters",
            &format!("{{\"{}\":1}}", "k".repeat(100_000)),
        ),
        kept("5000 members", &format!("{{{}}}", members.join(","))),
        kept("20,000 items", &list("0", 20_000)),
        kept(
            "a number of 5000 digits",
            &format!("{{\"a\":{}}}", "9".repeat(5000)),
        ),
        kept(
            "a fraction of 5000 digits",
            &format!("{{\"a\":0.{}}}", "3".repeat(5000)),
        ),
        kept(
            "131,072 digits",
            &format!("{{\"a\":{}}}", "9".repeat(131_072)),
        ),
        refused(
            "131,073 digits",
            &format!("{{\"a\":{}}}", "9".repeat(131_073)),
        ),
        kept(
            "16,383 places",
            &format!("{{\"a\":0.{}}}", "1".repeat(16_383)),
        ),
        refused(
            "16,384 places",
            &format!("{{\"a\":0.{}}}", "1".repeat(16_384)),
        ),
        // What is small in the body and would be five megabytes in the database.
        refused("forty numbers of 131,072 digits", &list("1e131071", 40)),
    ]
}
