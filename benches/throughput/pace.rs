//! The beat of paced connections, as even as the kernel's timer, on a thread of its own. tokio's timer wakes at full
//! milliseconds, so that all that is due within one would be sent at once. Used by `load`.

use std::{
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// When each request of one connection is due, told at that time.
pub(crate) type Beats = UnboundedReceiver<Instant>;

/// The connections take turns from now on, until one of them listens no more.
#[expect(
    clippy::disallowed_methods,
    reason = "the thread has nothing else to do"
)]
pub(crate) fn start(requests_per_second: f64, connections: u32) -> Vec<Beats> {
    let (turns, beats): (Vec<_>, Vec<_>) = (0..connections).map(|_| unbounded_channel()).unzip();
    let pause = Duration::from_secs_f64(1.0 / requests_per_second);
    thread::spawn(move || {
        let mut due = Instant::now();
        for turn in turns.iter().cycle() {
            due += pause;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if turn.send(due).is_err() {
                return;
            }
        }
    });
    beats
}
