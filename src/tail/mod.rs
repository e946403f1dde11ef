//! `oncelog tail`: prints what a server has stored and what it stores. A client of the HTTP API like
//! any other, run by `main`; knows nothing of how the server works.

mod frames;
mod lines;
mod server;

pub use server::ServerError;

use crate::config::TailConfig;
use lines::Lines;
use server::{PAGE_EVENTS, Server, Stream};
use std::{
    io::{self, ErrorKind, Write},
    time::Duration,
};
use tokio::{runtime, signal, task::JoinError, time::sleep};

/// Before the first attempt to open a lost stream again; each further pause is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest of those pauses.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Why it ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The runtime cannot be started.
    #[error("failed to start")]
    Start(#[source] io::Error),
    /// The server does not answer as it should.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// An event of the server's is none.
    #[error("failed to read an event")]
    Event(#[source] serde_json::Error),
    /// What was read cannot be written.
    #[error("failed to write to stdout")]
    Output(#[source] io::Error),
    /// A bug of ours.
    #[error("failed to follow")]
    Panicked(#[source] JoinError),
}

/// Prints until there is no more, or, where it follows, until SIGINT. Whoever closes the other end of
/// stdout has read enough: that is no error.
///
/// # Errors
/// [`TailError`]; while it follows, a server that was there once is waited for instead.
pub fn run(config: TailConfig) -> Result<(), TailError> {
    // On a thread of its own, so that a reader who does not read holds up no SIGINT.
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(TailError::Start)?;
    let ended = runtime.block_on(async {
        let tail = tokio::spawn(async move { Tail::new(config)?.run().await });
        tokio::select! {
            ended = tail => ended.map_err(TailError::Panicked)?,
            _ = signal::ctrl_c() => Ok(()),
        }
    });
    runtime.shutdown_background();
    match ended {
        Err(TailError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        ended => ended,
    }
}

struct Tail {
    server: Server,
    lines: Lines,
    is_from_now: bool,
    follows: bool,
}

impl Tail {
    fn new(config: TailConfig) -> Result<Self, TailError> {
        Ok(Self {
            lines: Lines::new(config.is_json, config.since),
            is_from_now: config.since.is_none(),
            follows: config.follows,
            server: Server::new(config)?,
        })
    }

    async fn run(mut self) -> Result<(), TailError> {
        if !self.follows {
            self.print_stored().await?;
            return Ok(());
        }
        // Open before the look at what is stored: where nothing is, the stream goes on from here.
        let mut stream = self.server.stream(None).await?;
        let mut cursor = None;
        if !self.is_from_now {
            cursor = self.print_stored().await?;
            if cursor.is_some() {
                stream = self.server.stream(cursor.as_deref()).await?;
            }
        }
        self.follow(stream, cursor).await
    }

    /// Prints what is stored; gives the place of the last event of it.
    async fn print_stored(&mut self) -> Result<Option<String>, TailError> {
        let mut cursor = None;
        loop {
            let page = self.server.page(cursor.as_deref()).await?;
            for event in &page.events {
                self.lines.push(event.get()).map_err(TailError::Event)?;
            }
            self.lines.flush().map_err(TailError::Output)?;
            if !page.events.is_empty() {
                cursor = page.next_cursor;
            }
            if page.events.len() < PAGE_EVENTS || cursor.is_none() {
                return Ok(cursor);
            }
        }
    }

    /// Prints the stream, and goes on from its last event where it is lost.
    async fn follow(
        &mut self,
        mut stream: Stream,
        mut cursor: Option<String>,
    ) -> Result<(), TailError> {
        let mut pause = PAUSE_MIN;
        loop {
            let lost = self
                .print_stream(&mut stream, &mut cursor, &mut pause)
                .await?;
            let _ = writeln!(
                io::stderr(),
                "oncelog: {}; trying again",
                server::one_line(&lost)
            );
            stream = loop {
                // Half of it at random, so that those who lost the same server do not come as one.
                sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                pause = (pause * 2).min(PAUSE_MAX);
                match self.server.stream(cursor.as_deref()).await {
                    Ok(stream) => break stream,
                    Err(error) if error.is_passing() => {}
                    Err(error) => return Err(error.into()),
                }
            };
        }
    }

    /// Prints until the stream is lost, and says why it is.
    async fn print_stream(
        &mut self,
        stream: &mut Stream,
        cursor: &mut Option<String>,
        pause: &mut Duration,
    ) -> Result<ServerError, TailError> {
        loop {
            let frames = match stream.next().await {
                Ok(frames) => frames,
                Err(lost) => return Ok(lost),
            };
            for frame in &frames {
                if let Some(event) = &frame.data {
                    self.lines.push(event).map_err(TailError::Event)?;
                }
            }
            self.lines.flush().map_err(TailError::Output)?;
            if let Some(id) = frames.into_iter().rev().find_map(|frame| frame.id) {
                *cursor = Some(id);
                *pause = PAUSE_MIN;
            }
        }
    }
}
