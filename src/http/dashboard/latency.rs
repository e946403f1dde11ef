//! How long publishes take: a histogram that every publish adds to without waiting for another, and
//! the percentiles of its last seconds. Filled by `publish`, read by `watch`.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Buckets for each doubling: a percentile is right to 1/8 of its value.
const BUCKETS_AN_OCTAVE: u32 = 8;
/// Up to 33 s, beyond the longest time a publish may take.
const BUCKETS: usize = 184;
/// Percentiles are those of the publishes of so many seconds.
const WINDOW_S: usize = 10;

/// Counts publishes by the time they took.
#[derive(Debug, Clone)]
pub(in crate::http) struct PublishTimes(Arc<[AtomicU64]>);

impl Default for PublishTimes {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl PublishTimes {
    /// Adds a publish that was answered after that long.
    pub(in crate::http) fn add(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0[bucket_of(took_us)].fetch_add(1, Ordering::Relaxed);
    }

    fn snapshot(&self) -> Vec<u64> {
        let counts = self.0.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

/// The publishes of the last seconds.
#[derive(Debug, Default)]
pub(super) struct RecentTimes {
    /// One a second, oldest first.
    snapshots: VecDeque<Vec<u64>>,
}

/// The times that half of the publishes, and all but a hundredth of them, did not exceed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Percentiles {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl RecentTimes {
    /// Looks at the times once more; to be called once a second.
    pub(super) fn look(&mut self, times: &PublishTimes) {
        if self.snapshots.is_empty() {
            // The process began with none, so that its first second counts as well.
            self.snapshots.push_back(vec![0; BUCKETS]);
        }
        self.snapshots.push_back(times.snapshot());
        if self.snapshots.len() > WINDOW_S + 1 {
            self.snapshots.pop_front();
        }
    }

    /// `None` where there was no publish.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let (first, last) = (self.snapshots.front()?, self.snapshots.back()?);
        let counts: Vec<u64> = last
            .iter()
            .zip(first)
            .map(|(now, then)| now - then)
            .collect();
        let total: u64 = counts.iter().sum();
        (total > 0).then(|| Percentiles {
            p50_ms: at_rank(&counts, total.div_ceil(2)),
            p99_ms: at_rank(&counts, (total * 99).div_ceil(100)),
        })
    }
}

/// The time, in milliseconds, of the publish of that rank.
fn at_rank(counts: &[u64], rank: u64) -> f64 {
    let mut seen = 0;
    let bucket = counts.iter().position(|count| {
        seen += count;
        seen >= rank
    });
    middle_us(bucket.unwrap_or(BUCKETS - 1)) / 1000.0
}

fn bucket_of(us: u64) -> usize {
    let linear = u64::from(BUCKETS_AN_OCTAVE);
    let bucket = if us < linear {
        us
    } else {
        let octave = us.ilog2() - BUCKETS_AN_OCTAVE.ilog2();
        u64::from(octave) * linear + (us >> octave)
    };
    usize::try_from(bucket).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

fn middle_us(bucket: usize) -> f64 {
    let linear = BUCKETS_AN_OCTAVE as usize;
    if bucket < linear {
        return bucket as f64 + 0.5;
    }
    let octave = bucket / linear - 1;
    let width = (1_u64 << octave) as f64;
    ((bucket % linear + linear) as f64 + 0.5) * width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_into_the_bucket_whose_middle_is_near_it() {
        for us in (0..5000).chain((1..25).map(|octave| (1_u64 << octave) - 1)) {
            let middle = middle_us(bucket_of(us));
            let tolerance = (us as f64 / 16.0).max(0.5);
            assert!((middle - us as f64).abs() <= tolerance, "{us}: {middle}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_the_last_seconds_only() {
        let times = PublishTimes::default();
        let mut recent = RecentTimes::default();
        recent.look(&times);
        assert_eq!(recent.percentiles(), None);
        times.add(Duration::from_secs(5));
        recent.look(&times);
        assert!(recent.percentiles().unwrap().p50_ms > 4000.0);
        for _ in 0..WINDOW_S {
            recent.look(&times);
        }
        assert_eq!(recent.percentiles(), None);
        for ms in 1..=100 {
            times.add(Duration::from_millis(ms));
        }
        recent.look(&times);
        let Percentiles { p50_ms, p99_ms } = recent.percentiles().unwrap();
        assert!((47.0..54.0).contains(&p50_ms), "{p50_ms}");
        assert!((93.0..106.0).contains(&p99_ms), "{p99_ms}");
    }
}
