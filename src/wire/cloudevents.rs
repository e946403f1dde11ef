//! CloudEvents 1.0 in the three modes of its HTTP binding and its JSON format. Used through `wire`.
//!
//! `type` becomes the topic, `source#id` the event id, `time` the timestamp and `data` the payload.
//! Other attributes are ignored. An attribute that is null is unset, as the JSON format has it.

use super::{
    error::{FieldErrors, WireError},
    fields::{self, Place},
    json,
};
use crate::domain::{Event, EventBatch, EventId, Payload, PayloadError, Source, Timestamp, Topic};
use bytes::Bytes;
use bytestring::ByteString;
use percent_encoding::percent_decode_str;
use std::{borrow::Cow, str};

/// Reads one event in structured mode (`application/cloudevents+json`).
///
/// # Errors
/// [`WireError`] with all that is wrong.
pub fn event_from_cloudevents_structured(body: Bytes) -> Result<Event, WireError> {
    let body = fields::text_of(body)?;
    fields::check_syntax(&body).map_err(|error| fields::not_json(&error))?;
    let mut errors = FieldErrors::default();
    event_from_object(&body, &body, "", &mut errors)
        .map_err(|NotJson(detail)| WireError::unsupported_data(detail, 1))?
        .ok_or_else(|| errors.reject(1))
}

/// Reads an array of 1 to [`crate::domain::BATCH_EVENTS_MAX`] events
/// (`application/cloudevents-batch+json`). The array is the whole body, so the pointer of a field
/// is `/3/type`.
///
/// # Errors
/// [`WireError`] with all that is wrong; of too many events only that.
pub fn batch_from_cloudevents(body: Bytes) -> Result<EventBatch, WireError> {
    let body = fields::text_of(body)?;
    fields::check_syntax(&body).map_err(|error| fields::not_json(&error))?;
    let mut unsupported = None;
    let mut count = 0;
    let batch = json::array_patiently(&body, "", |text, base, errors| {
        count += 1;
        event_from_object(&body, text, base, errors).unwrap_or_else(|NotJson(detail)| {
            unsupported.get_or_insert_with(|| format!("{base} {detail}"));
            None
        })
    });
    match unsupported {
        Some(detail) => Err(WireError::unsupported_data(detail, count)),
        None => batch,
    }
}

/// Reads one event in binary mode: attributes as `ce-` headers, the data as the body. `headers` may
/// be all headers of the request; `Content-Type` among them is that of the data, and JSON where it
/// is missing.
///
/// A wrong header has the pointer that its attribute would have in structured mode: `/type`.
///
/// # Errors
/// [`WireError`] with all that is wrong.
pub fn event_from_cloudevents_binary<'h>(
    headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    body: Bytes,
) -> Result<Event, WireError> {
    let mut errors = FieldErrors::default();
    let headers = Headers::collect(headers);
    let payload = if body.is_empty() {
        payload_of(None, &ByteString::new())
    } else {
        if !headers.content_type.is_none_or(is_json_media_type) {
            return Err(WireError::unsupported_data(NOT_JSON, 1));
        }
        let body = fields::text_of(body)?;
        fields::check_syntax(&body).map_err(|error| fields::not_json(&error))?;
        // A payload starts where its value does, and so does the choice to wrap it.
        payload_of(Some(body.trim()), &body)
    };
    let attributes = headers.attributes.decode(&mut errors);
    let payload = payload.map_err(|error| errors.add("", "/data", error)).ok();
    attributes
        .into_event(payload, "", &mut errors)
        .filter(|_| errors.is_empty())
        .ok_or_else(|| errors.reject(1))
}

const NOT_JSON: &str = "the data of a CloudEvent must be JSON";

