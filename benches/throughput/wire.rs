//! How the load generator publishes: over HTTP to oncelog, and to what it is compared with in the protocols
//! of those, each as little as it takes to send one event and read its answer. Used by `load` and `peers`.

use crate::{
    events::Event,
    http::{Connection, number_of},
};
use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Remembers a key for ever, and appends the event where the key is new: 1, or 0.
pub(crate) const DEDUP_LUA: &str = "if redis.call('HSETNX', KEYS[1], ARGV[1], '') == 1 then \
     redis.call('XADD', KEYS[2], '*', 'event', ARGV[2]) return 1 end return 0";
pub(crate) const REDIS_KEYS: &str = "seen";
pub(crate) const REDIS_STREAM: &str = "events";
/// What the subjects of JetStream's stream begin with; the topic follows.
pub(crate) const NATS_SUBJECTS: &str = "events.";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Redis,
    Nats,
}

/// A connection that waits for each answer before the next request.
pub(crate) enum Wire {
    Http(Connection),
    Redis(Resp),
    Nats(Nats),
}

impl Wire {
    pub(crate) async fn open(protocol: Protocol, address: SocketAddr) -> Result<Self> {
        Ok(match protocol {
            Protocol::Http => Self::Http(Connection::open(address).await?),
            Protocol::Redis => Self::Redis(Resp::open(address).await?),
            Protocol::Nats => Self::Nats(Nats::open(address).await?),
        })
    }

    /// Writes the request for one event; `json` is room for it.
    pub(crate) fn prepare(&mut self, event: Event, json: &mut Vec<u8>) {
        event.write_json(json);
        match self {
            Self::Http(connection) => connection.prepare("/publish", json),
            Self::Redis(connection) => connection.prepare(event, json),
            Self::Nats(connection) => connection.prepare(event, json),
        }
    }

    /// Writes the request for a batch, which only oncelog takes.
    pub(crate) fn prepare_batch(&mut self, json: &[u8]) {
        if let Self::Http(connection) = self {
            connection.prepare("/publish/batch", json);
        }
    }

    /// Of the last request and its answer, where they were of HTTP.
    pub(crate) fn exchanged_bytes(&self) -> (u64, u64) {
        match self {
            Self::Http(connection) => connection.exchanged_bytes(),
            Self::Redis(_) | Self::Nats(_) => (0, 0),
        }
    }

    /// Sends what was prepared, one event or a batch; how many of them are new.
    pub(crate) async fn publish(&mut self, events: u64) -> Result<u64> {
        let connection = match self {
            Self::Http(connection) => connection,
            Self::Redis(connection) => return connection.publish().await,
            Self::Nats(connection) => return connection.publish().await,
        };
        let answer = connection.exchange().await?;
        ensure!(
            answer.status == 200,
            "{}: {}",
            answer.status,
            String::from_utf8_lossy(answer.body)
        );
        if events == 1 {
            return Ok(u64::from(contains(answer.body, b"\"outcome\":\"stored\"")));
        }
        ensure!(
            number_of(answer.body, "\"count\"")? == events,
            "wrong count"
        );
        number_of(answer.body, "\"stored\"")
    }
}

/// Redis's protocol.
pub(crate) struct Resp {
    stream: TcpStream,
    /// The script's name, which is a digest of it.
    script: String,
    key: Vec<u8>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Resp {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut open = Self {
            stream,
            script: String::new(),
            key: Vec::new(),
            request: Vec::new(),
            answer: Vec::new(),
        };
        write_command(
            &mut open.request,
            &[b"SCRIPT", b"LOAD", DEDUP_LUA.as_bytes()],
        );
        let answer = open.exchange(2).await?;
        let script = answer.strip_prefix(b"$40\r\n").context("no script")?;
        open.script = str::from_utf8(script)?.trim_end().to_owned();
        Ok(open)
    }

    fn prepare(&mut self, event: Event, json: &[u8]) {
        write_key(event, &mut self.key);
        self.request.clear();
        let (keys, stream) = (REDIS_KEYS.as_bytes(), REDIS_STREAM.as_bytes());
        let script = self.script.as_bytes();
        write_command(
            &mut self.request,
            &[b"EVALSHA", script, b"2", keys, stream, &self.key, json],
        );
    }

    async fn publish(&mut self) -> Result<u64> {
        match self.exchange(1).await? {
            b":1\r\n" => Ok(1),
            b":0\r\n" => Ok(0),
            other => bail!("redis: {}", String::from_utf8_lossy(other)),
        }
    }

