//! The memory of the service while a storm goes on, and whether it stays what it was after its warm-up.

use std::time::Duration;

/// Shorter runs are over before a leak can be told from noise.
const JUDGED_FROM: Duration = Duration::from_secs(600);
/// As many spans of time are shown.
const SPANS: u32 = 12;

/// What the process held, look by look.
pub(super) struct Curve {
    time: Duration,
    looks: Vec<(Duration, u64)>,
}

impl Curve {
    /// For a storm of that time.
    pub(super) fn over(time: Duration) -> Self {
        Self {
            time,
            looks: Vec::new(),
        }
    }

    pub(super) fn look(&mut self, at: Duration, kib: u64) {
        self.looks.push((at, kib));
    }

    /// What was held from the beginning of one span to that of another, in order of size.
    fn between(&self, from: u32, to: u32) -> Vec<u64> {
        let begin = |span: u32| match span {
            // The last look may come late.
            SPANS => Duration::MAX,
            span => self.time * span / SPANS,
        };
        let time = begin(from)..begin(to);
        let looks = self.looks.iter().filter(|(at, _)| time.contains(at));
        let mut held: Vec<u64> = looks.map(|(_, kib)| *kib).collect();
        held.sort_unstable();
        held
    }

    /// The lowest and the highest of each span, in MiB.
    pub(super) fn summary(&self) -> String {
        let spans = (0..SPANS).map(|span| match &*self.between(span, span + 1) {
            [] => "-".to_owned(),
            held => format!("{}-{}", held[0] / 1024, held[held.len() - 1] / 1024),
        });
        spans.collect::<Vec<_>>().join(" ")
    }

    /// Fails the test where the last quarter holds more than the third one: in both the process is the same.
    ///
    /// A leak lifts the median, which a burst or an outage does not move. The middles of an hour's quarters are
    /// 15 minutes apart, so that 2 MiB and a tenth of some 20 MiB are a leak of 4.5 KiB a second. The peaks
    /// follow the queues: they must not run away.
    pub(super) fn assert_is_flat(&self) {
        if self.time < JUDGED_FROM {
            return;
        }
        let quarter = SPANS / 4;
        let third = self.between(2 * quarter, 3 * quarter);
        let last = self.between(3 * quarter, SPANS);
        assert!(!third.is_empty() && !last.is_empty(), "nobody has looked");
        let median = |held: &[u64]| held[held.len() / 2];
        let (before, after) = (median(&third), median(&last));
        assert!(
            after <= before + before / 10 + 2 * 1024,
            "its median rose from {before} to {after} KiB"
        );
        let (before, after) = (third[third.len() - 1], last[last.len() - 1]);
        assert!(
            after <= before + before / 4 + 8 * 1024,
            "its peak rose from {before} to {after} KiB"
        );
    }
}
