//! Undoes a body's `Content-Encoding`, in steps of a bounded size and up to a limit. Used by `body`;
//! knows nothing of what is in a body.
//!
//! What costs memory beside the output are the decoders' windows (16 MiB for brotli, 8 MiB for
//! zstd), which a few bytes can ask for. So only so many bodies are decompressed at a time, and each
//! only once all of it has come: a slow sender holds no decoder.

use super::error::ApiError;
use crate::actors::BytesPermit;
use actix_web::{
    HttpRequest,
    http::header::CONTENT_ENCODING,
    web::{Bytes, BytesMut},
};
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::bufread::MultiGzDecoder;
use std::{
    collections::VecDeque,
    io::{self, BufRead, Read},
    sync::Arc,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::yield_now,
    time::{Instant, timeout_at},
};

/// Bodies that are decompressed at the same time, over all HTTP workers.
const DECODERS_MAX: usize = 2;
/// Output of one step, after which other requests of the thread have their turn: a fraction of a
/// millisecond.
const STEP_BYTES: usize = 64 << 10;
/// What RFC 8878 asks of every decoder; frames that need more are refused.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What `Accept-Encoding` of a 415 says (RFC 7694).
pub(super) const ACCEPTED: &str = "gzip, zstd, br, identity";

/// The encodings that are undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Gzip,
    Zstd,
    Brotli,
}

/// The decoders of the process.
#[derive(Debug, Clone)]
pub struct Decoders(Arc<Semaphore>);

impl Default for Decoders {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(DECODERS_MAX)))
    }
}

/// How a body is encoded, if at all.
pub(super) fn of(request: &HttpRequest) -> Result<Option<Encoding>, ApiError> {
    let mut values = request.headers().get_all(CONTENT_ENCODING);
    let (Some(value), None) = (values.next(), values.next()) else {
        return match request.headers().contains_key(CONTENT_ENCODING) {
            true => Err(ApiError::UnsupportedEncoding),
            false => Ok(None),
        };
    };
    match value
        .as_bytes()
        .trim_ascii()
        .to_ascii_lowercase()
        .as_slice()
    {
        b"" | b"identity" => Ok(None),
        b"gzip" | b"x-gzip" => Ok(Some(Encoding::Gzip)),
        b"zstd" => Ok(Some(Encoding::Zstd)),
        b"br" => Ok(Some(Encoding::Brotli)),
        // A list of encodings, too: nobody sends one, and each layer multiplies what a bomb can do.
        _ => Err(ApiError::UnsupportedEncoding),
    }
}

/// A body as it came, with the permit that covers it.
pub(super) struct Encoded {
    chunks: VecDeque<Bytes>,
    permit: BytesPermit,
}

impl Encoded {
    pub(super) fn new(chunks: VecDeque<Bytes>, permit: BytesPermit) -> Self {
        Self { chunks, permit }
    }

    /// The body itself. `permit` grows with it, while that of the encoded body shrinks.
    pub(super) async fn decode(
        self,
        encoding: Encoding,
        decoders: &Decoders,
        max_bytes: usize,
        deadline: Instant,
        permit: &mut BytesPermit,
    ) -> Result<Bytes, ApiError> {
        let _turn = decoders.turn(deadline).await?;
        let mut decoder = decoder(encoding, self)?;
        let mut step = vec![0; STEP_BYTES];
        let mut body = BytesMut::new();
        loop {
            let produced = decoder.read(&mut step).map_err(|_| corrupt(encoding))?;
            if produced == 0 {
                return Ok(body.freeze());
            }
            if body.len() + produced > max_bytes {
                return Err(ApiError::BodyTooLarge { max_bytes });
            }
            permit.grow(produced)?;
            body.extend_from_slice(&step[..produced]);
            yield_now().await;
        }
    }
}

impl Decoders {
    async fn turn(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, ApiError> {
        match timeout_at(deadline, self.0.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(ApiError::Overloaded),
        }
    }
}

fn decoder(encoding: Encoding, body: Encoded) -> Result<Box<dyn Read>, ApiError> {
    Ok(match encoding {
        Encoding::Gzip => Box::new(MultiGzDecoder::new(body)),
        Encoding::Zstd => Box::new(zstd(body).map_err(|error| {
            tracing::error!(%error, "failed to make a zstd decoder");
            ApiError::Internal
        })?),
        Encoding::Brotli => Box::new(Brotli::new(body)),
    })
}

fn zstd(body: Encoded) -> io::Result<impl Read> {
    let mut decoder = zstd::Decoder::with_buffer(body)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

fn corrupt(encoding: Encoding) -> ApiError {
    let name = match encoding {
        Encoding::Gzip => "gzip",
        Encoding::Zstd => "zstd",
        Encoding::Brotli => "brotli",
    };
    ApiError::BadRequest(format!("the body is not valid {name}"))
}

impl BufRead for Encoded {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.chunks.front().map_or(&[], |chunk| &chunk[..]))
    }

