//! `oncelog healthcheck`: asks a running server's `/health`, for containers without curl. Speaks
//! just enough HTTP/1.1 for that, over TLS where the server does, and knows nothing of the service.

use crate::{
    config::HealthcheckConfig,
    tls::{self, TlsError},
};
use rustls::{ClientConfig, ClientConnection, Stream, pki_types::ServerName};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

/// The status line is all that counts.
const ANSWER_BYTES_MAX: usize = 64;

/// Why a server does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    /// It is not to be reached, or does not answer in time.
    #[error("no answer from {address}")]
    NoAnswer {
        /// Where it was asked.
        address: SocketAddr,
        /// What went wrong.
        source: io::Error,
    },
    /// What it should show as its certificate is not there.
    #[error(transparent)]
    Certificate(#[from] TlsError),
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
pub fn run(config: &HealthcheckConfig) -> Result<(), HealthcheckError> {
    let address = config.address;
    let tls = config.certificate.as_deref().map(tls::pinned_client);
    let status_line = ask(config, tls.transpose()?)
        .map_err(|source| HealthcheckError::NoAnswer { address, source })?;
    if status_line.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(HealthcheckError::NotOk {
        address,
        status_line,
    })
}

fn ask(config: &HealthcheckConfig, tls: Option<ClientConfig>) -> io::Result<String> {
    let deadline = Instant::now() + Duration::from_millis(config.timeout_ms);
    let mut stream = Timed::connect(config.address, deadline)?;
    let Some(tls) = tls else {
        return status_line(&mut stream, config.address);
    };
    let name = ServerName::from(config.address.ip());
    let mut connection = ClientConnection::new(Arc::new(tls), name).map_err(io::Error::other)?;
    status_line(
        &mut Stream::new(&mut connection, &mut stream),
        config.address,
    )
}

fn status_line(stream: &mut (impl Read + Write), address: SocketAddr) -> io::Result<String> {
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n",);
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut buffer = [0; ANSWER_BYTES_MAX];
    while answer.len() < ANSWER_BYTES_MAX && !answer.contains(&b'\n') {
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

/// A connection on which all reads and writes together end at the deadline.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn connect(address: SocketAddr, deadline: Instant) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
        Ok(Self { stream, deadline })
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::Error::from(io::ErrorKind::TimedOut)),
        false => Ok(left),
    }
}
