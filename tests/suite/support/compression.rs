//! Compressed bodies, as clients make them.

use flate2::{Compression, write::GzEncoder};
use std::io::Write;

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
