//! A client as lean as one can be: thousands of them have to share two cores with what they load.

use crate::support::event;
use std::{
    io::{Error, ErrorKind, Result},
    net::SocketAddr,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::ReadHalf},
};

/// A connection that is kept, with one request at a time; made anew where the service has ended it with an
/// answer.
pub(super) struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    received: Vec<u8>,
    is_over: bool,
}

/// What load needs to know of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) says_when_to_retry: bool,
    /// Whether the service closes the connection after it.
    pub(super) is_last: bool,
}

impl Answer {
    /// Whether it is stored; fails the test where the answer is none of those that overload may give.
    pub(super) fn is_stored(self) -> bool {
        match self.status {
            200 => true,
            429 | 503 => {
                assert!(self.says_when_to_retry, "{self:?}");
                false
            }
            _ => panic!("{self:?}"),
        }
    }
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            address,
            stream,
            received: Vec::new(),
            is_over: false,
        })
    }

    /// Sends a request and reads its answer, which may come before all is sent.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        if self.is_over {
            *self = Self::open(self.address).await?;
        }
        let (mut reader, mut writer) = self.stream.split();
        let reading = answer(&mut reader, &mut self.received);
        tokio::pin!(reading);
        let sent = tokio::select! {
            answer = &mut reading => Some(answer?),
            // Who is refused in the middle finds the connection closed, with the answer in it.
            _ = writer.write_all(request) => None,
        };
        let (answer, is_early) = match sent {
            Some(early) => (early, true),
            None => (reading.await?, false),
        };
        self.is_over = answer.is_last || is_early;
        Ok(answer)
    }

    /// Waits until the service has closed it, without a word.
    pub(super) async fn closed(&mut self) -> Result<()> {
        match self.stream.read_u8().await {
            Ok(byte) => panic!("{byte} instead of the end"),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error),
        }
    }
}

async fn answer(reader: &mut ReadHalf<'_>, received: &mut Vec<u8>) -> Result<Answer> {
    received.clear();
    let head_length = loop {
        if let Some(end) = received.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        more(reader, received).await?;
    };
    let head = String::from_utf8_lossy(&received[..head_length]).to_lowercase();
    let header = |name: &str| {
        let mut lines = head.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let length = header("content-length:").and_then(|length| length.parse::<usize>().ok());
    while received.len() < head_length + length.unwrap_or(0) {
        more(reader, received).await?;
    }
    Ok(Answer {
        status: status.ok_or(ErrorKind::InvalidData)?,
        says_when_to_retry: header("retry-after:").is_some(),
        is_last: header("connection:").is_some_and(|connection| connection == "close"),
    })
}

async fn more(reader: &mut ReadHalf<'_>, received: &mut Vec<u8>) -> Result<()> {
    match reader.read_buf(received).await? {
        0 => Err(Error::from(ErrorKind::UnexpectedEof)),
        _ => Ok(()),
    }
}

/// A request for nothing.
pub(super) const LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";

/// A request that publishes one event.
pub(super) fn publish(event_id: &str) -> Vec<u8> {
    post("/publish", &event("overload", event_id).to_string())
}

/// A request that publishes so many events, with ids of which this is the beginning.
pub(super) fn publish_batch(id: &str, events: usize) -> Vec<u8> {
    // Not by values: at a thousand events a batch that would be the load's main work.
    let pattern = event("overload", "@").to_string();
    let events: Vec<String> = (0..events)
        .map(|number| pattern.replace('@', &format!("{id}-{number}")))
        .collect();
    let body = format!(r#"{{"events":[{}]}}"#, events.join(","));
    post("/publish/batch", &body)
}

fn post(path: &str, body: &str) -> Vec<u8> {
    let head = "Host: x\r\nContent-Type: application/json";
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}
