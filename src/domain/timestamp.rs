//! An instant to the microsecond, as RFC 3339 writes it. Finer digits are cut, so that what is
//! compared is what is stored.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use std::fmt;

/// An instant between the years 0000 and 9999, both in UTC, to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    unix_us: i64,
}

/// Why a text is no timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// It is not written as RFC 3339 has it.
    #[error("must be an RFC 3339 timestamp such as 2026-01-31T12:00:00.5Z or 2026-01-31T12:00:00")]
    Syntax,
    /// A field is out of its range, as in 30 February or 25 o'clock.
    #[error("is no date and time of the calendar")]
    Calendar,
    /// In UTC it falls outside the years that RFC 3339 can write.
    #[error("must lie between the years 0000 and 9999 in UTC")]
    Range,
}

const UNIX_US_MIN: i64 = -62_167_219_200_000_000; // 0000-01-01T00:00:00Z
const UNIX_US_MAX: i64 = 253_402_300_799_999_999; // 9999-12-31T23:59:59.999999Z

impl Timestamp {
    /// Reads RFC 3339 with any offset; a text without an offset is UTC.
    ///
    /// A leap second (23:59:60 UTC) is the first second of the next day, as in Postgres.
    ///
    /// # Errors
    /// [`TimestampError`] for everything else.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let mut rest = Fields(text.as_bytes());
        let year = rest.number(4)?;
        rest.one_of(b"-")?;
        let month = rest.number(2)?;
        rest.one_of(b"-")?;
        let day = rest.number(2)?;
        rest.one_of(b"Tt ")?;
        let hour = rest.number(2)?;
        rest.one_of(b":")?;
        let minute = rest.number(2)?;
        rest.one_of(b":")?;
        let second = rest.number(2)?;
        let fraction_us = rest.fraction_us()?;
        let offset_s = rest.offset_s()?;

