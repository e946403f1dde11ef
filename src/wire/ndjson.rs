//! Events as newline-delimited JSON: one event a line. Used through `wire`.

use super::{
    error::{FieldErrors, WireError},
    fields, json,
};
use crate::domain::{BATCH_EVENTS_MAX, EventBatch, Rejection};
use bytes::Bytes;

/// What JSON allows around a value; `trim` would forgive more.
const JSON_WHITE_SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Reads 1 to [`BATCH_EVENTS_MAX`] events, one a line. Blank lines are allowed and not counted.
///
/// An error's pointer is that of the same event in `{"events":[…]}`.
///
/// # Errors
/// [`WireError`] with all that is wrong; of too many events only that.
pub fn batch_from_ndjson(body: Bytes) -> Result<EventBatch, WireError> {
    let body = fields::text_of(body)?;
    let lines = || {
        body.split('\n')
            .map(|line| line.trim_matches(JSON_WHITE_SPACE))
            .filter(|line| !line.is_empty())
    };
    let count = lines().count();
    let mut errors = FieldErrors::default();
    let mut events = Vec::new();
    if count <= BATCH_EVENTS_MAX {
        events.reserve_exact(count);
        for (index, line) in lines().enumerate() {
            if let Some(event) = json::event_quickly(&body, line) {
                events.push(event);
                continue;
            }
            let base = format!("/events/{index}");
            match fields::check_syntax(line) {
                Ok(()) => events.extend(json::event_patiently(&body, line, &base, &mut errors)),
                Err(error) => {
                    errors.add_as(Rejection::Malformed, &base, "", not_json(&error));
                }
            }
        }
    }
    json::finish(events, count, "/events", errors)
}

/// The line of the error would always be the first.
fn not_json(error: &serde_json::Error) -> String {
    let column = error.column();
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    format!("is not valid JSON: {what} at column {column}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::WireErrorKind;

    fn line(id: usize) -> String {
        format!(
            "{{\"topic\":\"t\",\"event_id\":\"{id}\",\"timestamp\":\"2026-01-31T12:00:00Z\",\
             \"source\":\"s\",\"payload\":{{}}}}"
        )
    }

    fn rejected(body: impl Into<Bytes>) -> (Vec<String>, u64) {
        let error = batch_from_ndjson(body.into()).unwrap_err();
        let errors = match error.kind {
            WireErrorKind::Invalid { errors, .. } => errors
                .into_iter()
                .map(|error| format!("{} {}", error.pointer, error.detail))
                .collect(),
            other => vec![other.to_string()],
        };
        (errors, error.events)
    }

    #[test]
    fn blank_lines_carriage_returns_and_a_missing_last_line_end_are_allowed() {
        let body = format!("\n{}\r\n \t\n\r\n{}\n{}", line(0), line(1), line(2));
        let batch = batch_from_ndjson(body.into()).unwrap();
        let ids: Vec<_> = batch
            .events()
            .iter()
            .map(|event| event.event_id().as_str())
            .collect();
        assert_eq!(ids, ["0", "1", "2"]);
    }

    #[test]
    fn every_wrong_line_is_named_by_the_place_of_its_event() {
        let body = format!("{}\n\n{{\"topic\":\n[]\n{}\n{{}}x", line(0), line(3));
        let (errors, events) = rejected(body);
        assert_eq!(
            errors,
            [
                "/events/1 is not valid JSON: EOF while parsing a value at column 9",
                "/events/2 must be an object, is an array",
                "/events/4 is not valid JSON: trailing characters at column 3",
            ]
        );
        assert_eq!(events, 5);
    }

    #[test]
    fn a_line_that_starts_with_a_no_break_space_is_no_json() {
        let (errors, _) = rejected(format!("\u{a0}{}", line(0)));
        assert!(
            errors[0].starts_with("/events/0 is not valid JSON"),
            "{errors:?}"
        );
    }

    #[test]
    fn the_number_of_events_is_bounded_on_both_sides() {
        let lines = |count: usize| (0..count).map(|id| line(id) + "\n").collect::<String>();
        assert_eq!(
            batch_from_ndjson(lines(1000).into())
                .unwrap()
                .events()
                .len(),
            1000
        );
        assert_eq!(
            rejected(lines(1001)),
            (
                vec!["/events must hold at most 1000 events, holds 1001".to_owned()],
                1001
            )
        );
        assert_eq!(
            rejected("\n \n"),
            (vec!["/events must hold at least one event".to_owned()], 0)
        );
        assert_eq!(rejected(""), (vec!["the body is empty".to_owned()], 1));
    }
}
