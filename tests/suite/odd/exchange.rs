//! One connection: what is sent on it, and every answer that comes back, each within its time.

use super::request::Request;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// No answer may take longer, and no connection may stay silent longer.
const ANSWER_MAX: Duration = Duration::from_secs(11);
const CHUNK_BYTES: usize = 64 << 10;

/// One answer, read to its end; of a stream only its head.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// It is one to HEAD, and has no body whatever it says.
    pub(super) is_head: bool,
}

impl Reply {
    /// A header's value; empty where there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn is_last(&self) -> bool {
        self.header("connection").eq_ignore_ascii_case("close")
    }
}

/// A connection to the service.
pub(super) struct Exchange {
    stream: TcpStream,
    received: Vec<u8>,
    pub(super) is_open: bool,
}

impl Exchange {
    pub(super) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            received: Vec::new(),
            is_open: true,
        }
    }

    /// Sends a request and reads its answers: fewer where the service closes the connection.
    ///
    /// # Errors
    /// What no service may do: stay silent, or send what is no HTTP.
    pub(super) async fn ask(&mut self, request: &Request) -> Result<Vec<Reply>, String> {
        // A service that has refused a request may close before it has read all of it.
        let _ = timeout(ANSWER_MAX, self.stream.write_all(&request.bytes())).await;
        if request.half_closes {
            let _ = self.stream.shutdown().await;
        }
        let mut replies = Vec::new();
        while replies.len() < request.answers && self.is_open {
            let Some(reply) = self.reply(request.is_head).await? else {
                break;
            };
            // An interim answer announces the final one.
            if reply.status >= 200 {
                self.is_open = !reply.is_last();
                replies.push(reply);
            }
        }
        Ok(replies)
    }

    async fn reply(&mut self, is_head: bool) -> Result<Option<Reply>, String> {
        let head_end = loop {
            let end = self.received.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(end) = end {
                break end;
            }
            if !self.read().await? {
                return match self.received.is_empty() {
                    true => Ok(None),
                    false => Err("the answer ends within its head".to_owned()),
                };
            }
        };
        let head: Vec<u8> = self.received.drain(..head_end + 4).collect();
        let mut reply = parsed(&head)?;
        reply.is_head = is_head;
        let has_body = !is_head && reply.status >= 200 && ![204, 304].contains(&reply.status);
        if has_body && reply.header("content-type") != "text/event-stream" {
            let length = reply.header("content-length").parse().ok();
            reply.body = match (reply.header("transfer-encoding"), length) {
                ("chunked", _) => self.chunks().await?,
                (_, Some(length)) => self.take(length).await?,
                (_, None) => self.rest().await?,
            };
        }
        Ok(Some(reply))
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            let mut size = self.take(1).await?;
            while !size.ends_with(b"\r\n") {
                size.extend(self.take(1).await?);
            }
            let digits = String::from_utf8_lossy(&size);
            let size = usize::from_str_radix(digits.trim(), 16).map_err(|error| error.to_string());
            let size = size?;
            body.extend(self.take(size).await?);
            self.take(2).await?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    async fn rest(&mut self) -> Result<Vec<u8>, String> {
        while self.read().await? {}
        Ok(std::mem::take(&mut self.received))
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>, String> {
        while self.received.len() < length {
            if !self.read().await? {
                return Err("the answer ends within its body".to_owned());
            }
        }
        Ok(self.received.drain(..length).collect())
    }

    /// Whether more has come; else the service has closed the connection.
    async fn read(&mut self) -> Result<bool, String> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = timeout(ANSWER_MAX, self.stream.read(&mut chunk)).await;
        let length = match read {
            Err(_) => return Err(format!("silent for {ANSWER_MAX:?}")),
            // One that closes with bytes unread resets the connection.
            Ok(Err(_)) => 0,
            Ok(Ok(length)) => length,
        };
        self.received.extend_from_slice(&chunk[..length]);
        self.is_open &= length > 0;
        Ok(length > 0)
    }
}

fn parsed(head: &[u8]) -> Result<Reply, String> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.trim_end().split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let no_http = || format!("no HTTP: {status_line:?}");
    let status = status_line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or_else(no_http)?;
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Ok(Reply {
        status,
        headers: headers.collect(),
        body: Vec::new(),
        is_head: false,
    })
}
