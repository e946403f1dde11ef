//! A client's connection as bytes: what is sent is what is given, and every answer is seen.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// No answer takes longer.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(11);

pub(super) trait Io: Read + Write {}
impl<T: Read + Write> Io for T {}

/// A client's connection.
pub(super) struct Wire {
    io: Box<dyn Io>,
    pub(super) received: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) is_last: bool,
}

impl Wire {
    pub(super) fn open(address: SocketAddr) -> Self {
        Self::over(connect(address))
    }

    pub(super) fn over(io: impl Io + 'static) -> Self {
        Self {
            io: Box::new(io),
            received: Vec::new(),
        }
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).unwrap();
        self.io.flush().unwrap();
    }

    /// Of which the service may refuse to take all.
    pub(super) fn send_what_it_takes(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.io.write_all(bytes.as_ref());
    }

    /// The next answer, of which an interim one is one, too.
    #[track_caller]
    pub(super) fn answer(&mut self) -> Answer {
        let end = loop {
            let end = self.received.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            assert!(self.read(), "closed without an answer");
        };
        let head: Vec<u8> = self.received.drain(..end).collect();
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let status = head.strip_prefix("http/1.1 ").expect("an answer");
        let status = status[..3].parse().unwrap();
        let header = |name: &str| {
            let mut lines = head.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        let length = header("content-length:").map_or(0, |length| length.parse().unwrap());
        while self.received.len() < length {
            assert!(self.read(), "closed within an answer");
        }
        self.received.drain(..length);
        Answer {
            status,
            is_last: header("connection:").is_some_and(|connection| connection == "close"),
        }
    }

    /// Whether another answer begins; else the connection is at its end.
    pub(super) fn has_more(&mut self) -> bool {
        !self.received.is_empty() || self.read()
    }

    /// An answer behind which the connection goes on.
    #[track_caller]
    pub(super) fn goes_on_after(&mut self, status: u16) {
        let answer = self.answer();
        assert_eq!((answer.status, answer.is_last), (status, false));
    }

    /// An answer that says that the connection ends; and it does, without another one.
    #[track_caller]
    pub(super) fn ends_with(&mut self, status: u16) {
        let answer = self.answer();
        assert_eq!((answer.status, answer.is_last), (status, true));
        while self.read() {}
        let further = String::from_utf8_lossy(&self.received);
        assert!(further.is_empty(), "{further}");
    }

    /// Whether more has come; else the connection is at its end.
    #[track_caller]
    pub(super) fn read(&mut self) -> bool {
        let mut chunk = [0; 4096];
        let length = match self.io.read(&mut chunk) {
            Ok(length) => length,
            Err(error) => match error.kind() {
                ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => 0,
                _ => panic!("{error}"),
            },
        };
        self.received.extend_from_slice(&chunk[..length]);
        length > 0
    }
}

pub(super) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
    stream
}
