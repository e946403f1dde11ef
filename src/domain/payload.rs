//! The payload of an event: a JSON object kept as the text that came, after one pass has made
//! sure that Postgres `jsonb` can hold it.

use super::json;
use bytestring::ByteString;
use std::fmt;

/// The deepest nesting of a payload; the object itself is the first level.
pub const PAYLOAD_DEPTH_MAX: usize = 128;

/// The furthest place before the decimal point that `jsonb` holds: 10^131071.
const NUMBER_EXPONENT_MAX: i64 = 131_071;
/// The most places after the decimal point that `jsonb` holds.
const NUMBER_SCALE_MAX: i64 = 16_383;
/// The exponent from which on Postgres refuses even a zero.
const EXPONENT_ABS_MAX: i64 = 1_000_000_000;
/// `jsonb` writes 1e131071 out, digit by digit: seven bytes become 131,072. Without a bound, a body
/// of such numbers could be stored, but never be read again.
const NUMBER_EXPANSION_BYTES_MAX: i64 = 4 << 20;

/// Why a text is no payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// It is JSON, but no object.
    #[error("must be a JSON object")]
    NotAnObject,
    /// It is no JSON.
    #[error("is not valid JSON at byte {at}")]
    Syntax {
        /// Where, counted from 0.
        at: usize,
    },
    /// It is nested more deeply than [`PAYLOAD_DEPTH_MAX`].
    #[error("must be nested at most {PAYLOAD_DEPTH_MAX} levels deep")]
    TooDeep,
    /// A string holds the character U+0000.
    #[error("must not hold the character U+0000, which the database cannot store")]
    Nul,
    /// A string holds half of a surrogate pair.
    #[error("must not hold a lone surrogate such as \\ud800, which is no character")]
    LoneSurrogate,
    /// A number is larger or finer than `jsonb` can hold.
    #[error(
        "must not hold a number above 10^{NUMBER_EXPONENT_MAX} or with more than {NUMBER_SCALE_MAX} decimal places"
    )]
    NumberRange,
    /// Its numbers with exponents are too long when written out.
    #[error("must not hold numbers that are longer than 4 MiB when written without exponents")]
    NumberExpansion,
}

/// A JSON object that both databases can hold, as the text that came.
#[derive(Clone)]
pub struct Payload(ByteString);

