//! The three short texts of an event: topic, event id and source. Of one that was parsed, the length and
//! the characters can be relied on, and the database never refuses it.

use bytestring::ByteString;
use std::fmt;

/// The longest topic, event id or source, in Unicode scalar values.
pub const TEXT_CHARS_MAX: usize = 255;

/// Why a text is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// It has no characters.
    #[error("must not be empty")]
    Empty,
    /// It has no character but white space.
    #[error("must not be only white space")]
    Blank,
    /// It has more than [`TEXT_CHARS_MAX`] characters.
    #[error("must have at most {TEXT_CHARS_MAX} characters, has {chars}")]
    TooLong {
        /// How many it has.
        chars: usize,
    },
    /// It has a character of Unicode's category Cc.
    #[error("must not hold control characters, holds U+{:04X}", *.0 as u32)]
    Control(char),
}

fn check(text: &str) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    // Bytes bound characters from above, so the usual short text is counted only once.
    if text.len() > TEXT_CHARS_MAX {
        let chars = text.chars().count();
        if chars > TEXT_CHARS_MAX {
            return Err(TextError::TooLong { chars });
        }
    }
    // Control first: a text of tabs is blank, too, but the control character is the fact to act on.
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(TextError::Control(control));
    }
    if text.chars().all(char::is_whitespace) {
        return Err(TextError::Blank);
    }
    Ok(())
}

macro_rules! short_text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(ByteString);

        impl $name {
            /// Takes a text that has 1 to [`TEXT_CHARS_MAX`] characters, none of them a control
            /// character and not all of them white space.
            ///
            /// # Errors
            /// [`TextError`] says which of these does not hold.
            pub fn parse(text: impl Into<ByteString>) -> Result<Self, TextError> {
                let text = text.into();
                check(&text)?;
                Ok(Self(text))
            }

            /// What stands in the table. Somebody may have put it there by hand: nothing can be relied on.
            pub fn stored(text: impl Into<ByteString>) -> Self {
                Self(text.into())
            }

            /// The text, byte for byte as it came.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    };
}

short_text! {
    /// What an event is about; the first half of its key.
    Topic
}
short_text! {
    /// What its producer calls an event; the second half of its key.
    EventId
}
short_text! {
    /// Who produced an event.
    Source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters() {
        assert!(Topic::parse("ü".repeat(255)).is_ok());
        assert_eq!(
            Topic::parse("ü".repeat(256)),
            Err(TextError::TooLong { chars: 256 })
        );
    }

    #[test]
    fn empty_blank_and_control_are_told_apart() {
        assert_eq!(Topic::parse(""), Err(TextError::Empty));
        assert_eq!(Topic::parse(" \u{2003}\u{a0}"), Err(TextError::Blank));
        assert_eq!(Topic::parse("a\u{0}"), Err(TextError::Control('\u{0}')));
        assert_eq!(Topic::parse("a\u{85}"), Err(TextError::Control('\u{85}')));
        assert!(Topic::parse(" a ").is_ok());
    }
}
