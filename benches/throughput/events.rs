//! The events of the benchmark: the same number is always the same event, so that a repeat says what
//! the first one said. Used by `load`, `raw` and `stream`; knows nothing of how they are sent.

use anyhow::{Context, Result};
use std::sync::atomic::{AtomicU64, Ordering};

const TOPICS: u64 = 100;
const SOURCES: u64 = 10;
const PAYLOAD_BYTES: usize = 250;
/// A repeat is of an event sent this many distinct events ago at least: its first sending is over.
const REPEAT_AGE_MIN: u64 = 10_000;
/// And this many at most beyond that.
const REPEAT_AGE_SPREAD: u64 = 100_000;
/// 2026-01-01T00:00:00Z, in microseconds; event n is n microseconds later.
const EPOCH_US: u64 = 1_767_225_600_000_000;

/// Hands out the numbers of events to be sent, from any task.
pub(crate) struct Source {
    seed: u64,
    repeats: f64,
    fresh: AtomicU64,
    drawn: AtomicU64,
}

impl Source {
    /// Another seed is other events.
    pub(crate) fn new(seed: u64, repeats: f64) -> Self {
        Self {
            seed,
            repeats,
            fresh: AtomicU64::new(0),
            drawn: AtomicU64::new(0),
        }
    }

    /// The next event: a fresh one, or one that was sent a while ago.
    pub(crate) fn draw(&self) -> Event {
        let random = mix(self.seed ^ mix(self.drawn.fetch_add(1, Ordering::Relaxed)));
        let fresh = self.fresh.load(Ordering::Relaxed);
        let old = fresh.saturating_sub(REPEAT_AGE_MIN);
        // The first few have to be fresh, or there is nothing to repeat.
        let is_repeat = old > 0 && unit(random) < self.repeats;
        let number = if is_repeat {
            old - 1 - mix(random) % old.min(REPEAT_AGE_SPREAD)
        } else {
            self.fresh.fetch_add(1, Ordering::Relaxed)
        };
        Event {
            number,
            random: mix(self.seed.rotate_left(32) ^ number),
        }
    }
}

/// One event, of which nothing is written yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    number: u64,
    random: u64,
}

impl Event {
    pub(crate) fn number(self) -> u64 {
        self.number
    }

    pub(crate) fn timestamp_us(self) -> u64 {
        EPOCH_US + self.number
    }

    pub(crate) fn write_topic(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"orders.region-");
        // The id begins with the low bits: were the topic made of them, too, the ids of a topic would
        // lie in a part of the index.
        write_digits(out, (self.random >> 32) % TOPICS, 2);
    }

    pub(crate) fn write_event_id(self, out: &mut Vec<u8>) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        for half in [self.random, mix(self.random)] {
            for shift in (0..64).step_by(4) {
                out.push(HEX[(half >> shift & 15) as usize]);
            }
        }
    }

    pub(crate) fn write_source(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"checkout-");
        write_digits(out, self.random % SOURCES, 1);
    }

    pub(crate) fn write_payload(self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(b"{\"order\":1");
        write_digits(out, self.number, 9);
        out.extend_from_slice(b",\"customer\":\"c-");
        write_digits(out, mix(self.random) % 1_000_000, 6);
        out.extend_from_slice(
            b"\",\"amount\":\"129.90\",\"currency\":\"EUR\",\"paid\":true,\"items\":[\
              {\"sku\":\"A-1007\",\"count\":2},{\"sku\":\"B-2210\",\"count\":1}],\
              \"address\":{\"city\":\"Stuttgart\",\"zip\":\"70173\"},\"note\":\"",
        );
        let filled = start + PAYLOAD_BYTES - 2;
        out.resize(filled.max(out.len()), b'x');
        out.extend_from_slice(b"\"}");
    }

    /// The event as clients send it.
    pub(crate) fn write_json(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"topic\":\"");
        self.write_topic(out);
        out.extend_from_slice(b"\",\"event_id\":\"");
        self.write_event_id(out);
        out.extend_from_slice(b"\",\"timestamp\":\"2026-01-01T00:");
        write_digits(out, self.number / 60_000_000, 2);
        out.push(b':');
        write_digits(out, self.number / 1_000_000 % 60, 2);
        out.push(b'.');
        write_digits(out, self.number % 1_000_000, 6);
        out.extend_from_slice(b"Z\",\"source\":\"");
        self.write_source(out);
        out.extend_from_slice(b"\",\"payload\":");
        self.write_payload(out);
        out.push(b'}');
    }
}

/// The number of the event that a text holds, by its payload; a database may have spaced it anew.
pub(crate) fn number_in(text: &[u8]) -> Result<u64> {
    const NAME: &[u8] = b"\"order\":";
    let start = text.windows(NAME.len()).position(|part| part == NAME);
    let value = start.map(|start| text[start + NAME.len()..].trim_ascii_start());
    let digits = value.and_then(|value| value.strip_prefix(b"1")?.get(..9));
    let digits = digits.context("an event that is not of this benchmark")?;
    Ok(str::from_utf8(digits)?.parse()?)
}

fn write_digits(out: &mut Vec<u8>, mut value: u64, digits: usize) {
    let start = out.len();
    out.resize(start + digits, b'0');
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Splitmix64: every bit of the result depends on every bit of the number.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}