    fn consume(&mut self, bytes: usize) {
        let Some(chunk) = self.chunks.front_mut() else {
            return;
        };
        let _ = chunk.split_to(bytes.min(chunk.len()));
        self.permit.shrink(bytes);
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
    }
}

impl Read for Encoded {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let bytes = available.read(out)?;
        self.consume(bytes);
        Ok(bytes)
    }
}

/// The crate's own reader allows windows of 1 GiB and overlooks what follows the end.
struct Brotli {
    body: Encoded,
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    written_total: usize,
    is_done: bool,
}

impl Brotli {
    fn new(body: Encoded) -> Self {
        let alloc = StandardAlloc::default;
        Self {
            body,
            state: Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())),
            written_total: 0,
            is_done: false,
        }
    }
}

impl Read for Brotli {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.is_done {
            let input = self.body.fill_buf()?;
            let is_end = input.is_empty();
            let (mut input_left, mut input_read) = (input.len(), 0);
            let (mut output_left, mut output_written) = (out.len(), 0);
            let result = BrotliDecompressStream(
                &mut input_left,
                &mut input_read,
                input,
                &mut output_left,
                &mut output_written,
                out,
                &mut self.written_total,
                &mut self.state,
            );
            self.body.consume(input_read);
            match result {
                BrotliResult::ResultSuccess => self.is_done = true,
                BrotliResult::NeedsMoreInput if is_end => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
                BrotliResult::ResultFailure => return Err(io::ErrorKind::InvalidData.into()),
            }
            if output_written > 0 {
                return Ok(output_written);
            }
        }
        match self.body.fill_buf()? {
            [] => Ok(0),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::Admission;
    use flate2::{Compression, write::GzEncoder};
    use std::{io::Write, time::Duration};

    const TEXT: &[u8] = b"hello hello hello";

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn all() -> [(Encoding, Vec<u8>); 3] {
        [
            (Encoding::Gzip, gzip(TEXT)),
            (Encoding::Zstd, zstd::encode_all(TEXT, 1).unwrap()),
            (
                Encoding::Brotli,
                vec![
                    27, 16, 0, 248, 141, 148, 110, 222, 68, 85, 134, 150, 108, 32, 111, 1, 79, 28,
                    96, 28,
                ],
            ),
        ]
    }

    /// Decodes what comes byte by byte, through a door of so many bytes.
    async fn decoded(
        encoding: Encoding,
        body: &[u8],
        max_bytes: usize,
        door: &Admission,
    ) -> Result<Bytes, ApiError> {
        let mut encoded = door.bytes_permit();
        encoded.grow(body.len()).unwrap();
        let chunks = body.iter().map(|byte| Bytes::copy_from_slice(&[*byte]));
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut permit = door.bytes_permit();
        let decoders = Decoders::default();
        Encoded::new(chunks.collect(), encoded)
            .decode(encoding, &decoders, max_bytes, deadline, &mut permit)
            .await
    }

    #[actix_web::test]
    async fn each_encoding_is_undone_however_it_is_cut() {
        for (encoding, body) in all() {
            let door = Admission::new(1, 1000);
            let text = decoded(encoding, &body, TEXT.len(), &door).await.unwrap();
            assert_eq!(text, TEXT, "{encoding:?}");
            assert_eq!(door.bytes_in_flight(), 0);
        }
    }

    #[actix_web::test]
    async fn a_body_that_is_cut_short_or_goes_on_behind_its_end_is_corrupt() {
        for (encoding, body) in all() {
            let door = Admission::new(1, 1000);
            for wrong in [&body[..body.len() - 1], &[&body[..], b"junk"].concat()] {
                let result = decoded(encoding, wrong, 1000, &door).await;
                let is_refused = matches!(result, Err(ApiError::BadRequest(_)));
                assert!(is_refused, "{encoding:?} {result:?}");
            }
        }
    }

    #[actix_web::test]
    async fn a_bomb_ends_at_the_limit_of_a_body_or_of_the_door() {
        let bomb = gzip(&vec![b' '; 8 << 20]);
        let door = Admission::new(1, 1 << 20);
        let result = decoded(Encoding::Gzip, &bomb, 100_000, &door).await;
        assert!(
            matches!(result, Err(ApiError::BodyTooLarge { .. })),
            "{result:?}"
        );
        let result = decoded(Encoding::Gzip, &bomb, 8 << 20, &door).await;
        assert!(matches!(result, Err(ApiError::Overloaded)), "{result:?}");
        assert_eq!(door.bytes_in_flight(), 0);
    }
}
