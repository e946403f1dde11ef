//! A place in the order of storing. Clients carry it around as a text that says nothing to them.

use std::{fmt, str::FromStr};

/// A place in the order in which events were stored, the same on every replica.
///
/// `txn` is the storing transaction's number on Postgres and 0 on SQLite; `seq` is the place within
/// that transaction, or SQLite's row number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// The transaction.
    pub txn: i64,
    /// The place within it.
    pub seq: i64,
}

/// The text is no cursor of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a cursor that an earlier answer gave")]
pub struct CursorError;

impl Cursor {
    /// Before every event.
    pub const START: Self = Self { txn: 0, seq: 0 };
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.txn, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (txn, seq) = text.split_once('-').ok_or(CursorError)?;
        let number = |digits: &str| {
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(CursorError);
            }
            digits.parse::<i64>().map_err(|_| CursorError)
        };
        Ok(Self {
            txn: number(txn)?,
            seq: number(seq)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_is_read_as_it_was_shown(txn in 0..=i64::MAX, seq in 0..=i64::MAX) {
            let cursor = Cursor { txn, seq };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        /// So no two texts are the same place, but for zeros in front.
        #[test]
        fn what_is_read_is_shown_as_it_was_but_for_zeros_in_front(
            text in prop_oneof!["[0-9]{1,20}-[0-9]{1,20}", "[-+ 0-9a-f]{0,12}", any::<String>()],
        ) {
            if let Ok(cursor) = text.parse::<Cursor>() {
                let numbers = text.split('-').map(|number| {
                    let digits = number.trim_start_matches('0');
                    if digits.is_empty() { "0" } else { digits }
                });
                let plain: Vec<&str> = numbers.collect();
                prop_assert_eq!(cursor.to_string(), plain.join("-"));
            }
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        let cursor = Cursor {
            txn: 7_340_129,
            seq: i64::MAX,
        };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "-",
            "1",
            "1-",
            "-1-2",
            "1-2-3",
            "+1-2",
            "1- 2",
            "9223372036854775808-0",
            "a-b",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(CursorError), "{text}");
        }
    }
}
