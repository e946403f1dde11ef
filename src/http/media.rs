//! What a body is, by its `Content-Type` and `ce-` headers. Used by the routes that take one; knows
//! the names of the formats and not how they are read.

use super::error::ApiError;
use actix_web::{HttpRequest, http::header::CONTENT_TYPE};

/// The formats of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventFormat {
    /// `application/json`, or no type at all.
    Json,
    /// A CloudEvent with its attributes in `ce-` headers.
    CloudEventBinary,
    /// A CloudEvent as one JSON object.
    CloudEventStructured,
}

/// The formats of several events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchFormat {
    /// `application/json`, or no type at all.
    Json,
    /// One event a line.
    Ndjson,
    /// An array of CloudEvents.
    CloudEvents,
}

const JSON: &str = "application/json";
const CLOUDEVENT: &str = "application/cloudevents+json";
const CLOUDEVENT_BATCH: &str = "application/cloudevents-batch+json";
/// The first is the one that answers name; none of them is registered.
const NDJSON: [&str; 3] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
];

const EVENT_TYPES: &str = "application/json, application/cloudevents+json";
const BATCH_TYPES: &str =
    "application/json, application/x-ndjson, application/cloudevents-batch+json";

/// A header that only a CloudEvent in binary mode has. Each of them will do, so that the one that
/// is missing can be named.
const CLOUDEVENT_HEADERS: [&str; 4] = ["ce-specversion", "ce-id", "ce-source", "ce-type"];

/// What `/publish` gets.
pub(super) fn of_event(request: &HttpRequest) -> Result<EventFormat, ApiError> {
    let refuse = |detail: &str| ApiError::UnsupportedType {
        detail: detail.to_owned(),
        accepted: EVENT_TYPES,
    };
    let essence = essence(request);
    let is_binary = has_cloudevent_header(request);
    match essence.as_deref() {
        // The type of its data, which is checked with the data.
        _ if is_binary && !is_cloudevents(essence.as_deref()) => {
            return Ok(EventFormat::CloudEventBinary);
        }
        None | Some("" | JSON) => check_charset(request, EVENT_TYPES)?,
        Some(CLOUDEVENT) => {
            check_charset(request, EVENT_TYPES)?;
            return Ok(EventFormat::CloudEventStructured);
        }
        Some(CLOUDEVENT_BATCH) => {
            return Err(refuse(
                "a batch of CloudEvents goes to /publish/batch; this path takes one event as \
                 application/json or as a CloudEvent in binary or structured mode",
            ));
        }
        Some(ndjson) if NDJSON.contains(&ndjson) => {
            return Err(refuse(
                "NDJSON goes to /publish/batch; this path takes one event as application/json or \
                 as a CloudEvent in binary or structured mode",
            ));
        }
        Some(_) => {
            return Err(refuse(
                "the content type must be application/json or application/cloudevents+json; a \
                 CloudEvent in binary mode has ce- headers",
            ));
        }
    }
    Ok(EventFormat::Json)
}

/// What `/publish/batch` gets.
pub(super) fn of_batch(request: &HttpRequest) -> Result<BatchFormat, ApiError> {
    let refuse = |detail: &str| ApiError::UnsupportedType {
        detail: detail.to_owned(),
        accepted: BATCH_TYPES,
    };
    let essence = essence(request);
    let format = match essence.as_deref() {
        Some(CLOUDEVENT_BATCH) => BatchFormat::CloudEvents,
        Some(CLOUDEVENT) => {
            return Err(refuse(
                "a CloudEvent in structured mode goes to /publish; this path takes \
                 application/json, application/x-ndjson or application/cloudevents-batch+json",
            ));
        }
        _ if request.headers().contains_key(CLOUDEVENT_HEADERS[0]) => {
            return Err(refuse(
                "a CloudEvent in binary mode goes to /publish; this path takes application/json, \
                 application/x-ndjson or application/cloudevents-batch+json",
            ));
        }
        None | Some("" | JSON) => BatchFormat::Json,
        Some(ndjson) if NDJSON.contains(&ndjson) => BatchFormat::Ndjson,
        Some(_) => {
            return Err(refuse(
                "the content type must be application/json, application/x-ndjson or \
                 application/cloudevents-batch+json",
            ));
        }
    };
    check_charset(request, BATCH_TYPES)?;
    Ok(format)
}

/// What is no event must be JSON.
pub(super) fn check_json(request: &HttpRequest) -> Result<(), ApiError> {
    match essence(request).as_deref() {
        None | Some("" | JSON) => check_charset(request, JSON),
        Some(_) => Err(ApiError::UnsupportedType {
            detail: "the content type must be application/json".to_owned(),
            accepted: JSON,
        }),
    }
}

fn has_cloudevent_header(request: &HttpRequest) -> bool {
    let mut names = CLOUDEVENT_HEADERS.iter();
    names.any(|name| request.headers().contains_key(*name))
}

/// Section 3 of the HTTP binding: the type decides before the headers do.
fn is_cloudevents(essence: Option<&str>) -> bool {
    essence.is_some_and(|essence| essence.starts_with("application/cloudevents"))
}

/// The type without its parameters; `None` where there is no header.
fn essence(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(CONTENT_TYPE)?;
    // One that is no text is no type that we know.
    let value = value.to_str().unwrap_or("?");
    let essence = value.split(';').next().unwrap_or_default();
    Some(essence.trim().to_ascii_lowercase())
}

fn check_charset(request: &HttpRequest, accepted: &'static str) -> Result<(), ApiError> {
    let value = request.headers().get(CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    for parameter in value.split(';').skip(1) {
        let (name, value) = parameter.split_once('=').unwrap_or_default();
        let is_utf8 = value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8");
        if name.trim().eq_ignore_ascii_case("charset") && !is_utf8 {
            return Err(ApiError::UnsupportedType {
                detail: "the charset must be utf-8".to_owned(),
                accepted,
            });
        }
    }
    Ok(())
}