/// The data is of a kind that cannot be a payload; with what it is.
struct NotJson(&'static str);

/// The attributes that make an event. `None` is one whose absence or fault is noted already.
struct Attributes<T> {
    specversion: Option<T>,
    id: Option<T>,
    source: Option<T>,
    r#type: Option<T>,
    time: Option<T>,
}

/// The event that `text`, a part of `body` and JSON, is.
fn event_from_object(
    body: &ByteString,
    text: &str,
    base: &str,
    errors: &mut FieldErrors,
) -> Result<Option<Event>, NotJson> {
    let names = [
        "specversion",
        "id",
        "source",
        "type",
        "time",
        "datacontenttype",
        "data",
        "data_base64",
    ];
    let Some(members) = fields::members(text, names) else {
        let detail = format!("must be an object, is {}", fields::kind_of(text));
        errors.add(base, "", detail);
        return Ok(None);
    };
    let [
        specversion,
        id,
        source,
        r#type,
        time,
        content_type,
        data,
        data_base64,
    ] = members;
    let place = Place { body, base };
    let set = |json: Option<&'_ str>| json.is_some_and(|json| json != "null");
    if set(data_base64) {
        return Err(NotJson(
            "the data of a CloudEvent must be JSON, not data_base64",
        ));
    }
    if set(content_type) {
        let content_type = place.string("/datacontenttype", content_type, errors);
        if data.is_some() && !content_type.is_none_or(|media_type| is_json_media_type(&media_type))
        {
            return Err(NotJson(NOT_JSON));
        }
    }
    let mut string = |field, json: Option<&str>| {
        place.string(field, json.filter(|json| *json != "null"), errors)
    };
    let attributes = Attributes {
        specversion: string("/specversion", specversion),
        id: string("/id", id),
        source: string("/source", source),
        r#type: string("/type", r#type),
        time: string("/time", time),
    };
    let payload = payload_of(data, body)
        .map_err(|error| errors.add(base, "/data", error))
        .ok();
    let event = attributes.into_event(payload, base, errors);
    Ok(event.filter(|_| errors.is_empty()))
}

impl Attributes<ByteString> {
    /// The event, if all of it is right; what is not is noted.
    fn into_event(
        self,
        payload: Option<Payload>,
        base: &str,
        errors: &mut FieldErrors,
    ) -> Option<Event> {
        let specversion = self.specversion.filter(|version| {
            let is_known = *version == "1.0";
            if !is_known {
                errors.add(base, "/specversion", "must be 1.0");
            }
            is_known
        });
        let id = self.id.and_then(|id| {
            EventId::parse(id)
                .map_err(|error| errors.add(base, "/id", error))
                .ok()
        });
        let source = self.source.and_then(|source| {
            Source::parse(source)
                .map_err(|error| errors.add(base, "/source", error))
                .ok()
        });
        let topic = self.r#type.and_then(|topic| {
            Topic::parse(topic)
                .map_err(|error| errors.add(base, "/type", error))
                .ok()
        });
        let timestamp = self.time.and_then(|time| {
            Timestamp::parse(&time)
                .map_err(|error| errors.add(base, "/time", error))
                .ok()
        });
        let (id, source) = (id?, source?);
        let event_id = EventId::parse(format!("{}#{}", source.as_str(), id.as_str()))
            .map_err(|error| {
                errors.add(
                    base,
                    "/id",
                    format_args!("behind its source and a # {error}"),
                );
            })
            .ok();
        specversion?;
        Some(Event::new(topic?, event_id?, timestamp?, source, payload?))
    }
}

/// The payload that the data makes: an object is one, another value is wrapped, none is `{}`.
fn payload_of(data: Option<&str>, body: &ByteString) -> Result<Payload, PayloadError> {
    match data {
        None => Payload::parse(ByteString::from_static("{}")),
        Some(json) if json.starts_with('{') => Payload::parse(body.slice_ref(json)),
        Some(json) => Payload::parse(format!("{{\"data\":{json}}}")),
    }
}

/// `application/json`, `text/json`, `application/vnd.api+json` and the like, whatever their
/// parameters.
fn is_json_media_type(media_type: &str) -> bool {
    let essence = media_type
        .split_once(';')
        .map_or(media_type, |(essence, _)| essence)
        .trim()
        .to_ascii_lowercase();
    essence.is_empty() || essence.ends_with("/json") || essence.ends_with("+json")
}

/// The headers that matter, as they came. Of a repeated one the last counts.
struct Headers<'h> {
    content_type: Option<&'h str>,
    attributes: Attributes<&'h [u8]>,
}

impl<'h> Headers<'h> {
    fn collect(headers: impl IntoIterator<Item = (&'h str, &'h [u8])>) -> Self {
        let mut found = Self {
            content_type: None,
            attributes: Attributes {
                specversion: None,
                id: None,
                source: None,
                r#type: None,
                time: None,
            },
        };
        for (name, value) in headers {
            let attributes = &mut found.attributes;
            match name.to_ascii_lowercase().as_str() {
                // One that is no text is no JSON either.
                "content-type" => found.content_type = Some(str::from_utf8(value).unwrap_or("?")),
                "ce-specversion" => attributes.specversion = Some(value),
                "ce-id" => attributes.id = Some(value),
                "ce-source" => attributes.source = Some(value),
                "ce-type" => attributes.r#type = Some(value),
                "ce-time" => attributes.time = Some(value),
                _ => {}
            }
        }
        found
    }
}

impl Attributes<&[u8]> {
    fn decode(self, errors: &mut FieldErrors) -> Attributes<ByteString> {
        let mut text = |field, value: Option<&[u8]>| {
            let Some(value) = value else {
                errors.add(
                    "",
                    field,
                    format_args!("is required as header ce-{}", &field[1..]),
                );
                return None;
            };
            let decoded = decode_header(value);
            if decoded.is_none() {
                errors.add("", field, "must be percent-encoded UTF-8");
            }
            decoded
        };
        Attributes {
            specversion: text("/specversion", self.specversion),
            id: text("/id", self.id),
            source: text("/source", self.source),
            r#type: text("/type", self.r#type),
            time: text("/time", self.time),
        }
    }
}

/// Section 3.1.3.2 of the HTTP binding: quotes and backslashes are undone first, where there are
/// any, then one round of percent-decoding.
fn decode_header(value: &[u8]) -> Option<ByteString> {
    let value = str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    let unquoted = match value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inner) if inner.contains('\\') => Cow::Owned(unescaped(inner)),
        Some(inner) => Cow::Borrowed(inner),
        None => Cow::Borrowed(value),
    };
    let decoded = percent_decode_str(&unquoted).decode_utf8().ok()?;
    Some(decoded.into_owned().into())
}

fn unescaped(quoted: &str) -> String {
    let mut text = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => text.extend(chars.next()),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests;
