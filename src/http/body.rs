//! Reads a request's body within its limits: size, time, and the bytes that the door lets in.

use super::{HttpState, error::ApiError};
use crate::actors::BytesPermit;
use actix_web::{
    HttpRequest,
    error::PayloadError,
    http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    web::{self, Bytes, BytesMut},
};
use futures_util::StreamExt;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A client that is still sending reads no answer. So what is too large is read on for a while,
/// and thrown away, before it is refused.
const OVERSIZE_DRAIN_BYTES: usize = 64 << 20;
const OVERSIZE_DRAIN: Duration = Duration::from_secs(2);

/// The formats of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `application/json`, any `+json` that is nothing special, or no type at all.
    Json,
}

/// What the `Content-Type` says.
pub(super) fn format(request: &HttpRequest) -> Result<Format, ApiError> {
    let Some(value) = request.headers().get(CONTENT_TYPE) else {
        return Ok(Format::Json);
    };
    let unsupported =
        || ApiError::UnsupportedMedia("the content type must be application/json".to_owned());
    let value = value.to_str().map_err(|_| unsupported())?;
    let mut parts = value.split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    for parameter in parts {
        let (name, value) = parameter.split_once('=').unwrap_or_default();
        let is_utf8 = value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8");
        if name.trim().eq_ignore_ascii_case("charset") && !is_utf8 {
            return Err(ApiError::UnsupportedMedia(
                "the charset must be utf-8".to_owned(),
            ));
        }
    }
    match essence.as_str() {
        "" | "application/json" => Ok(Format::Json),
        _ => Err(unsupported()),
    }
}

/// The whole body, with the permit that covers its bytes.
pub(super) async fn read(
    request: &HttpRequest,
    mut payload: web::Payload,
    state: &HttpState,
) -> Result<(Bytes, BytesPermit), ApiError> {
    check_encoding(request)?;
    let max_bytes = state.limits.body_bytes_max;
    let deadline = Instant::now() + state.limits.body_timeout;
    let mut permit = state.ingest.admission().bytes_permit();
    let mut body = Chunks::default();
    loop {
        let chunk = match timeout_at(deadline, payload.next()).await {
            Err(_) => return Err(ApiError::BodyTimeout),
            Ok(None) => return Ok((body.whole(), permit)),
            Ok(Some(chunk)) => chunk.map_err(payload_error)?,
        };
        if body.len() + chunk.len() > max_bytes {
            drop(body);
            drop(permit);
            throw_away(payload).await;
            return Err(ApiError::BodyTooLarge { max_bytes });
        }
        permit.grow(chunk.len())?;
        body.push(chunk, expected_bytes(request).min(max_bytes));
    }
}

/// A body that came in one piece, as small ones do, is not copied.
#[derive(Default)]
enum Chunks {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Chunks {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(chunk) => chunk.len(),
            Self::Many(chunks) => chunks.len(),
        }
    }

    fn push(&mut self, chunk: Bytes, expected_bytes: usize) {
        match self {
            Self::None => *self = Self::One(chunk),
            Self::One(first) => {
                // What a header promises is not set aside before a part of it has come.
                let likely = expected_bytes.min(first.len() * 16);
                let mut chunks = BytesMut::with_capacity(likely.max(first.len() + chunk.len()));
                chunks.extend_from_slice(first);
                chunks.extend_from_slice(&chunk);
                *self = Self::Many(chunks);
            }
            Self::Many(chunks) => chunks.extend_from_slice(&chunk),
        }
    }

    fn whole(self) -> Bytes {
        match self {
            Self::None => Bytes::new(),
            Self::One(chunk) => chunk,
            Self::Many(chunks) => chunks.freeze(),
        }
    }
}

fn expected_bytes(request: &HttpRequest) -> usize {
    let length = request.headers().get(CONTENT_LENGTH);
    length
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}

fn check_encoding(request: &HttpRequest) -> Result<(), ApiError> {
    match request.headers().get(CONTENT_ENCODING) {
        None => Ok(()),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"identity") => Ok(()),
        Some(_) => Err(ApiError::UnsupportedMedia(
            "this content encoding is not supported".to_owned(),
        )),
    }
}

async fn throw_away(mut payload: web::Payload) {
    let deadline = Instant::now() + OVERSIZE_DRAIN;
    let mut left = OVERSIZE_DRAIN_BYTES;
    while let Ok(Some(Ok(chunk))) = timeout_at(deadline, payload.next()).await {
        left = left.saturating_sub(chunk.len());
        if left == 0 {
            return;
        }
    }
}

fn payload_error(error: PayloadError) -> ApiError {
    match error {
        PayloadError::EncodingCorrupted => {
            ApiError::BadRequest("the body's transfer encoding is broken".to_owned())
        }
        _ => ApiError::BadRequest("the body ended before it was complete".to_owned()),
    }
}
