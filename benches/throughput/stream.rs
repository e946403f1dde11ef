//! A subscriber of `GET /events/stream`: reads the chunks of an answer that does not end, and which of
//! the benchmark's events are in them. Used by `subscribers`.

use crate::events;
use anyhow::{Result, bail, ensure};
use std::{io::ErrorKind, net::SocketAddr, time::Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

/// When an event arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) number: u64,
    pub(crate) at: Instant,
}

pub(crate) struct Stream {
    stream: TcpStream,
    /// As it came, and not yet taken apart.
    raw: Vec<u8>,
    /// What the chunks held, and no event was found in yet.
    body: Vec<u8>,
    /// Of the chunk that is being read, its line break included.
    chunk_left: usize,
}

impl Stream {
    /// Subscribes; when this returns, the server has answered and nothing later is missed.
    pub(crate) async fn open(address: SocketAddr, path: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut open = Self {
            stream,
            raw: Vec::new(),
            body: Vec::new(),
            chunk_left: 0,
        };
        let head_len = loop {
            open.receive().await?;
            if let Some(found) = position(&open.raw, b"\r\n\r\n") {
                break found + 4;
            }
        };
        let head = str::from_utf8(&open.raw[..head_len])?.to_ascii_lowercase();
        ensure!(
            head.starts_with("http/1.1 200 ") && head.contains("transfer-encoding: chunked"),
            "not a stream: {head}"
        );
        open.raw.drain(..head_len);
        // The server greets with the place from which on it sends.
        while position(&open.body, b"\n\n").is_none() {
            if !open.unpack()? {
                open.receive().await?;
            }
        }
        Ok(open)
    }

    /// Reads until as many events were seen as `goal` comes to say.
    pub(crate) async fn follow(
        mut self,
        mut goal: watch::Receiver<Option<usize>>,
    ) -> Result<Vec<Seen>> {
        let mut seen = Vec::new();
        loop {
            while self.unpack()? {}
            self.take_events(&mut seen)?;
            if goal
                .borrow_and_update()
                .is_some_and(|goal| seen.len() >= goal)
            {
                return Ok(seen);
            }
            tokio::select! {
                received = self.receive() => received?,
                changed = goal.changed() => changed?,
            }
        }
    }

    /// Whether the server still holds the stream.
    pub(crate) fn is_open(&self) -> bool {
        let mut bytes = [0; 512];
        match self.stream.try_read(&mut bytes) {
            Ok(received) => received > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    /// May be dropped at any point: bytes are taken or left.
    async fn receive(&mut self) -> Result<()> {
        self.raw.reserve(64 * 1024);
        match self.stream.read_buf(&mut self.raw).await? {
            0 => bail!("the server has ended the stream"),
            _ => Ok(()),
        }
    }

    /// Moves what there is of a chunk to the body; false where more has to come first.
    fn unpack(&mut self) -> Result<bool> {
        if self.chunk_left == 0 {
            let Some(line) = position(&self.raw, b"\r\n") else {
                return Ok(false);
            };
            let length = usize::from_str_radix(str::from_utf8(&self.raw[..line])?, 16)?;
            ensure!(length > 0, "the server has ended the stream");
            self.raw.drain(..line + 2);
            self.chunk_left = length + 2;
        }
        let length = self.raw.len().min(self.chunk_left);
        self.chunk_left -= length;
        // Of the line break behind the chunk nothing belongs to it.
        let wanted = length.saturating_sub(2_usize.saturating_sub(self.chunk_left));
        self.body.extend_from_slice(&self.raw[..wanted]);
        self.raw.drain(..length);
        Ok(length > 0)
    }

    fn take_events(&mut self, seen: &mut Vec<Seen>) -> Result<()> {
        let at = Instant::now();
        let mut start = 0;
        while let Some(end) = position(&self.body[start..], b"\n\n") {
            let frame = &self.body[start..start + end];
            // The others are the greeting and heartbeats.
            if frame.starts_with(b"id: ") {
                let number = events::number_in(frame)?;
                seen.push(Seen { number, at });
            }
            start += end + 2;
        }
        self.body.drain(..start);
        Ok(())
    }
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}