impl Payload {
    /// Takes the text of a JSON object.
    ///
    /// # Errors
    /// [`PayloadError`] for anything else, and for what `jsonb` cannot hold.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, PayloadError> {
        let text = text.into();
        Scan::new(&text).object()?;
        Ok(Self(text))
    }

    /// The JSON text as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both are the same JSON value, as `jsonb` compares: white space, the order of keys,
    /// the spelling of numbers and escapes do not matter, and of a repeated key the last counts.
    pub fn is_same_value_as(&self, other: &Self) -> bool {
        self.0 == other.0 || json::read(&self.0) == json::read(&other.0)
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.is_same_value_as(other)
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    /// Only the length: payloads are their producers' business and never show up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// One pass over the text. It nests by bits, not by calls, so no input can exhaust the stack.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// Bit n: level n + 1 is an object, not an array.
    objects: u128,
    expansion_bytes: i64,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            bytes: text.as_bytes(),
            at: 0,
            depth: 0,
            objects: 0,
            expansion_bytes: 0,
        }
    }

    fn object(mut self) -> Result<(), PayloadError> {
        if self.next_token() != Some(b'{') {
            return match self.text() {
                Ok(()) => Err(PayloadError::NotAnObject),
                Err(error) => Err(error),
            };
        }
        self.text()
    }

    fn text(&mut self) -> Result<(), PayloadError> {
        self.value()?;
        while self.depth > 0 {
            let is_object = self.objects & self.level_bit() != 0;
            match (self.next_token(), is_object) {
                (Some(b','), _) => {
                    self.at += 1;
                    if is_object {
                        self.key()?;
                    }
                    self.value()?;
                }
                (Some(b'}'), true) | (Some(b']'), false) => self.close(),
                _ => return Err(self.syntax()),
            }
        }
        match self.next_token() {
            None => Ok(()),
            Some(_) => Err(self.syntax()),
        }
    }

    /// Reads a scalar, or goes down to the first scalar of an array or object.
    fn value(&mut self) -> Result<(), PayloadError> {
        loop {
            match self.next_token() {
                Some(b'{') => {
                    self.open(true)?;
                    if self.next_token() == Some(b'}') {
                        self.close();
                        return Ok(());
                    }
                    self.key()?;
                }
                Some(b'[') => {
                    self.open(false)?;
                    if self.next_token() == Some(b']') {
                        self.close();
                        return Ok(());
                    }
                }
                Some(b'"') => return self.string(),
                Some(b'-' | b'0'..=b'9') => return self.number(),
                Some(b't') => return self.literal(b"true"),
                Some(b'f') => return self.literal(b"false"),
                Some(b'n') => return self.literal(b"null"),
                _ => return Err(self.syntax()),
            }
        }
    }

    fn key(&mut self) -> Result<(), PayloadError> {
        if self.next_token() != Some(b'"') {
            return Err(self.syntax());
        }
        self.string()?;
        if self.next_token() != Some(b':') {
            return Err(self.syntax());
        }
        self.at += 1;
        Ok(())
    }

    fn open(&mut self, is_object: bool) -> Result<(), PayloadError> {
        if self.depth == PAYLOAD_DEPTH_MAX {
            return Err(PayloadError::TooDeep);
        }
        self.at += 1;
        self.depth += 1;
        if is_object {
            self.objects |= self.level_bit();
        } else {
            self.objects &= !self.level_bit();
        }
        Ok(())
    }

    fn close(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    fn level_bit(&self) -> u128 {
        1 << (self.depth - 1)
    }

    fn string(&mut self) -> Result<(), PayloadError> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0x20..) => self.at += 1,
                _ => return Err(self.syntax()),
            }
        }
    }

    fn escape(&mut self) -> Result<(), PayloadError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => match self.code_unit()? {
                0 => Err(PayloadError::Nul),
                0xD800..=0xDBFF => {
                    if self.bytes[self.at..].starts_with(b"\\u") {
                        self.at += 1;
                        if (0xDC00..=0xDFFF).contains(&self.code_unit()?) {
                            return Ok(());
                        }
                    }
                    Err(PayloadError::LoneSurrogate)
                }
                0xDC00..=0xDFFF => Err(PayloadError::LoneSurrogate),
                _ => Ok(()),
            },
            _ => Err(self.syntax()),
        }
    }

    /// Reads `uXXXX`.
    fn code_unit(&mut self) -> Result<u32, PayloadError> {
        let mut unit = 0;
        for _ in 0..4 {
            self.at += 1;
            let digit = self
                .peek()
                .and_then(|byte| char::from(byte).to_digit(16))
                .ok_or_else(|| self.syntax())?;
            unit = unit << 4 | digit;
        }
        self.at += 1;
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), PayloadError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let integer = self.digits()?;
        if integer.len() > 1 && integer[0] == b'0' {
            return Err(self.syntax());
        }
        let mut fraction: &[u8] = &[];
        if self.peek() == Some(b'.') {
            self.at += 1;
            fraction = self.digits()?;
        }
        let mut exponent = 0;
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            let is_negative = self.peek() == Some(b'-');
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            exponent = self.digits()?.iter().fold(0_i64, |number, digit| {
                (number * 10 + i64::from(digit - b'0')).min(EXPONENT_ABS_MAX)
            });
            if is_negative {
                exponent = -exponent;
            }
        }
        let written_bytes = signed_len(&self.bytes[start..self.at]);
        self.check_number(integer, fraction, exponent, written_bytes)
    }

    fn check_number(
        &mut self,
        integer: &[u8],
        fraction: &[u8],
        exponent: i64,
        written_bytes: i64,
    ) -> Result<(), PayloadError> {
        // The power of ten of the first digit that counts; a zero has none.
        let leading = integer
            .iter()
            .chain(fraction)
            .position(|digit| *digit != b'0')
            .map(|zeros| signed_len(integer) - 1 - i64::try_from(zeros).unwrap_or(i64::MAX))
            .map_or(0, |power| power + exponent);
        let scale = (signed_len(fraction) - exponent).max(0);
        if leading > NUMBER_EXPONENT_MAX
            || scale > NUMBER_SCALE_MAX
            || exponent.abs() >= EXPONENT_ABS_MAX
        {
            return Err(PayloadError::NumberRange);
        }
        self.expansion_bytes += (leading.max(0) + scale - written_bytes).max(0);
        if self.expansion_bytes > NUMBER_EXPANSION_BYTES_MAX {
            return Err(PayloadError::NumberExpansion);
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<&'a [u8], PayloadError> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if len == 0 {
            return Err(self.syntax());
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), PayloadError> {
        if !self.bytes[self.at..].starts_with(literal) {
            return Err(self.syntax());
        }
        self.at += literal.len();
        Ok(())
    }

    fn next_token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn syntax(&self) -> PayloadError {
        PayloadError::Syntax { at: self.at }
    }
}

fn signed_len(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
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
}
