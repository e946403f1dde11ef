//! Reads a request's body within its limits: size, time, and the bytes that the door lets in.

use super::{
    HttpState,
    encoding::{self, Encoded},
    error::ApiError,
};
use crate::actors::BytesPermit;
use actix_web::{
    HttpRequest,
    error::PayloadError,
    http::header::CONTENT_LENGTH,
    web::{self, Bytes, BytesMut},
};
use futures_util::StreamExt;
use std::{collections::VecDeque, time::Duration};
use tokio::time::{Instant, timeout_at};

/// A client that is still sending reads no answer. So what is too large is read on for a while,
/// and thrown away, before it is refused.
const OVERSIZE_DRAIN_BYTES: usize = 64 << 20;
const OVERSIZE_DRAIN: Duration = Duration::from_secs(2);

/// The whole body, decompressed, with the permit that covers its bytes.
pub(super) async fn read(
    request: &HttpRequest,
    payload: web::Payload,
    state: &HttpState,
) -> Result<(Bytes, BytesPermit), ApiError> {
    let encoding = encoding::of(request)?;
    let max_bytes = state.limits.body_bytes_max;
    // As it comes; what it is decompressed to is counted there.
    let sent_max = match encoding {
        Some(_) => encoded_bytes_max(max_bytes),
        None => max_bytes,
    };
    if expected_bytes(request) > sent_max {
        // Who asks before he sends it is told at once.
        if !request.head().expect() {
            throw_away(payload).await;
        }
        return Err(ApiError::BodyTooLarge { max_bytes });
    }
    let deadline = Instant::now() + state.limits.body_timeout;
    let Some(encoding) = encoding else {
        let whole = Whole::expecting(expected_bytes(request));
        return collect(whole, payload, state, sent_max, deadline)
            .await
            .map(|(whole, permit)| (whole.bytes(), permit));
    };
    let (chunks, encoded) = collect(VecDeque::new(), payload, state, sent_max, deadline).await?;
    let body = Encoded::new(chunks, encoded);
    let mut permit = state.ingest.admission().bytes_permit();
    let decoded = body.decode(encoding, &state.decoders, max_bytes, deadline, &mut permit);
    Ok((decoded.await?, permit))
}

/// Reads a body to its end, with the permit that covers its bytes.
async fn collect<C: Chunks>(
    mut body: C,
    mut payload: web::Payload,
    state: &HttpState,
    sent_max: usize,
    deadline: Instant,
) -> Result<(C, BytesPermit), ApiError> {
    let max_bytes = state.limits.body_bytes_max;
    let mut permit = state.ingest.admission().bytes_permit();
    let mut bytes = 0;
    loop {
        let chunk = match timeout_at(deadline, payload.next()).await {
            Err(_) => return Err(ApiError::BodyTimeout),
            Ok(None) => return Ok((body, permit)),
            Ok(Some(chunk)) => chunk.map_err(payload_error)?,
        };
        bytes += chunk.len();
        if bytes > sent_max {
            drop(body);
            drop(permit);
            throw_away(payload).await;
            return Err(ApiError::BodyTooLarge { max_bytes });
        }
        permit.grow(chunk.len())?;
        body.push(chunk);
    }
}

/// Where a body is collected.
trait Chunks {
    fn push(&mut self, chunk: Bytes);
}

/// A body that is going to be decompressed is never needed in one piece.
impl Chunks for VecDeque<Bytes> {
    fn push(&mut self, chunk: Bytes) {
        self.push_back(chunk);
    }
}

/// A body in one piece. One that came so, as small ones do, is not copied.
struct Whole {
    body: Parts,
    expected_bytes: usize,
}

enum Parts {
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Whole {
    fn expecting(expected_bytes: usize) -> Self {
        Self {
            body: Parts::None,
            expected_bytes,
        }
    }

    fn bytes(self) -> Bytes {
        match self.body {
            Parts::None => Bytes::new(),
            Parts::One(chunk) => chunk,
            Parts::Many(chunks) => chunks.freeze(),
        }
    }
}

impl Chunks for Whole {
    fn push(&mut self, chunk: Bytes) {
        match &mut self.body {
            Parts::None => self.body = Parts::One(chunk),
            Parts::One(first) => {
                // What a header promises is not set aside before a part of it has come.
                let likely = self.expected_bytes.min(first.len() * 16);
                let mut chunks = BytesMut::with_capacity(likely.max(first.len() + chunk.len()));
                chunks.extend_from_slice(first);
                chunks.extend_from_slice(&chunk);
                self.body = Parts::Many(chunks);
            }
            Parts::Many(chunks) => chunks.extend_from_slice(&chunk),
        }
    }
}

/// What cannot be compressed becomes larger: by some bytes for each block of 16 KiB and more, and a frame.
fn encoded_bytes_max(max_bytes: usize) -> usize {
    max_bytes.saturating_add(max_bytes / 1024 + 1024)
}

fn expected_bytes(request: &HttpRequest) -> usize {
    let length = request.headers().get(CONTENT_LENGTH);
    length
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
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
            ApiError::BrokenBody("the body's transfer encoding is broken")
        }
        _ => ApiError::BrokenBody("the body ended before it was complete"),
    }
}
