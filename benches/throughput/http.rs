//! As little of HTTP/1.1 as a load generator needs: one request after the other on one connection,
//! answers with a Content-Length. Used by `load` and `servers`.

use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// An answer; the body is the end of the connection's buffer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            request: Vec::new(),
            answer: Vec::with_capacity(16 * 1024),
        })
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer<'_>> {
        self.request.clear();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.request.extend_from_slice(head.as_bytes());
        self.exchange().await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &[u8]) -> Result<Answer<'_>> {
        self.prepare(path, body);
        self.exchange().await
    }

    /// Writes a request, to be sent by [`Self::exchange`].
    pub(crate) fn prepare(&mut self, path: &str, body: &[u8]) {
        self.request.clear();
        for part in [
            "POST ",
            path,
            " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ",
            &body.len().to_string(),
            "\r\n\r\n",
        ] {
            self.request.extend_from_slice(part.as_bytes());
        }
        self.request.extend_from_slice(body);
    }

    /// Sends the prepared request and reads its answer.
    pub(crate) async fn exchange(&mut self) -> Result<Answer<'_>> {
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        let (head_len, body_len) = loop {
            self.read_some().await?;
            if let Some(found) = self.answer.windows(4).position(|end| end == b"\r\n\r\n") {
                let head = &self.answer[..found];
                break (found + 4, content_length(head)?);
            }
        };
        while self.answer.len() < head_len + body_len {
            self.read_some().await?;
        }
        ensure!(
            self.answer.len() == head_len + body_len,
            "more than one answer to one request"
        );
        Ok(Answer {
            status: status(&self.answer)?,
            body: &self.answer[head_len..],
        })
    }

    /// Of the last request and of its answer.
    pub(crate) fn exchanged_bytes(&self) -> (u64, u64) {
        (self.request.len() as u64, self.answer.len() as u64)
    }

    async fn read_some(&mut self) -> Result<()> {
        self.answer.reserve(4096);
        match self.stream.read_buf(&mut self.answer).await? {
            0 => bail!("the connection was closed before the answer"),
            _ => Ok(()),
        }
    }
}

/// The number behind a name of the answer's JSON.
pub(crate) fn number_of(body: &[u8], name: &str) -> Result<u64> {
    let text = str::from_utf8(body)?;
    let (_, rest) = text.split_once(name).context("a number is missing")?;
    let digits = rest.trim_start_matches([':', ' ']);
    let end = digits
        .find(|digit: char| !digit.is_ascii_digit())
        .unwrap_or(digits.len());
    Ok(digits[..end].parse()?)
}

fn status(answer: &[u8]) -> Result<u16> {
    let text = answer.get(9..12).context("a short status line")?;
    Ok(str::from_utf8(text)?.parse()?)
}

fn content_length(head: &[u8]) -> Result<usize> {
    let head = str::from_utf8(head)?;
    let value = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, value) = value.context("an answer without Content-Length")?;
    Ok(value.trim().parse()?)
}
