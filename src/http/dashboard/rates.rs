//! Events a second, over the last ten minutes: differences of the counters of all replicas. Filled
//! and read by `watch`.

use std::{collections::VecDeque, time::Duration};

/// Ten minutes of seconds.
const POINTS_MAX: usize = 600;

/// Stored, duplicates, rejected.
pub(super) type Counters = [u64; 3];

/// What happened in one second, in events; `None` where the counters were out of reach.
pub(super) type Point = Option<Counters>;

/// The last ten minutes, a point a second.
#[derive(Debug, Default)]
pub(super) struct Rates {
    points: VecDeque<Point>,
    /// How many points there ever were: the number of the newest.
    count: u64,
    /// The counters as they were last read.
    before: Option<Counters>,
    /// Since then.
    elapsed: Duration,
}

impl Rates {
    /// Adds a second: the counters at its end, where they can be read, and how long it really was.
    ///
    /// What was counted while they could not be read is spread over that time in the first point
    /// after it, so that an outage's end is no peak.
    pub(super) fn add(&mut self, counters: Option<Counters>, elapsed: Duration) {
        self.elapsed += elapsed;
        let Some(now) = counters else {
            return self.push(None);
        };
        if let Some(before) = self.before.replace(now) {
            let seconds = self.elapsed.as_secs_f64();
            let rate = |which: usize| a_second(now[which].saturating_sub(before[which]), seconds);
            self.push(Some([rate(0), rate(1), rate(2)]));
        }
        self.elapsed = Duration::ZERO;
    }

    /// The number of the newest point, and the newest of them, oldest first.
    pub(super) fn newest(&self, points_max: usize) -> (u64, Vec<Point>) {
        let skipped = self.points.len().saturating_sub(points_max);
        (
            self.count,
            self.points.iter().skip(skipped).copied().collect(),
        )
    }

    /// All that is kept.
    pub(super) fn all(&self) -> (u64, Vec<Point>) {
        self.newest(POINTS_MAX)
    }

    fn push(&mut self, point: Point) {
        self.points.push_back(point);
        if self.points.len() > POINTS_MAX {
            self.points.pop_front();
        }
        self.count += 1;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count by a positive time; what is too large for an integer becomes the largest"
)]
fn a_second(events: u64, seconds: f64) -> u64 {
    (events as f64 / seconds.max(0.001)).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_was_counted_before_the_first_look_is_no_rate() {
        let mut rates = Rates::default();
        rates.add(Some([1_000_000, 0, 0]), SECOND);
        assert_eq!(rates.all(), (0, vec![]));
        rates.add(Some([1_000_010, 4, 0]), SECOND);
        assert_eq!(rates.all(), (1, vec![Some([10, 4, 0])]));
    }

    #[test]
    fn an_outage_is_a_gap_and_its_end_no_peak() {
        let mut rates = Rates::default();
        rates.add(Some([0, 0, 0]), SECOND);
        rates.add(None, SECOND);
        rates.add(None, SECOND);
        rates.add(Some([300, 0, 0]), SECOND);
        rates.add(Some([310, 0, 0]), SECOND / 2);
        let expected = vec![None, None, Some([100, 0, 0]), Some([20, 0, 0])];
        assert_eq!(rates.all(), (4, expected));
    }

    #[test]
    fn ten_minutes_are_kept() {
        let mut rates = Rates::default();
        for second in 0..700 {
            rates.add(Some([second * second, 0, 0]), SECOND);
        }
        let (count, points) = rates.all();
        assert_eq!((count, points.len()), (699, POINTS_MAX));
        assert_eq!(points.last(), Some(&Some([699 + 698, 0, 0])));
        assert_eq!(rates.newest(2).1, points[POINTS_MAX - 2..]);
    }
}
