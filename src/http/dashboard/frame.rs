//! What a viewer is sent: a frame a tick, and the last ten minutes once, at the beginning. Made by
//! `watch`; `app.js` reads it.

use super::{
    latency::Percentiles,
    rates::{Point, Rates},
};
use crate::http::{admin, health, stats};
use actix_web::web::Bytes;
use serde::Serialize;

/// Points in a frame: more than one, so that a viewer who misses frames misses no second.
const POINTS_IN_FRAME: usize = 10;

/// All that the page shows at a moment. Frames that are equal need not be sent twice.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Frame {
    pub(super) health: health::Reach,
    /// As `/stats` has them; none where the database is out of reach and they were never read.
    pub(super) stats: Option<stats::Stats>,
    pub(super) publish: PublishTimes,
    pub(super) actors: Vec<admin::Actor>,
    pub(super) rates: Points,
}

/// Milliseconds, of this process's last ten seconds; null where nothing was published.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct PublishTimes {
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// Points by their numbers: `newest` is that of the last one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Points {
    newest: u64,
    /// Stored, duplicates, rejected.
    points: Vec<Point>,
}

impl From<Option<Percentiles>> for PublishTimes {
    fn from(times: Option<Percentiles>) -> Self {
        Self {
            p50_ms: times.map(|times| times.p50_ms),
            p99_ms: times.map(|times| times.p99_ms),
        }
    }
}

impl Points {
    pub(super) fn newest(rates: &Rates) -> Self {
        let (newest, points) = rates.newest(POINTS_IN_FRAME);
        Self { newest, points }
    }

    pub(super) fn all(rates: &Rates) -> Self {
        let (newest, points) = rates.all();
        Self { newest, points }
    }
}

impl Frame {
    /// The frame without what only admins may read: why an actor ended, which may name what is
    /// inside the process.
    pub(super) fn without_reasons(&self) -> Self {
        let mut frame = self.clone();
        for actor in &mut frame.actors {
            actor.hide_reason();
        }
        frame
    }
}

/// A Server-Sent Event. JSON has no line breaks of its own, so its data is one line.
pub(super) fn sse(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}
