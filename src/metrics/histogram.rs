//! Histograms of times and of sizes. Filled by many threads at once without a lock, read for
//! `/metrics`.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// From below the fastest read to the longest that a publish may take, in nanoseconds.
const TIME_BOUNDS_NS: [u64; 14] = [
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// From a single event to more than a transaction is given by default.
const SIZE_BOUNDS: [u64; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

/// How long something took.
#[derive(Debug, Default)]
pub struct TimeHistogram(Buckets<14>);

/// How many there were of something.
#[derive(Debug, Default)]
pub struct SizeHistogram(Buckets<13>);

impl TimeHistogram {
    /// Adds one that took so long.
    pub fn add(&self, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.add(&TIME_BOUNDS_NS, took_ns);
    }

    /// What was added so far, in seconds.
    pub fn read(&self) -> Reading {
        self.0.read(&TIME_BOUNDS_NS, 1e9)
    }
}

impl SizeHistogram {
    /// Adds one that had so many.
    pub fn add(&self, size: u64) {
        self.0.add(&SIZE_BOUNDS, size);
    }

    /// What was added so far.
    pub fn read(&self) -> Reading {
        self.0.read(&SIZE_BOUNDS, 1.0)
    }
}

/// A histogram as it was at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Upper bounds, ascending, and how many did not exceed each.
    pub buckets: Vec<(f64, u64)>,
    /// All of them.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

/// Whole numbers in buckets, each value in the first whose bound it does not exceed.
#[derive(Debug)]
struct Buckets<const N: usize> {
    counts: [AtomicU64; N],
    /// Beyond the last bound.
    beyond: AtomicU64,
    /// Of whole numbers, so that it takes one addition and loses nothing.
    sum: AtomicU64,
}

impl<const N: usize> Default for Buckets<N> {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; N],
            beyond: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Buckets<N> {
    fn add(&self, bounds: &[u64; N], value: u64) {
        let bucket = bounds.partition_point(|bound| *bound < value);
        let count = self.counts.get(bucket).unwrap_or(&self.beyond);
        count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// The count is made from the buckets, so that the two agree whoever is adding meanwhile.
    fn read(&self, bounds: &[u64; N], units: f64) -> Reading {
        let mut count = 0;
        let buckets = bounds.iter().zip(&self.counts);
        let buckets = buckets
            .map(|(bound, in_bucket)| {
                count += in_bucket.load(Ordering::Relaxed);
                (*bound as f64 / units, count)
            })
            .collect();
        Reading {
            buckets,
            count: count + self.beyond.load(Ordering::Relaxed),
            sum: self.sum.load(Ordering::Relaxed) as f64 / units,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_value_falls_into_every_bucket_whose_bound_it_does_not_exceed() {
        for (index, bound) in SIZE_BOUNDS.into_iter().enumerate() {
            let histogram = SizeHistogram::default();
            histogram.add(bound);
            histogram.add(bound + 1);
            let Reading {
                buckets,
                count,
                sum,
            } = histogram.read();
            assert_eq!((count, sum), (2, (2 * bound + 1) as f64));
            for (place, (le, below)) in buckets.into_iter().enumerate() {
                // The next bound holds the second value, too: they are whole numbers.
                let expected = u64::from(place >= index) + u64::from(place > index);
                assert_eq!(below, expected, "{bound} and one more at most {le}");
            }
        }
    }

    #[test]
    fn what_exceeds_all_bounds_is_in_the_count_and_in_the_sum() {
        let histogram = TimeHistogram::default();
        histogram.add(Duration::from_secs(11));
        histogram.add(Duration::from_millis(1));
        let reading = histogram.read();
        assert_eq!(reading.buckets.last(), Some(&(10.0, 1)));
        assert_eq!((reading.count, reading.sum), (2, 11.001));
    }

    #[test]
    fn bounds_ascend() {
        assert!(SIZE_BOUNDS.is_sorted_by(|one, next| one < next));
        assert!(TIME_BOUNDS_NS.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn nothing_is_lost_between_threads_and_no_reading_contradicts_itself() {
        let histogram = SizeHistogram::default();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|size| histogram.add(size)));
            }
            let mut last = 0;
            while last < 40_000 {
                let reading = histogram.read();
                let counts = reading.buckets.iter().map(|(_, count)| count);
                assert!(counts.chain([&reading.count]).is_sorted());
                assert!(reading.count >= last);
                last = reading.count;
            }
        });
        assert_eq!(histogram.read().sum, 4.0 * 49_995_000.0);
    }
}
