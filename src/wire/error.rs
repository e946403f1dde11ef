//! What is wrong with a body. Made by the formats of `wire`; HTTP turns it into a problem document,
//! the bridge into a dead letter's reason.

use crate::domain::Rejection;
use std::fmt;

/// The most field errors that one answer names.
pub const FIELD_ERRORS_MAX: usize = 100;

/// Why a body holds no events that can be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct WireError {
    /// What is wrong.
    pub kind: WireErrorKind,
    /// The same for those who count.
    pub rejection: Rejection,
    /// Events that are rejected with it: all of a batch, 0 of an empty one, 1 where they cannot be
    /// counted.
    pub events: u64,
}

/// What is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireErrorKind {
    /// It is no JSON at all.
    #[error("{detail}")]
    Malformed {
        /// What and where, for people.
        detail: String,
    },
    /// It is JSON, and its content is wrong.
    #[error("{}", Listed(errors, *errors_total))]
    Invalid {
        /// The first [`FIELD_ERRORS_MAX`] errors, in the order of the body.
        errors: Vec<FieldError>,
        /// How many there are.
        errors_total: usize,
    },
    /// It is a CloudEvent with data that is not JSON.
    #[error("{detail}")]
    UnsupportedData {
        /// What it is instead, for people.
        detail: String,
    },
}

/// What is wrong at one place of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Where: a JSON pointer (RFC 6901), empty for the whole body.
    pub pointer: String,
    /// What, for people, without the value: `must not be empty`.
    pub detail: String,
}

/// Errors in one line.
struct Listed<'a>(&'a [FieldError], usize);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(errors, errors_total) = *self;
        for (index, FieldError { pointer, detail }) in errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            match pointer.as_str() {
                "" => write!(f, "{separator}{detail}")?,
                pointer => write!(f, "{separator}{pointer} {detail}")?,
            }
        }
        match errors_total - errors.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl WireError {
    pub(super) fn malformed(detail: impl Into<String>, events: usize) -> Self {
        Self {
            kind: WireErrorKind::Malformed {
                detail: detail.into(),
            },
            rejection: Rejection::Malformed,
            events: count(events),
        }
    }

    pub(super) fn unsupported_data(detail: impl Into<String>, events: usize) -> Self {
        Self {
            kind: WireErrorKind::UnsupportedData {
                detail: detail.into(),
            },
            rejection: Rejection::CloudEvent,
            events: count(events),
        }
    }
}

/// Errors as they are found, the first of them kept.
#[derive(Debug, Default)]
pub(super) struct FieldErrors {
    first: Vec<FieldError>,
    total: usize,
    /// What the first of them is.
    rejection: Option<Rejection>,
}

impl FieldErrors {
    /// Notes what is wrong at `base` and, below it, `field`. Both are empty or start with a slash,
    /// and all our names are free of the characters that a pointer escapes.
    pub(super) fn add(&mut self, base: &str, field: &str, detail: impl fmt::Display) {
        self.add_as(rejection_of(field), base, field, detail);
    }

    /// The same where the field does not say what it is.
    pub(super) fn add_as(
        &mut self,
        rejection: Rejection,
        base: &str,
        field: &str,
        detail: impl fmt::Display,
    ) {
        self.rejection.get_or_insert(rejection);
        self.total += 1;
        if self.first.len() < FIELD_ERRORS_MAX {
            self.first.push(FieldError {
                pointer: format!("{base}{field}"),
                detail: detail.to_string(),
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The rejection of a request of so many events.
    pub(super) fn reject(self, events: usize) -> WireError {
        WireError {
            kind: WireErrorKind::Invalid {
                errors: self.first,
                errors_total: self.total,
            },
            rejection: self.rejection.unwrap_or(Rejection::Shape),
            events: count(events),
        }
    }
}

/// What it is that a field is wrong: one of an event, or the attribute of a CloudEvent that it is made
/// of.
fn rejection_of(field: &str) -> Rejection {
    match field {
        "/topic" | "/type" => Rejection::Topic,
        "/event_id" | "/id" => Rejection::EventId,
        "/timestamp" | "/time" => Rejection::Timestamp,
        "/source" => Rejection::Source,
        "/payload" | "/data" => Rejection::Payload,
        "/specversion" | "/datacontenttype" => Rejection::CloudEvent,
        _ => Rejection::Shape,
    }
}

fn count(events: usize) -> u64 {
    u64::try_from(events).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_one_line_and_says_how_many_it_leaves_out() {
        let mut errors = FieldErrors::default();
        for index in 0..FIELD_ERRORS_MAX + 5 {
            errors.add(&format!("/events/{index}"), "/topic", "is required");
        }
        let error = errors.reject(FIELD_ERRORS_MAX + 5);
        let text = error.to_string();
        assert!(
            text.starts_with("/events/0/topic is required; /events/1/topic"),
            "{text}"
        );
        assert!(
            text.ends_with("/events/99/topic is required; and 5 more"),
            "{text}"
        );
        assert_eq!(error.events, 105);
    }
}
