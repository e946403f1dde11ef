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

/// What somebody has put into a row by hand, and what no publisher could have sent.
#[derive(Clone, PartialEq, Eq)]
pub enum ForeignPayload {
    /// JSON, but no object.
    Json(ByteString),
    /// No JSON, or more of it than a payload may hold.
    Text(ByteString),
}

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

    /// Takes the text that a database holds.
    ///
    /// # Errors
    /// The text, where it is no payload.
    pub fn stored(text: impl Into<ByteString>) -> Result<Self, ForeignPayload> {
        let text = text.into();
        match Scan::new(&text).object() {
            Ok(()) => Ok(Self(text)),
            Err(PayloadError::NotAnObject) => Err(ForeignPayload::Json(text)),
            Err(_) => Err(ForeignPayload::Text(text)),
        }
    }

    /// An object with nothing in it.
    pub fn empty() -> Self {
        Self(ByteString::from_static("{}"))
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

impl ForeignPayload {
    /// The text that was found.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Json(text) | Self::Text(text) => text,
        }
    }
}

impl fmt::Debug for ForeignPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignPayload({} bytes)", self.as_str().len())
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
mod tests;
