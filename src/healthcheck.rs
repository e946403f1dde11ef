//! `oncelog healthcheck`: asks a running server's `/health`, for containers without curl. Speaks
//! just enough HTTP/1.1 for that and knows nothing of the service.

use crate::config::HealthcheckConfig;
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// The status line is all that counts.
const ANSWER_BYTES_MAX: usize = 64;

/// Why a server does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    /// It is not to be reached, or does not answer in time.
    #[error("no answer from {address}: {source}")]
    NoAnswer {
        /// Where it was asked.
        address: SocketAddr,
        /// What went wrong.
        source: io::Error,
    },
    /// It answered something else than 200.
    #[error("{address} answered {status_line:?}")]
    NotOk {
        /// Where it was asked.
        address: SocketAddr,
        /// The first line of its answer.
        status_line: String,
    },
}

/// Asks once.
///
/// # Errors
/// [`HealthcheckError`] for anything but a 200 in time.
pub fn run(config: HealthcheckConfig) -> Result<(), HealthcheckError> {
    let address = config.address;
    let status_line =
        ask(config).map_err(|source| HealthcheckError::NoAnswer { address, source })?;
    if status_line.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(HealthcheckError::NotOk {
        address,
        status_line,
    })
}

fn ask(config: HealthcheckConfig) -> io::Result<String> {
    let deadline = Instant::now() + Duration::from_millis(config.timeout_ms);
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        Ok(left)
    };
    let mut stream = TcpStream::connect_timeout(&config.address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    let request = format!(
        "GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        config.address
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; ANSWER_BYTES_MAX];
    while answer.len() < ANSWER_BYTES_MAX && !answer.contains(&b'\n') {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut buffer)? {
            0 => break,
            read => answer.extend_from_slice(&buffer[..read]),
        }
    }
    let line = answer
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned() + " ")
}
