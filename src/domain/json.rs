//! JSON values as `jsonb` compares them. Used by payloads and their digests only, to tell a repeat from
//! a conflict, and only on text that a payload's own pass has found to be JSON.

use std::{borrow::Cow, collections::BTreeMap};

/// A value in a form in which equal values are equal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number<'a>),
    String(Cow<'a, str>),
    Array(Vec<Value<'a>>),
    Object(BTreeMap<Cow<'a, str>, Value<'a>>),
}

/// `digits * 10^exponent` without zeros at either end; zero has no digits, exponent or sign.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Number<'a> {
    pub(super) is_negative: bool,
    pub(super) digits: Cow<'a, str>,
    pub(super) exponent: i64,
}

/// Reads JSON; a text that is none reads as the part that is.
pub(super) fn read(text: &str) -> Value<'_> {
    Reader { text, at: 0 }.value()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Calls itself as deeply as the text is nested, which a payload bounds.
    fn value(&mut self) -> Value<'a> {
        match self.next_token() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => Value::String(self.string()),
            Some(b't') => self.literal(4, Value::Bool(true)),
            Some(b'f') => self.literal(5, Value::Bool(false)),
            Some(b'-' | b'0'..=b'9') => Value::Number(self.number()),
            _ => self.literal(4, Value::Null),
        }
    }

    fn object(&mut self) -> Value<'a> {
        let mut members = BTreeMap::new();
        self.at += 1;
        while self.next_token() == Some(b'"') {
            let key = self.string();
            self.skip(b':');
            members.insert(key, self.value());
            self.skip(b',');
        }
        self.skip(b'}');
        Value::Object(members)
    }

    fn array(&mut self) -> Value<'a> {
        let mut items = Vec::new();
        self.at += 1;
        while !matches!(self.next_token(), Some(b']') | None) {
            items.push(self.value());
            self.skip(b',');
        }
        self.skip(b']');
        Value::Array(items)
    }

    fn string(&mut self) -> Cow<'a, str> {
        self.at += 1;
        let start = self.at;
        while !matches!(self.peek(), Some(b'"' | b'\\') | None) {
            self.at += 1;
        }
        let plain = &self.text[start..self.at];
        if self.peek() != Some(b'\\') {
            self.at += 1;
            return Cow::Borrowed(plain);
        }
        let mut unescaped = plain.to_owned();
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => break,
                b'\\' => unescaped.push(self.escape()),
                _ => {
                    let start = self.at;
                    while !matches!(self.peek(), Some(b'"' | b'\\') | None) {
                        self.at += 1;
                    }
                    unescaped.push_str(&self.text[start..self.at]);
                }
            }
        }
        self.at += 1;
        Cow::Owned(unescaped)
    }

    fn escape(&mut self) -> char {
        let kind = self.text.as_bytes().get(self.at + 1).copied();
        self.at += 2;
        match kind {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let high = self.code_unit();
                let is_pair = (0xD800..=0xDBFF).contains(&high);
                let code = if is_pair {
                    self.at += 2;
                    let low = self.code_unit();
                    0x1_0000 + ((high - 0xD800) << 10) + (low & 0x3FF)
                } else {
                    high
                };
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            Some(same) => char::from(same),
            None => char::REPLACEMENT_CHARACTER,
        }
    }

    fn code_unit(&mut self) -> u32 {
        let unit = self
            .text
            .get(self.at..self.at + 4)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.at += 4;
        unit.unwrap_or_default()
    }

    fn number(&mut self) -> Number<'a> {
        let is_negative = self.peek() == Some(b'-');
        self.at += usize::from(is_negative);
        let integer = self.digits();
        let mut digits = Cow::Borrowed(integer);
        let mut exponent = 0_i64;
        if self.peek() == Some(b'.') {
            self.at += 1;
            let fraction = self.digits();
            digits.to_mut().push_str(fraction);
            exponent -= i64::try_from(fraction.len()).unwrap_or(i64::MAX);
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            let sign = match self.peek() {
                Some(b'-') => -1,
                _ => 1,
            };
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            exponent += sign * self.digits().parse::<i64>().unwrap_or(i64::MAX / 4);
        }
        Number::new(is_negative, digits, exponent)
    }

    fn digits(&mut self) -> &'a str {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn literal(&mut self, len: usize, value: Value<'a>) -> Value<'a> {
        self.at += len;
        value
    }

    fn skip(&mut self, token: u8) {
        if self.next_token() == Some(token) {
            self.at += 1;
        }
    }

    fn next_token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

impl<'a> Number<'a> {
    fn new(is_negative: bool, digits: Cow<'a, str>, exponent: i64) -> Self {
        let trailing = digits.len() - digits.trim_end_matches('0').len();
        let exponent = exponent.saturating_add(i64::try_from(trailing).unwrap_or(i64::MAX));
        let digits = match digits {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim_matches('0')),
            Cow::Owned(text) => Cow::Owned(text.trim_matches('0').to_owned()),
        };
        let is_zero = digits.is_empty();
        Self {
            is_negative: is_negative && !is_zero,
            digits,
            exponent: if is_zero { 0 } else { exponent },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_does_not_matter() {
        for (one, other) in [
            ("{\"a\":1,\"b\":2}", " { \"b\" : 2.0 , \"a\" : 10e-1 } "),
            ("{\"a\":1,\"a\":2}", "{\"a\":2}"),
            ("[1e3,-0,0.00,120]", "[1000,0,0e9,1.2E+2]"),
            (r#"["\u00e9\ud83d\ude00\/\n"]"#, "[\"é😀/\\u000a\"]"),
            ("[[],{},true,null]", "[ [ ] , { } , true , null ]"),
        ] {
            assert_eq!(read(one), read(other), "{one} {other}");
        }
    }

    #[test]
    fn values_do() {
        for (one, other) in [
            ("{\"a\":1}", "{\"A\":1}"),
            ("[1,2]", "[2,1]"),
            ("[1]", "[-1]"),
            ("[10]", "[1]"),
            ("[1]", "[\"1\"]"),
            ("[null]", "[false]"),
            ("[[]]", "[{}]"),
            ("[100000000000000000001]", "[100000000000000000002]"),
            ("[\"e\u{301}\"]", "[\"é\"]"),
        ] {
            assert_ne!(read(one), read(other), "{one} {other}");
        }
    }
}
