//! A deadline for the head of every request. actix-web has one for the first of a connection only: after it, a
//! client could send a byte of the next head and keep its connection for ever. Used by `server`, between a
//! client's connection and actix-web.

use super::unread::Unread;
use actix_web::{
    body::{BodySize, MessageBody},
    web::Bytes,
};
use std::{
    cell::Cell,
    io::{IoSlice, Result},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A connection that ends where a head takes longer than it may.
pub(super) struct Paced<T> {
    io: T,
    pace: Pace,
    head_max: Duration,
    /// The head that has begun.
    head: Option<Head>,
    timer: Pin<Box<Sleep>>,
    /// Whether the timer will wake the connection. It may do so early: it is not set anew for each head.
    is_set: bool,
}

/// What a connection knows of the requests on it. Clones share it; all of them are on one thread.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace(Rc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    begun: Cell<u64>,
    under_way: Cell<u64>,
}

/// A request whose head is there, and whose answer is not sent yet.
pub(super) struct UnderWay(Pace);

struct Head {
    since: Instant,
    /// Requests that had begun before: one more, and this head is complete.
    begun: u64,
}

impl Pace {
    /// The head of a request is complete.
    pub(super) fn begin(&self) -> UnderWay {
        self.0.begun.set(self.0.begun.get() + 1);
        self.0.under_way.set(self.0.under_way.get() + 1);
        UnderWay(self.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let under_way = &self.0.0.under_way;
        under_way.set(under_way.get() - 1);
    }
}

impl<T> Paced<T> {
    pub(super) fn new(io: T, head_max: Duration) -> Self {
        Self {
            io,
            pace: Pace::default(),
            head_max,
            head: None,
            timer: Box::pin(sleep(head_max)),
            is_set: false,
        }
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Bytes have come. With no request under way they are of a head.
    fn came(&mut self, context: &mut Context<'_>) {
        let requests = &self.pace.0;
        if self.head.is_none() && requests.under_way.get() == 0 {
            self.head = Some(Head {
                since: Instant::now(),
                begun: requests.begun.get(),
            });
            // For the timer to know whom to wake.
            let _ = self.is_late(context);
        }
    }

    /// Whether there is a head that has had its time.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let requests = &self.pace.0;
        loop {
            let Some(head) = &self.head else {
                return false;
            };
            if head.begun != requests.begun.get() {
                self.head = None;
                return false;
            }
            let deadline = head.since + self.head_max;
            if !self.is_set {
                self.timer.as_mut().reset(deadline);
                self.is_set = true;
            }
            if self.timer.as_mut().poll(context).is_pending() {
                return false;
            }
            self.is_set = false;
            if Instant::now() >= deadline {
                return true;
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = self.get_mut();
        if this.is_late(context) {
            // As if the client had closed it.
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            this.came(context);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// An answer's body, during which what the client sends may be of a request that has to wait its turn, or of the
/// one that is answered.
pub(super) struct PacedBody<B> {
    body: B,
    _under_way: Option<UnderWay>,
    _unread: Option<Unread>,
}

impl<B> PacedBody<B> {
    pub(super) fn new(body: B, under_way: Option<UnderWay>, unread: Option<Unread>) -> Self {
        Self {
            body,
            _under_way: under_way,
            _unread: unread,
        }
    }
}

impl<B: MessageBody + Unpin> MessageBody for PacedBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::timeout,
    };

    const HEAD_MAX: Duration = Duration::from_millis(50);
    const SOON: Duration = Duration::from_secs(10);

    fn connection() -> (DuplexStream, Paced<DuplexStream>) {
        let (client, server) = duplex(64);
        (client, Paced::new(server, HEAD_MAX))
    }

    async fn reads(connection: &mut Paced<DuplexStream>) -> usize {
        let read = timeout(SOON, connection.read(&mut [0; 64])).await;
        read.expect("bytes or the end").unwrap()
    }

    #[tokio::test]
    async fn every_head_has_its_time_and_not_more() {
        let (mut client, mut connection) = connection();
        for _ in 0..3 {
            client.write_all(b"head").await.unwrap();
            assert_eq!(reads(&mut connection).await, 4);
            drop(connection.pace().begin());
        }
        client.write_all(b"he").await.unwrap();
        assert_eq!(reads(&mut connection).await, 2);
        // The client is there, and this is the end all the same.
        assert_eq!(reads(&mut connection).await, 0);
        drop(client);
    }

    #[tokio::test]
    async fn what_comes_during_a_request_has_no_deadline_and_neither_has_silence() {
        let (mut client, mut connection) = connection();
        let silence = timeout(HEAD_MAX * 4, connection.read(&mut [0; 64])).await;
        assert!(silence.is_err());
        client.write_all(b"head").await.unwrap();
        assert_eq!(reads(&mut connection).await, 4);
        let under_way = connection.pace().begin();
        client.write_all(b"body").await.unwrap();
        assert_eq!(reads(&mut connection).await, 4);
        let more = timeout(HEAD_MAX * 4, connection.read(&mut [0; 64])).await;
        assert!(more.is_err());
        drop(under_way);
        let silence = timeout(HEAD_MAX * 4, connection.read(&mut [0; 64])).await;
        assert!(silence.is_err());
    }
}