    /// An answer of so many lines, or of one that says what went wrong.
    async fn exchange(&mut self, lines: usize) -> Result<&[u8]> {
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            read_some(&mut self.stream, &mut self.answer).await?;
            let ends = self.answer.iter().filter(|byte| **byte == b'\n').count();
            if ends >= lines || (ends > 0 && self.answer.starts_with(b"-")) {
                return Ok(&self.answer);
            }
        }
    }
}

fn write_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// The protocol of NATS, with the inbox that JetStream acknowledges to.
pub(crate) struct Nats {
    stream: TcpStream,
    inbox: String,
    key: Vec<u8>,
    request: Vec<u8>,
    received: Vec<u8>,
}

impl Nats {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        // Its own among those of this machine.
        let inbox = format!("_INBOX.{}", stream.local_addr()?.port());
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\
             \"no_responders\":true,\"name\":\"bench\",\"lang\":\"rust\",\"version\":\"0\"}}\r\n\
             SUB {inbox} 1\r\n"
        );
        stream.write_all(hello.as_bytes()).await?;
        Ok(Self {
            stream,
            inbox,
            key: Vec::new(),
            request: Vec::new(),
            received: Vec::new(),
        })
    }

    /// Asks JetStream's API; its answer is JSON.
    pub(crate) async fn ask(&mut self, subject: &str, body: &str) -> Result<String> {
        self.request.clear();
        let request = format!("PUB {subject} {} {}\r\n{body}\r\n", self.inbox, body.len());
        self.request.extend_from_slice(request.as_bytes());
        let answer = String::from_utf8(self.exchange().await?)?;
        ensure!(!answer.contains("\"error\":"), "{subject}: {answer}");
        Ok(answer)
    }

    fn prepare(&mut self, event: Event, json: &[u8]) {
        const HEAD: &[u8] = b"NATS/1.0\r\nNats-Msg-Id: ";
        write_key(event, &mut self.key);
        self.request.clear();
        self.request.extend_from_slice(b"HPUB ");
        self.request.extend_from_slice(NATS_SUBJECTS.as_bytes());
        event.write_topic(&mut self.request);
        let head_len = HEAD.len() + self.key.len() + 4;
        let rest = format!(" {} {head_len} {}\r\n", self.inbox, head_len + json.len());
        self.request.extend_from_slice(rest.as_bytes());
        for part in [HEAD, &self.key, b"\r\n\r\n", json, b"\r\n"] {
            self.request.extend_from_slice(part);
        }
    }

    async fn publish(&mut self) -> Result<u64> {
        let mut answer = self.exchange().await?;
        // It says `"duplicate": true` with a blank, and need not.
        answer.retain(|byte| *byte != b' ');
        ensure!(
            contains(&answer, b"\"seq\":") && !contains(&answer, b"\"error\":"),
            "nats: {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(u64::from(!contains(&answer, b"\"duplicate\":true")))
    }

    /// Sends the request and reads to the message that answers it.
    async fn exchange(&mut self) -> Result<Vec<u8>> {
        self.stream.write_all(&self.request).await?;
        loop {
            let Some(end) = position(&self.received, b"\r\n") else {
                read_some(&mut self.stream, &mut self.received).await?;
                continue;
            };
            let line = str::from_utf8(&self.received[..end])?;
            // With a header, too, the last number is the length of all.
            let length = match line.split_once(' ').map_or(line, |(word, _)| word) {
                "MSG" | "HMSG" => line.rsplit(' ').next().map(str::parse::<usize>),
                "-ERR" => bail!("nats: {line}"),
                "PING" => {
                    self.stream.write_all(b"PONG\r\n").await?;
                    None
                }
                _ => None,
            };
            let Some(length) = length.transpose()? else {
                self.received.drain(..end + 2);
                continue;
            };
            while self.received.len() < end + length + 4 {
                read_some(&mut self.stream, &mut self.received).await?;
            }
            let body = self.received[end + 2..][..length].to_vec();
            self.received.drain(..end + length + 4);
            return Ok(body);
        }
    }
}

/// What oncelog tells events apart by: topic and id.
fn write_key(event: Event, out: &mut Vec<u8>) {
    out.clear();
    event.write_topic(out);
    out.push(b'/');
    event.write_event_id(out);
}

async fn read_some(stream: &mut TcpStream, into: &mut Vec<u8>) -> Result<()> {
    into.reserve(4096);
    match stream.read_buf(into).await? {
        0 => bail!("the connection was closed before the answer"),
        _ => Ok(()),
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    position(bytes, wanted).is_some()
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}
