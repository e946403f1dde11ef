//! Compressed bodies, as clients make them.

use flate2::{Compression, write::GzEncoder};
use std::io::Write;

/// 64 MiB of blanks in brotli, by its reference encoder.
const BROTLI_BOMB: &[u8] = &[
    207, 255, 255, 127, 248, 37, 64, 226, 177, 64, 32, 247, 254, 159, 255, 255, 255, 240, 75, 0,
    196, 97, 1, 128, 238, 253, 63, 255, 255, 255, 225, 151, 0, 136, 195, 34, 0, 221, 251, 127, 254,
    255, 255, 195, 47, 1, 16, 135, 5, 0, 186, 247, 255, 3,
];

pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(body: &[u8]) -> Vec<u8> {
    zstd::encode_all(body, 1).unwrap()
}

/// One meta-block that is not compressed and an empty last one (RFC 7932, section 9.2).
pub(crate) fn brotli(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() - 1).unwrap();
    let head = u32::from(length) << 4 | 1 << 20;
    [&head.to_le_bytes()[..3], body, &[3]].concat()
}

/// 64 MiB that are 51 bytes.
pub(crate) fn brotli_bomb() -> Vec<u8> {
    BROTLI_BOMB.to_vec()
}
