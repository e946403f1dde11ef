//! The workload: which events are sent in which order, all of it from the seed. An event's content
//! follows from the seed and its number, so a repeat says the same as its original.

use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use serde_json::{Value, json};

/// How far back near and middling repeats reach.
const NEAR: u32 = 8;
const MIDDLING: u32 = 200;

const TOPICS: [&str; 10] = [
    "orders",
    "payments",
    "shipments",
    "logins",
    "refunds",
    "inventory",
    "emails",
    "searches",
    "audits",
    "metrics",
];
const LEVELS: [&str; 4] = ["DEBUG", "INFO", "WARN", "ERROR"];
const MESSAGES: [&str; 6] = [
    "request served",
    "cache miss, reading from the database",
    "retrying after a timeout",
    "payment authorised",
    "stock level below its threshold",
    "session expired",
];
/// Base of all timestamps: 2026-01-01T00:00:00Z, in milliseconds.
const BASE_MS: u64 = 1_767_225_600_000;

/// What a workload is made from.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) seed: u64,
    pub(crate) run_id: String,
    /// Events to send, repeats among them.
    pub(crate) sends: u32,
    /// Share of them that are repeats.
    pub(crate) duplicates: f64,
    pub(crate) topics: u32,
    pub(crate) payload_bytes: usize,
}

/// A plan of sends.
#[derive(Debug)]
pub(crate) struct Workload {
    shape: Shape,
    /// By send: the number of the event that is sent.
    numbers: Vec<u32>,
    unique: u32,
}

/// What makes an event one of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) topic: String,
    pub(crate) event_id: String,
}

impl Workload {
    pub(crate) fn new(shape: Shape) -> Self {
        let mut random = StdRng::seed_from_u64(shape.seed);
        let sends = shape.sends;
        // The first send can repeat nothing.
        let repeats = (f64::from(sends) * shape.duplicates).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of the sends, so between 0 and their number"
        )]
        let repeats = (repeats as u32).min(sends - 1);
        let mut is_repeat: Vec<bool> = (1..sends).map(|place| place <= repeats).collect();
        is_repeat.shuffle(&mut random);
        let mut numbers = vec![0];
        let mut unique = 1;
        for is_repeat in is_repeat {
            if is_repeat {
                let reach = *[NEAR, MIDDLING, u32::MAX]
                    .choose(&mut random)
                    .unwrap_or(&NEAR);
                let back = random.random_range(1..=unique.min(reach));
                numbers.push(unique - back);
            } else {
                numbers.push(unique);
                unique += 1;
            }
        }
        Self {
            shape,
            numbers,
            unique,
        }
    }

    /// Events that are sent, repeats among them.
    pub(crate) fn sends(&self) -> usize {
        self.numbers.len()
    }

    /// Different events.
    pub(crate) fn unique(&self) -> usize {
        usize::try_from(self.unique).unwrap_or(usize::MAX)
    }

    /// Different events of the first sends: each comes for the first time in the order of its number.
    pub(crate) fn unique_of(&self, sends: usize) -> usize {
        let last = self.numbers[..sends].iter().max();
        last.map_or(0, |last| usize::try_from(*last).unwrap_or(usize::MAX) + 1)
    }

    /// The number of the event of a send.
    pub(crate) fn number(&self, send: usize) -> u32 {
        self.numbers[send]
    }

    /// The key of an event.
    pub(crate) fn key(&self, number: u32) -> Key {
        let topic = self.random(number).random_range(0..self.shape.topics);
        let known = usize::try_from(topic)
            .ok()
            .and_then(|topic| TOPICS.get(topic));
        Key {
            topic: known.map_or_else(|| format!("topic-{topic}"), ToString::to_string),
            event_id: format!("{}-{number:08}", self.shape.run_id),
        }
    }

    /// An event, as it is sent.
    pub(crate) fn event(&self, number: u32) -> Value {
        let key = self.key(number);
        let mut random = self.random(number);
        // The same draw as for the topic, so that what follows does not depend on it.
        let _: u32 = random.random_range(0..self.shape.topics);
        let at_ms = BASE_MS + u64::from(number) * 137;
        let mut payload = json!({
            "level": LEVELS.choose(&mut random),
            "message": MESSAGES.choose(&mut random),
            "duration_ms": f64::from(random.random_range(1..100_000_u32)) / 100.0,
            "user": format!("user-{}", random.random_range(0..10_000_u32)),
            "host": { "name": format!("node-{}", random.random_range(0..32_u32)), "zone": "eu-1" },
            "tags": ["v2", LEVELS.choose(&mut random)],
        });
        let bytes = payload.to_string().len();
        if let Some(missing) = self.shape.payload_bytes.checked_sub(bytes + 10) {
            let detail: String = (0..missing)
                .map(|_| random.random_range('a'..='z'))
                .collect();
            payload["detail"] = detail.into();
        }
        json!({
            "topic": key.topic,
            "event_id": key.event_id,
            "timestamp": rfc3339(at_ms),
            "source": format!("service-{}", number % 7),
            "payload": payload,
        })
    }

    fn random(&self, number: u32) -> StdRng {
        let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        StdRng::seed_from_u64(self.shape.seed ^ spread)
    }
}

/// RFC 3339 in UTC, by the civil calendar of days since 1970-01-01
/// (<https://howardhinnant.github.io/date_algorithms.html>, for years from 1970 on).
fn rfc3339(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        ms % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn shape(sends: u32, duplicates: f64) -> Shape {
        Shape {
            seed: 7,
            run_id: "r".to_owned(),
            sends,
            duplicates,
            topics: 12,
            payload_bytes: 250,
        }
    }

    #[test]
    fn the_share_of_repeats_is_exact_and_each_repeats_an_earlier_event() {
        for (sends, duplicates, unique) in [
            (20_000, 0.35, 13_000),
            (1, 0.9, 1),
            (10, 0.0, 10),
            (10, 0.99, 1),
        ] {
            let workload = Workload::new(shape(sends, duplicates));
            assert_eq!(
                (workload.sends(), workload.unique()),
                (sends as usize, unique)
            );
            let mut seen = HashSet::new();
            for send in 0..workload.sends() {
                let number = workload.number(send);
                assert!(number as usize <= seen.len());
                seen.insert(number);
            }
            assert_eq!(seen.len(), unique);
        }
    }

    #[test]
    fn the_same_seed_is_the_same_workload_and_another_is_not() {
        let (one, same) = (
            Workload::new(shape(500, 0.3)),
            Workload::new(shape(500, 0.3)),
        );
        assert_eq!(one.numbers, same.numbers);
        assert_eq!(one.event(3), same.event(3));
        let other = Workload::new(Shape {
            seed: 8,
            ..shape(500, 0.3)
        });
        assert_ne!(one.numbers, other.numbers);
    }

    #[test]
    fn keys_differ_topics_are_as_many_as_asked_and_payloads_as_long() {
        let workload = Workload::new(shape(3000, 0.0));
        let keys: HashSet<String> = (0..3000)
            .map(|number| workload.key(number).event_id)
            .collect();
        let topics: HashSet<String> = (0..3000).map(|number| workload.key(number).topic).collect();
        assert_eq!((keys.len(), topics.len()), (3000, 12));
        let event = workload.event(5);
        assert_eq!(event["topic"], workload.key(5).topic);
        assert!((240..=260).contains(&event["payload"].to_string().len()));
    }

    #[test]
    fn timestamps_follow_the_calendar() {
        assert_eq!(rfc3339(BASE_MS), "2026-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_798_761_599_999), "2026-12-31T23:59:59.999Z");
    }
}
