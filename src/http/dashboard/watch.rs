//! Makes what the dashboard's viewers are sent: once a tick for all of them, and nothing where
//! nobody looks but a reading of the counters a second, so that the last ten minutes are there when
//! somebody does.

use super::{
    frame::{self, Frame, Points},
    latency::{PublishTimes, RecentTimes},
    rates::Rates,
};
use crate::http::{
    HttpState, admin,
    health::{self, Reach},
    stats::{self, Stats},
};
use actix_web::web::Bytes;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

/// Between two frames, and two readings while somebody looks.
const TICK: Duration = Duration::from_millis(500);
/// Between two points of the chart. A tick may come a little early.
const POINT_INTERVAL: Duration = Duration::from_millis(900);
/// Counters that take longer are out of reach, for this tick.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// What the dashboard's viewers are shown; one for the whole process.
#[derive(Clone, Default)]
pub struct Dashboard(Arc<Shared>);

#[derive(Default)]
struct Shared {
    publish_times: PublishTimes,
    latest: Mutex<Latest>,
    frames: watch::Sender<Sent>,
}

/// What was read last.
#[derive(Default)]
struct Latest {
    reach: Option<Reach>,
    stats: Option<Stats>,
    rates: Rates,
    times: RecentTimes,
}

/// The newest frame as it is sent, to admins and to others.
#[derive(Clone, Default)]
pub(super) struct Sent {
    frame: Option<Frame>,
    for_admins: Bytes,
    for_readers: Bytes,
}

impl Sent {
    fn new(frame: Frame) -> Self {
        Self {
            for_admins: frame::sse("frame", &frame),
            for_readers: frame::sse("frame", &frame.without_reasons()),
            frame: Some(frame),
        }
    }

    pub(super) fn bytes(&self, is_admin: bool) -> Bytes {
        match is_admin {
            true => self.for_admins.clone(),
            false => self.for_readers.clone(),
        }
    }
}

impl Dashboard {
    /// Where publishes note how long they took.
    pub(in crate::http) fn publish_times(&self) -> &PublishTimes {
        &self.0.publish_times
    }

    /// How many look at it.
    pub(in crate::http) fn viewers(&self) -> usize {
        self.0.frames.receiver_count()
    }

    /// Frames from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<Sent> {
        self.0.frames.subscribe()
    }

    /// The last ten minutes, as an event.
    pub(super) fn history(&self) -> Bytes {
        frame::sse("history", &Points::all(&self.latest().rates))
    }

    /// The frame of this moment; `None` before the first reading.
    pub(super) fn now(&self, state: &HttpState) -> Option<Sent> {
        self.frame(state).map(Sent::new)
    }

    fn frame(&self, state: &HttpState) -> Option<Frame> {
        let latest = self.latest();
        Some(Frame {
            health: latest.reach?,
            stats: latest.stats.clone(),
            publish: latest.times.percentiles().into(),
            actors: admin::all(state),
            rates: Points::newest(&latest.rates),
        })
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        let latest = self.0.latest.lock();
        latest.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the dashboard's numbers until the process goes down.
pub async fn watch(state: HttpState) {
    // Side by side, so that a database that does not answer holds up no frame: that is when people
    // look.
    tokio::select! {
        () = read_counters(&state) => {}
        () = send_frames(&state) => {}
    }
}

async fn read_counters(state: &HttpState) {
    let dashboard = &state.dashboard;
    let mut ticks = ticks();
    let mut last_point = Instant::now();
    loop {
        ticks.tick().await;
        let is_point_due = last_point.elapsed() >= POINT_INTERVAL;
        let has_viewers = dashboard.0.frames.receiver_count() > 0;
        if !is_point_due && !has_viewers {
            continue;
        }
        let counters = async { timeout(READ_TIMEOUT, stats::read(state)).await.ok()?.ok() };
        let reach = async {
            match has_viewers {
                true => Some(health::look(state).await),
                false => None,
            }
        };
        let (stats, reach) = tokio::join!(counters, reach);
        let mut latest = dashboard.latest();
        if is_point_due {
            let elapsed = last_point.elapsed();
            last_point = Instant::now();
            latest.rates.add(stats.as_ref().map(counters_of), elapsed);
            latest.times.look(dashboard.publish_times());
        }
        latest.reach = reach.or(latest.reach);
        if let Some(stats) = stats {
            latest.stats = Some(shown(stats));
        }
    }
}

async fn send_frames(state: &HttpState) {
    let frames = &state.dashboard.0.frames;
    let mut ticks = ticks();
    while !state.lifecycle.is_draining() {
        ticks.tick().await;
        if frames.receiver_count() == 0 {
            continue;
        }
        let Some(frame) = state.dashboard.frame(state) else {
            continue;
        };
        frames.send_if_modified(|sent| {
            let is_new = sent.frame.as_ref() != Some(&frame);
            if is_new {
                *sent = Sent::new(frame);
            }
            is_new
        });
    }
    // Wakes the viewers, who see that it is over.
    frames.send_modify(|_| ());
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn counters_of(stats: &Stats) -> super::rates::Counters {
    [
        stats.unique_processed_count,
        stats.duplicate_dropped_count,
        stats.rejected_count,
    ]
}

/// Whole seconds of uptime: a frame should change when something happens.
fn shown(mut stats: Stats) -> Stats {
    stats.uptime_seconds = stats.uptime_seconds.floor();
    stats
}