        let is_leap = second == 60;
        let date = i32::try_from(year)
            .ok()
            .and_then(|year| NaiveDate::from_ymd_opt(year, month, day))
            .ok_or(TimestampError::Calendar)?;
        let local = date
            .and_hms_opt(hour, minute, if is_leap { 59 } else { second })
            .ok_or(TimestampError::Calendar)?;
        let mut unix_s = local.and_utc().timestamp() - offset_s;
        if is_leap {
            if unix_s.rem_euclid(86_400) != 86_399 {
                return Err(TimestampError::Calendar);
            }
            unix_s += 1;
        }
        Self::from_unix_us(unix_s * 1_000_000 + fraction_us).ok_or(TimestampError::Range)
    }

    /// The instant so many microseconds after 1970-01-01T00:00:00Z; `None` outside the years 0000
    /// to 9999.
    pub fn from_unix_us(unix_us: i64) -> Option<Self> {
        (UNIX_US_MIN..=UNIX_US_MAX)
            .contains(&unix_us)
            .then_some(Self { unix_us })
    }

    /// The same, or the nearest that there is: what somebody has put into the table by hand may lie
    /// anywhere.
    pub fn nearest_to_unix_us(unix_us: i64) -> Self {
        Self {
            unix_us: unix_us.clamp(UNIX_US_MIN, UNIX_US_MAX),
        }
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub fn unix_us(self) -> i64 {
        self.unix_us
    }

    /// Now, by the clock of this machine.
    pub fn now() -> Self {
        Self {
            unix_us: Utc::now().timestamp_micros(),
        }
    }

    /// The same instant for libraries that speak chrono.
    pub fn to_chrono(self) -> DateTime<Utc> {
        // Inside the bounds of this type chrono has every instant.
        DateTime::from_timestamp_micros(self.unix_us).unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with six digits of a second and `Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            &self
                .to_chrono()
                .to_rfc3339_opts(SecondsFormat::Micros, true),
        )
    }
}

/// What of the text is not read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn number(&mut self, digits: usize) -> Result<u32, TimestampError> {
        let (head, tail) = self
            .0
            .split_at_checked(digits)
            .ok_or(TimestampError::Syntax)?;
        if !head.iter().all(u8::is_ascii_digit) {
            return Err(TimestampError::Syntax);
        }
        self.0 = tail;
        Ok(head
            .iter()
            .fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
    }

    fn one_of(&mut self, allowed: &[u8]) -> Result<u8, TimestampError> {
        match self.0.split_first() {
            Some((first, tail)) if allowed.contains(first) => {
                self.0 = tail;
                Ok(*first)
            }
            _ => Err(TimestampError::Syntax),
        }
    }

    fn fraction_us(&mut self) -> Result<i64, TimestampError> {
        if self.0.first() != Some(&b'.') {
            return Ok(0);
        }
        let digits = self.0[1..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if digits == 0 {
            return Err(TimestampError::Syntax);
        }
        let fraction = &self.0[1..=digits];
        self.0 = &self.0[digits + 1..];
        let kept = fraction
            .iter()
            .chain(std::iter::repeat(&b'0'))
            .take(6)
            .fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        Ok(kept)
    }

    fn offset_s(&mut self) -> Result<i64, TimestampError> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ if self.0.is_empty() => return Ok(0),
            _ => return Err(TimestampError::Syntax),
        };
        let hours = self.number(2)?;
        self.one_of(b":")?;
        let minutes = self.number(2)?;
        if !self.0.is_empty() {
            return Err(TimestampError::Syntax);
        }
        if hours > 23 || minutes > 59 {
            return Err(TimestampError::Calendar);
        }
        Ok(sign * i64::from(hours * 3600 + minutes * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, TimestampError> {
        Timestamp::parse(text).map(|timestamp| timestamp.to_string())
    }

    #[test]
    fn offsets_are_turned_into_utc_and_none_is_utc() {
        for (text, utc) in [
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000Z"),
            ("2026-01-31T12:00:00", "2026-01-31T12:00:00.000000Z"),
            ("2026-01-31t12:00:00.5z", "2026-01-31T12:00:00.500000Z"),
            ("2026-01-31 12:00:00-05:30", "2026-01-31T17:30:00.000000Z"),
            ("2026-01-01T00:30:00+01:00", "2025-12-31T23:30:00.000000Z"),
            ("2024-02-29T00:00:00-00:00", "2024-02-29T00:00:00.000000Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(utc), "{text}");
        }
    }

    #[test]
    fn digits_finer_than_a_microsecond_are_cut() {
        assert_eq!(
            shown("2026-01-31T12:00:00.1234569999Z").as_deref(),
            Ok("2026-01-31T12:00:00.123456Z")
        );
        assert_eq!(
            shown("1969-12-31T23:59:59.9999999Z").as_deref(),
            Ok("1969-12-31T23:59:59.999999Z")
        );
    }

    #[test]
    fn a_leap_second_is_the_next_days_first() {
        assert_eq!(
            shown("2016-12-31T23:59:60.5Z").as_deref(),
            Ok("2017-01-01T00:00:00.500000Z")
        );
        assert_eq!(shown("2016-12-31T12:00:60Z"), Err(TimestampError::Calendar));
    }

    #[test]
    fn the_nearest_to_what_cannot_be_written_is_the_first_or_the_last() {
        for (unix_us, nearest) in [
            (i64::MIN, "0000-01-01T00:00:00.000000Z"),
            (0, "1970-01-01T00:00:00.000000Z"),
            (i64::MAX, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Timestamp::nearest_to_unix_us(unix_us).to_string(), nearest);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "2026-01-31",
            "2026-01-31T12:00Z",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00+0100",
            "2026-01-31T12:00:00Z ",
            " 2026-01-31T12:00:00Z",
            "2026-01-31T12:00:00,5Z",
            "20260131T120000Z",
            "+02026-01-31T12:00:00Z",
            "2026-01-31T12:00:00\u{2212}01:00",
            "1769860800",
            "２０２６-01-31T12:00:00Z",
        ] {
            assert_eq!(shown(text), Err(TimestampError::Syntax), "{text}");
        }
        for text in [
            "2026-02-29T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:60:00Z",
            "2026-01-31T12:00:61Z",
            "2026-01-31T12:00:00+24:00",
        ] {
            assert_eq!(shown(text), Err(TimestampError::Calendar), "{text}");
        }
        for text in ["0000-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"] {
            assert_eq!(shown(text), Err(TimestampError::Range), "{text}");
        }
    }
}
