//! Events as lines on stdout: for people, or as NDJSON.

use crate::domain::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    fmt::Write as _,
    io::{self, Write},
};

/// Writes events, one a line.
pub(super) struct Lines {
    is_json: bool,
    since: Option<Timestamp>,
    text: String,
}

#[derive(Deserialize)]
struct Event<'a> {
    topic: String,
    event_id: String,
    timestamp: String,
    source: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

impl Lines {
    /// Leaves out what happened before `since`.
    pub(super) fn new(is_json: bool, since: Option<Timestamp>) -> Self {
        Self {
            is_json,
            since,
            text: String::new(),
        }
    }

    /// Adds the line of an event, given as its JSON text.
    pub(super) fn push(&mut self, json: &str) -> Result<(), serde_json::Error> {
        let event: Event<'_> = serde_json::from_str(json)?;
        let happened = Timestamp::parse(&event.timestamp).ok();
        if self
            .since
            .is_some_and(|since| happened.is_some_and(|happened| happened < since))
        {
            return Ok(());
        }
        if self.is_json {
            push_json(&mut self.text, json);
        } else {
            // No name has a control character in it, so that tabs tell the fields apart.
            for field in [event.timestamp, event.topic, event.event_id, event.source] {
                self.text.push_str(&field);
                self.text.push('\t');
            }
            push_json(&mut self.text, event.payload.get());
        }
        self.text.push('\n');
        Ok(())
    }

    /// Writes the lines that were added.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(self.text.as_bytes())?;
        stdout.flush()?;
        self.text.clear();
        Ok(())
    }
}

/// The same value in one line, and without the characters that some terminals obey.
fn push_json(out: &mut String, json: &str) {
    for character in json.chars() {
        match character {
            // Between the values only: within a string JSON has them escaped.
            '\n' | '\r' | '\t' => out.push(' '),
            _ if character.is_control() => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = "{\"topic\":\"a b\",\"event_id\":\"ü\",\"timestamp\":\"2026-01-31T12:00:00.000000Z\",\
        \"source\":\"s\",\n\"payload\":{\"n\":\n1.00,\"c\":\"\u{9b}31m\"},\"processed_at\":\"x\"}";

    fn lines(is_json: bool, since: Option<&str>) -> String {
        let since = since.map(|text| Timestamp::parse(text).unwrap());
        let mut lines = Lines::new(is_json, since);
        lines.push(EVENT).unwrap();
        lines.text
    }

    #[test]
    fn a_line_for_people_has_five_fields_with_tabs_between_them() {
        assert_eq!(
            lines(false, None),
            "2026-01-31T12:00:00.000000Z\ta b\tü\ts\t{\"n\": 1.00,\"c\":\"\\u009b31m\"}\n"
        );
    }

    #[test]
    fn a_json_line_is_the_event_as_the_server_gave_it() {
        let line = lines(true, None);
        assert_eq!(line.matches('\n').count(), 1);
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&line), value(EVENT));
        assert!(line.contains("1.00"));
    }

    #[test]
    fn what_happened_before_is_left_out() {
        assert_eq!(lines(true, Some("2026-01-31T12:00:00.000001Z")), "");
        assert_ne!(lines(true, Some("2026-01-31T12:00:00Z")), "");
    }
}
