//! What is a payload, what is none, and which are the same.

use super::*;

fn parse(text: &str) -> Result<(), PayloadError> {
    Payload::parse(text.to_owned()).map(drop)
}

fn nested(levels: usize) -> String {
    let arrays = levels - 1;
    format!("{{\"a\":{}{}}}", "[".repeat(arrays), "]".repeat(arrays))
}

#[test]
fn every_kind_of_value_may_stand_in_an_object() {
    for text in [
        "{}",
        " {\t}\r\n",
        r#"{"a":null,"b":[true,false,[]],"c":{"d":{}},"":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}"#,
        r#"{"a":[0,-0,1.50,1e308,-1E-5,123456789012345678901234567890]}"#,
    ] {
        assert_eq!(parse(text), Ok(()), "{text}");
    }
}

#[test]
fn other_values_are_no_payload() {
    for text in ["[]", "1", "\"a\"", "null", "true", " [ {} ] "] {
        assert_eq!(parse(text), Err(PayloadError::NotAnObject), "{text}");
    }
}

#[test]
fn what_is_no_json_is_refused_where_it_breaks() {
    for text in [
        "",
        "{",
        "}",
        "{]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":1e}",
        "{\"a\":-}",
        "{\"a\":nul}",
        "{\"a\":NaN}",
        "{'a':1}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"",
        "{\"a\":[1,]}",
        "{} {}",
        "{\"a\":\"\\ud800\\u12\"}",
    ] {
        assert!(
            matches!(parse(text), Err(PayloadError::Syntax { .. })),
            "{text}"
        );
    }
    assert_eq!(parse("{\"a\":tru}"), Err(PayloadError::Syntax { at: 5 }));
}

#[test]
fn depth_counts_the_object_itself() {
    assert_eq!(parse(&nested(PAYLOAD_DEPTH_MAX)), Ok(()));
    assert_eq!(
        parse(&nested(PAYLOAD_DEPTH_MAX + 1)),
        Err(PayloadError::TooDeep)
    );
    assert_eq!(parse(&nested(1_000_000)), Err(PayloadError::TooDeep));
}

#[test]
fn characters_that_jsonb_lacks_are_refused_in_keys_and_values() {
    for text in [r#"{"a":"\u0000"}"#, r#"{"\u0000":1}"#] {
        assert_eq!(parse(text), Err(PayloadError::Nul), "{text}");
    }
    for text in [
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\udc00\ud800"}"#,
        r#"{"a":"\ud800\ud800"}"#,
        r#"{"a":"\ud800x"}"#,
        r#"{"\udfff":1}"#,
    ] {
        assert_eq!(parse(text), Err(PayloadError::LoneSurrogate), "{text}");
    }
}

#[test]
fn numbers_end_where_numeric_ends() {
    for number in [
        "1e131071",
        "0.1e131072",
        "1e-16383",
        "0e-16383",
        "0e131072",
        "0e999999",
    ] {
        assert_eq!(parse(&format!("{{\"a\":{number}}}")), Ok(()), "{number}");
    }
    for number in [
        "1e131072",
        "10e131071",
        "1e-16384",
        "0e-16384",
        "0.1e-16383",
        "1e99999999999999999999",
        "0e99999999999999999999",
    ] {
        assert_eq!(
            parse(&format!("{{\"a\":{number}}}")),
            Err(PayloadError::NumberRange),
            "{number}"
        );
    }
}

#[test]
fn numbers_may_not_outgrow_memory_when_they_are_written_out() {
    let many = vec!["1e131071"; 40].join(",");
    assert_eq!(
        parse(&format!("{{\"a\":[{many}]}}")),
        Err(PayloadError::NumberExpansion)
    );
    let usual = vec!["1e308"; 10_000].join(",");
    assert_eq!(parse(&format!("{{\"a\":[{usual}]}}")), Ok(()));
}

#[test]
fn what_a_database_holds_is_a_payload_or_says_what_it_is_instead() {
    assert!(Payload::stored(r#"{"a":1}"#).is_ok());
    for json in ["[1]", "1", "\"a\"", "null", "true"] {
        let foreign = Payload::stored(json).unwrap_err();
        assert_eq!(foreign, ForeignPayload::Json(json.into()));
    }
    let too_deep = nested(PAYLOAD_DEPTH_MAX + 1);
    for text in ["", "a", "{", "[1", r#"{"a":"\u0000"}"#, &too_deep] {
        let foreign = Payload::stored(text.to_owned()).unwrap_err();
        assert_eq!(foreign, ForeignPayload::Text(text.into()));
    }
}
