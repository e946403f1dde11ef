//! What is left of a payload that retention has dropped: enough to tell a repeat from a conflict, for
//! ever. Made by the store when it drops one, and when an event comes again.

use super::{
    ForeignPayload, Payload,
    json::{self, Value},
};
use sha2::{Digest, Sha256};
use std::fmt;

/// Before everything that is hashed. Digests are kept for ever, so another form needs another name.
const FORM: &[u8] = b"oncelog payload 1\n";
/// The same for what is no payload: no event that comes has the same digest.
const FOREIGN_FORM: &[u8] = b"oncelog foreign payload 1\n";

/// SHA-256 of a payload's value: payloads have the same digest where they are the same JSON value, in
/// whatever spelling, and in every process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PayloadDigest([u8; 32]);

impl PayloadDigest {
    /// Of a payload, in whatever spelling it came.
    pub fn of(payload: &Payload) -> Self {
        let mut hash = Sha256::new_with_prefix(FORM);
        add_value(&mut hash, &json::read(payload.as_str()));
        Self(hash.finalize().into())
    }

    /// Of what a database holds.
    pub fn of_stored(stored: &Result<Payload, ForeignPayload>) -> Self {
        match stored {
            Ok(payload) => Self::of(payload),
            Err(foreign) => {
                let hash = Sha256::new_with_prefix(FOREIGN_FORM);
                Self(hash.chain_update(foreign.as_str()).finalize().into())
            }
        }
    }

    /// The bytes that are kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether these kept bytes are its own.
    pub fn is(&self, kept: &[u8]) -> bool {
        self.0 == kept
    }
}

impl fmt::Debug for PayloadDigest {
    /// A short payload can be guessed from its digest, so that does not show up in a log either.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PayloadDigest")
    }
}

/// Each value begins with its kind, and each text and list with its length: no two values are the
/// same bytes. Calls itself as deeply as the payload is nested, which is bounded.
fn add_value(hash: &mut Sha256, value: &Value<'_>) {
    match value {
        Value::Null => hash.update(b"n"),
        Value::Bool(false) => hash.update(b"f"),
        Value::Bool(true) => hash.update(b"t"),
        Value::Number(number) => {
            hash.update(if number.is_negative { b"-" } else { b"+" });
            add_text(hash, &number.digits);
            hash.update(number.exponent.to_be_bytes());
        }
        Value::String(text) => {
            hash.update(b"s");
            add_text(hash, text);
        }
        Value::Array(items) => {
            hash.update(b"a");
            add_length(hash, items.len());
            for item in items {
                add_value(hash, item);
            }
        }
        Value::Object(members) => {
            hash.update(b"o");
            add_length(hash, members.len());
            // In the order of their names.
            for (name, value) in members {
                add_text(hash, name);
                add_value(hash, value);
            }
        }
    }
}

fn add_text(hash: &mut Sha256, text: &str) {
    add_length(hash, text.len());
    hash.update(text.as_bytes());
}

fn add_length(hash: &mut Sha256, length: usize) {
    hash.update((length as u64).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> PayloadDigest {
        PayloadDigest::of(&Payload::parse(text.to_owned()).unwrap())
    }

    #[test]
    fn spelling_does_not_matter() {
        for (one, other) in [
            (
                r#"{"a":1,"b":[2]}"#,
                " { \"b\" : [ 2.0 ] , \"a\" : 10e-1 } ",
            ),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":[0,-0,0.00]}"#, r#"{"a":[0,0,0e9]}"#),
            (r#"{"a":"\u00e9\/"}"#, r#"{"a":"é/"}"#),
        ] {
            assert!(digest(one) == digest(other), "{one} {other}");
        }
    }

    #[test]
    fn values_do_and_so_does_where_one_ends() {
        let all = [
            "{}",
            r#"{"a":null}"#,
            r#"{"a":false}"#,
            r#"{"a":true}"#,
            r#"{"a":0}"#,
            r#"{"a":1}"#,
            r#"{"a":-1}"#,
            r#"{"a":10}"#,
            r#"{"a":0.1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":""}"#,
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            r#"{"a":[[],[]]}"#,
            r#"{"a":[[[]]]}"#,
            r#"{"a":["b","c"]}"#,
            r#"{"a":["bc",""]}"#,
            r#"{"a":["bsc"]}"#,
            r#"{"a":{"b":"c"}}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":2,"b":1}"#,
            r#"{"A":1}"#,
        ];
        for (number, one) in all.iter().enumerate() {
            for other in &all[number + 1..] {
                assert!(digest(one) != digest(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn what_is_no_payload_has_a_digest_that_no_payload_has() {
        let foreign = |text: &str| PayloadDigest::of_stored(&Payload::stored(text.to_owned()));
        assert!(foreign("{}") == digest("{}"));
        for text in ["[]", "null", "{", "\"{}\""] {
            assert!(foreign(text) == foreign(text));
            assert!(foreign(text) != foreign("1"));
            assert!(foreign(text) != digest("{}"));
        }
    }

    /// Digests that are in databases must be found again by every later version.
    #[test]
    fn a_value_has_the_same_digest_in_every_version() {
        let hex: String = digest(r#"{"n":-12.50,"s":"é","l":[true,false,null,{}]}"#)
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let expected = "c7d32dfa44752cb48929f0269888009fecdc36506221d4e7254d717cf06c9b02";
        assert_eq!(hex, expected);
    }
}
