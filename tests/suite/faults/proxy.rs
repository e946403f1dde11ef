//! A TCP proxy that misbehaves on request: between the server under test and its database.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};

/// What the proxy does to what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Weather {
    /// Carries everything.
    Fair,
    /// Keeps connections open and carries nothing, as a broken cable does.
    BlackHole,
    /// Carries the next COMMIT and loses its answer, then cuts the connection; once.
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

    /// Answers to COMMIT that were lost so far.
    pub(crate) fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::SeqCst)
    }

    /// Bytes that a black hole has taken so far.
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
        let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        loop {
            tokio::select! {
                _ = cuts.changed() => return,
                read = client.read(&mut from_client) => {
                    let Ok(length @ 1..) = read else { return };
                    let bytes = &from_client[..length];
                    match self.weather() {
                        Weather::BlackHole => self.hold_back(length),
                        Weather::SwallowCommitAnswer if holds_commit(bytes) => {
                            self.set_fair_again();
                            if server.write_all(bytes).await.is_ok() {
                                self.lose_the_answer(&mut server).await;
                            }
                            return;
                        }
                        _ => if server.write_all(bytes).await.is_err() { return },
                    }
                }
                read = server.read(&mut from_server) => {
                    let Ok(length @ 1..) = read else { return };
                    match self.weather() {
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

    /// Waits until the database has answered, so that the commit has certainly happened, or long
    /// enough to know that it does not answer.
    async fn lose_the_answer(&self, server: &mut TcpStream) {
        let mut answer = [0; 1024];
        tokio::select! {
            read = server.read(&mut answer) => {
                if matches!(read, Ok(1..)) {
                    self.swallowed.fetch_add(1, Ordering::SeqCst);
                }
            }
            () = sleep(Duration::from_secs(2)) => {}
        }
    }
}

/// The simple-query message `Q` with the text `commit`, alone or with the next `begin`.
fn holds_commit(bytes: &[u8]) -> bool {
    let ends = ["commit\0", "commit; begin\0"].map(str::as_bytes);
    ends.iter()
        .any(|text| bytes.windows(text.len()).any(|window| window == *text))
}
