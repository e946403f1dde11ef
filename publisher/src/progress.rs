//! How far the run is: a bar where stderr is a terminal, a line now and then elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
    cell::Cell,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

const LINE_INTERVAL: Duration = Duration::from_secs(5);

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: usize,
    done: Cell<usize>,
    started: Instant,
    last_line: Cell<Instant>,
}

impl Progress {
    pub(crate) fn new(total: usize) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} eta {eta}");
            let bar = ProgressBar::new(total as u64);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self {
            bar,
            total,
            done: Cell::new(0),
            started: Instant::now(),
            last_line: Cell::new(Instant::now()),
        }
    }

    pub(crate) fn advance(&self, events: usize) {
        self.done.set(self.done.get() + events);
        match &self.bar {
            Some(bar) => bar.inc(events as u64),
            None if self.last_line.get().elapsed() >= LINE_INTERVAL => {
                self.last_line.set(Instant::now());
                self.line();
            }
            None => {}
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self) {
        let (done, total) = (self.done.get(), self.total);
        let seconds = self.started.elapsed().as_secs().max(1);
        let rate = done as u64 / seconds;
        // Nobody reads it: then nobody misses it.
        let _ = writeln!(io::stderr(), "{done} of {total} events, {rate}/s");
    }
}
