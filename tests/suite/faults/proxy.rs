//! A TCP proxy that misbehaves on request: between the server under test and its database.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the proxy does to what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Weather {
    /// Carries everything.
    Fair,
    /// Keeps connections open and carries nothing, as a broken cable does.
    BlackHole,
    /// Carries the next group and, where it was stored, loses the answer and cuts the connection; once.
    SwallowCommitAnswer,
    /// Refuses connections.
    Closed,
}

/// A proxy in front of one address.
#[derive(Clone)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    weather: AtomicU8,
    /// Counts up to cut every connection of before.
    cuts: watch::Sender<u64>,
    /// Counts up to carry nothing any more on any connection of before.
    lapses: watch::Sender<u64>,
    swallowed: AtomicU64,
    held_back_bytes: AtomicU64,
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::new(Shared {
                weather: AtomicU8::new(Weather::Fair as u8),
                cuts: watch::Sender::new(0),
                lapses: watch::Sender::new(0),
                swallowed: AtomicU64::new(0),
                held_back_bytes: AtomicU64::new(0),
            }),
        };
        let shared = Arc::clone(&proxy.shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shared.weather() == Weather::Closed {
                    continue;
                }
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(target).await {
                        shared.carry(client, server).await;
                    }
                });
            }
        });
        proxy
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn set(&self, weather: Weather) {
        let shared = &self.shared;
        shared.weather.store(weather as u8, Ordering::SeqCst);
    }

    /// Ends every connection that there is.
    pub(crate) fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Keeps every connection that there is open, and carries nothing on it any more, whatever the weather: as
    /// a firewall that has forgotten them. An answer may end in its middle.
    pub(crate) fn forget(&self) {
        self.shared.lapses.send_modify(|lapses| *lapses += 1);
    }

    /// Answers to commits that were lost so far.
    pub(crate) fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::SeqCst)
    }

    /// Bytes that were taken and carried nowhere so far.
    pub(crate) fn held_back_bytes(&self) -> u64 {
        self.shared.held_back_bytes.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn weather(&self) -> Weather {
        match self.weather.load(Ordering::SeqCst) {
            0 => Weather::Fair,
            1 => Weather::BlackHole,
            2 => Weather::SwallowCommitAnswer,
            _ => Weather::Closed,
        }
    }

    async fn carry(&self, mut client: TcpStream, mut server: TcpStream) {
        let mut cuts = self.cuts.subscribe();
        let mut lapses = self.lapses.subscribe();
        let mut is_forgotten = false;
        let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            tokio::select! {
                _ = cuts.changed() => return,
                _ = lapses.changed() => is_forgotten = true,
                read = client.read(&mut from_client) => {
                    let Ok(length @ 1..) = read else { return };
                    let bytes = &from_client[..length];
                    match self.weather() {
                        _ if is_forgotten => self.hold_back(length),
                        Weather::BlackHole => self.hold_back(length),
                        Weather::SwallowCommitAnswer if holds_group(bytes) => {
                            if server.write_all(bytes).await.is_err() { return }
                            let Ok(length @ 1..) = server.read(&mut from_server).await else { return };
                            let answer = &from_server[..length];
                            if says_committed(answer) {
                                self.set_fair_again();
                                self.swallowed.fetch_add(1, Ordering::SeqCst);
                                return;
                            }
                            if client.write_all(answer).await.is_err() { return }
                        }
                        _ => if server.write_all(bytes).await.is_err() { return },
                    }
                }
                read = server.read(&mut from_server) => {
                    let Ok(length @ 1..) = read else { return };
                    match self.weather() {
                        _ if is_forgotten => self.hold_back(length),
                        Weather::BlackHole => self.hold_back(length),
                        _ => if client.write_all(&from_server[..length]).await.is_err() { return },
                    }
                }
            }
        }
    }

    fn hold_back(&self, bytes: usize) {
        self.held_back_bytes
            .fetch_add(bytes as u64, Ordering::SeqCst);
    }

    fn set_fair_again(&self) {
        self.weather.store(Weather::Fair as u8, Ordering::SeqCst);
    }
}

/// Parameters of the statement that stores a group: many, and the writer's name among them. A start-up
/// message, which may be as long, says what that name is.
fn holds_group(bytes: &[u8]) -> bool {
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    bytes.len() > 300 && holds(b"-persist-") && !holds(b"application_name")
}

/// Its row, of five columns, begins with the transaction's number of 8 bytes, or null where nothing was stored.
/// By the time that it is sent the transaction has committed, or a crash of the server is on its way.
fn says_committed(bytes: &[u8]) -> bool {
    let begin = [0, 5, 0, 0, 0, 8];
    bytes.windows(begin.len()).any(|window| window == begin)
}
