//! Events as plain JSON: one object, or `{"events":[…]}`. Used through `wire`; gives NDJSON its
//! lines.

use super::{
    error::{FieldErrors, WireError},
    fields::{self, Place},
};
use crate::domain::{
    BATCH_EVENTS_MAX, Event, EventBatch, EventId, Payload, Rejection, Source, Timestamp, Topic,
};
use bytes::Bytes;
use bytestring::ByteString;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// Reads one event. Fields beyond the five are ignored, of a repeated key the last one counts.
///
/// # Errors
/// [`WireError`] with all that is wrong.
pub fn event_from_json(body: Bytes) -> Result<Event, WireError> {
    let body = fields::text_of(body)?;
    if let Some(event) = event_quickly(&body, &body) {
        return Ok(event);
    }
    fields::check_syntax(&body).map_err(|error| fields::not_json(&error))?;
    let mut errors = FieldErrors::default();
    event_patiently(&body, &body, "", &mut errors).ok_or_else(|| errors.reject(1))
}

/// Reads `{"events":[…]}` with 1 to [`BATCH_EVENTS_MAX`] events.
///
/// # Errors
/// [`WireError`] with all that is wrong; of too many events only that.
pub fn batch_from_json(body: Bytes) -> Result<EventBatch, WireError> {
    let body = fields::text_of(body)?;
    match batch_quickly(&body) {
        Some(batch) => Ok(batch),
        None => batch_patiently(&body),
    }
}

/// The event that `text`, a part of `body`, is without doubt.
pub(super) fn event_quickly(body: &ByteString, text: &str) -> Option<Event> {
    serde_json::from_str::<QuickEvent<'_>>(text)
        .ok()?
        .into_event(body)
}

/// The event that `text`, a part of `body` and JSON, is; or all that is wrong with it.
pub(super) fn event_patiently(
    body: &ByteString,
    text: &str,
    base: &str,
    errors: &mut FieldErrors,
) -> Option<Event> {
    let names = ["topic", "event_id", "timestamp", "source", "payload"];
    let Some([topic, event_id, timestamp, source, payload]) = fields::members(text, names) else {
        let detail = format!("must be an object, is {}", fields::kind_of(text));
        errors.add(base, "", detail);
        return None;
    };
    let place = Place { body, base };
    // Each is read before any is missed, so that all errors are found.
    let topic = place.parsed("/topic", topic, Topic::parse, errors);
    let event_id = place.parsed("/event_id", event_id, EventId::parse, errors);
    let timestamp = place.parsed(
        "/timestamp",
        timestamp,
        |text| Timestamp::parse(&text),
        errors,
    );
    let source = place.parsed("/source", source, Source::parse, errors);
    let payload = match payload {
        None => {
            errors.add(base, "/payload", "is required");
            None
        }
        Some(json) if !json.starts_with('{') => {
            let detail = format!("must be an object, is {}", fields::kind_of(json));
            errors.add(base, "/payload", detail);
            None
        }
        Some(json) => Payload::parse(body.slice_ref(json))
            .map_err(|error| errors.add(base, "/payload", error))
            .ok(),
    };
    Some(Event::new(topic?, event_id?, timestamp?, source?, payload?))
}

fn batch_quickly(body: &ByteString) -> Option<EventBatch> {
    // A derived reader would take an array for the struct of its fields.
    if !body.trim_start().starts_with('{') {
        return None;
    }
    let QuickBatch { events } = serde_json::from_str(body).ok()?;
    let events = events
        .0
        .into_iter()
        .map(|event| event.into_event(body))
        .collect::<Option<Vec<_>>>()?;
    EventBatch::new(events).ok()
}

fn batch_patiently(body: &ByteString) -> Result<EventBatch, WireError> {
    fields::check_syntax(body).map_err(|error| fields::not_json(&error))?;
    let mut errors = FieldErrors::default();
    let Some([events]) = fields::members(body, ["events"]) else {
        let detail = format!("must be an object, is {}", fields::kind_of(body));
        errors.add("", "", detail);
        return Err(errors.reject(1));
    };
    let Some(events) = events else {
        errors.add("", "/events", "is required");
        return Err(errors.reject(1));
    };
    array_patiently(events, "/events", |text, base, errors| {
        event_patiently(body, text, base, errors)
    })
}

/// The batch that an array at `base` is; `read` makes an event of an item and its pointer.
pub(super) fn array_patiently(
    array: &str,
    base: &str,
    mut read: impl FnMut(&str, &str, &mut FieldErrors) -> Option<Event>,
) -> Result<EventBatch, WireError> {
    let mut errors = FieldErrors::default();
    // Counted first: of a million events none is worth a look.
    let Some(count) = fields::items(array, 0, |_, _| {}) else {
        let detail = format!("must be an array, is {}", fields::kind_of(array));
        errors.add(base, "", detail);
        return Err(errors.reject(1));
    };
    let mut events = Vec::new();
    if count <= BATCH_EVENTS_MAX {
        fields::items(array, count, |index, item| {
            events.extend(read(item, &format!("{base}/{index}"), &mut errors));
        });
    }
    finish(events, count, base, errors)
}

/// The batch of `count` events, if each of them was read.
pub(super) fn finish(
    events: Vec<Event>,
    count: usize,
    base: &str,
    mut errors: FieldErrors,
) -> Result<EventBatch, WireError> {
    if count > BATCH_EVENTS_MAX {
        let detail = format!("must hold at most {BATCH_EVENTS_MAX} events, holds {count}");
        errors.add_as(Rejection::BatchSize, base, "", detail);
    }
    if !errors.is_empty() {
        return Err(errors.reject(count));
    }
    EventBatch::new(events).map_err(|error| {
        errors.add_as(Rejection::BatchSize, base, "", error);
        errors.reject(count)
    })
}

/// An event whose fields have the right types.
#[derive(Default)]
struct QuickEvent<'a> {
    topic: Option<Cow<'a, str>>,
    event_id: Option<Cow<'a, str>>,
    timestamp: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    payload: Option<&'a RawValue>,
}

impl QuickEvent<'_> {
    fn into_event(self, body: &ByteString) -> Option<Event> {
        let text = |text: Option<Cow<'_, str>>| match text? {
            Cow::Borrowed(part) => Some(body.slice_ref(part)),
            Cow::Owned(unescaped) => Some(unescaped.into()),
        };
        Some(Event::new(
            Topic::parse(text(self.topic)?).ok()?,
            EventId::parse(text(self.event_id)?).ok()?,
            Timestamp::parse(&self.timestamp?).ok()?,
            Source::parse(text(self.source)?).ok()?,
            Payload::parse(body.slice_ref(self.payload?.get())).ok()?,
        ))
    }
}

/// A string that stays a slice where it has no escapes; serde's own `Cow` would copy it.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum QuickField {
    Topic,
    EventId,
    Timestamp,
    Source,
    Payload,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for QuickEvent<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(QuickEventVisitor)
    }
}

/// Not derived: that would take an array for an event, and refuse a repeated key.
struct QuickEventVisitor;

impl<'de> Visitor<'de> for QuickEventVisitor {
    type Value = QuickEvent<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut event = QuickEvent::default();
        while let Some(field) = map.next_key()? {
            let text = match field {
                QuickField::Topic => &mut event.topic,
                QuickField::EventId => &mut event.event_id,
                QuickField::Timestamp => &mut event.timestamp,
                QuickField::Source => &mut event.source,
                QuickField::Payload => {
                    event.payload = Some(map.next_value()?);
                    continue;
                }
                QuickField::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *text = Some(map.next_value::<Text<'de>>()?.0);
        }
        Ok(event)
    }
}

#[derive(Deserialize)]
struct QuickBatch<'a> {
    #[serde(borrow)]
    events: QuickEvents<'a>,
}

/// At most [`BATCH_EVENTS_MAX`] events.
struct QuickEvents<'a>(Vec<QuickEvent<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for QuickEvents<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(QuickEventsVisitor)
    }
}

struct QuickEventsVisitor;

impl<'de> Visitor<'de> for QuickEventsVisitor {
    type Value = QuickEvents<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut events = Vec::new();
        while let Some(event) = seq.next_element()? {
            if events.len() == BATCH_EVENTS_MAX {
                return Err(A::Error::custom("too many events"));
            }
            events.push(event);
        }
        Ok(QuickEvents(events))
    }
}

#[cfg(test)]
mod tests;
