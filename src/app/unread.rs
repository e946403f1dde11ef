//! What nobody has read of a request's body when its answer is there: where the next request begins is known
//! only behind it. A little is read and thrown away, and the connection goes on; before more it is closed.
//! Used by `server`, around the application.

use actix_http::Payload;
use actix_web::{
    HttpMessage,
    dev::ServiceRequest,
    error::PayloadError,
    http::{
        ConnectionType,
        header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE},
    },
    web::Bytes,
};
use futures_util::{FutureExt, Stream};
use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    task::yield_now,
    time::{Instant, timeout_at},
};

/// So much of a body that nobody wants is read: what clients have on its way before an answer can stop them.
const UNREAD_BYTES_MAX: usize = 64 << 10;

/// The body of a request, as the application leaves it.
pub(super) struct RequestBody {
    shared: Rc<RefCell<Shared>>,
    arrived: Instant,
    /// What its head says, where it does.
    declared_bytes: Option<usize>,
    /// The client may wait for a word before it sends, and not get it.
    is_expecting: bool,
    /// Nothing is to come behind it.
    is_last: bool,
}

struct Shared {
    payload: Payload,
    /// What may still be read of it, where actix-http takes all that follows for the body.
    left_bytes: Option<usize>,
    read_bytes: usize,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Untouched,
    Begun,
    Over,
    /// Where the next request begins will not be known any more.
    Broken,
}

/// What the application reads it through.
struct Reader(Rc<RefCell<Shared>>);

/// A body that is not going to be read. As long as this is held, actix-http knows that the connection cannot go
/// on, and says so in the answer; of one in chunks that is let go it would read whatever comes.
pub(super) struct Unread(#[expect(dead_code, reason = "held, not read")] Rc<RefCell<Shared>>);

impl RequestBody {
    /// Puts itself between a request and its body, where it has one.
    pub(super) fn of(request: &mut ServiceRequest) -> Option<Self> {
        let payload = request.take_payload();
        if matches!(payload, Payload::None) {
            return None;
        }
        let length = request.headers().get(CONTENT_LENGTH);
        let declared_bytes = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let shared = Rc::new(RefCell::new(Shared {
            payload,
            left_bytes: asks_for_websocket(request).then(|| declared_bytes.unwrap_or(0)),
            read_bytes: 0,
            progress: Progress::Untouched,
        }));
        request.set_payload(Payload::Stream {
            payload: Box::pin(Reader(Rc::clone(&shared))),
        });
        Some(Self {
            shared,
            arrived: Instant::now(),
            declared_bytes,
            is_expecting: request.head().expect(),
            is_last: request.head().connection_type() == ConnectionType::Close,
        })
    }

    /// Reads what is left, up to a bound and to `body_timeout` after the head. `None`: to its end.
    pub(super) async fn finish(self, body_timeout: Duration) -> Option<Unread> {
        let unread = Some(Unread(Rc::clone(&self.shared)));
        let (read_bytes, progress) = {
            let shared = self.shared.borrow();
            if shared.left_bytes.is_some() {
                return unread;
            }
            (shared.read_bytes, shared.progress)
        };
        match progress {
            Progress::Over => return None,
            Progress::Broken => return unread,
            Progress::Untouched | Progress::Begun if self.is_last => return unread,
            Progress::Untouched | Progress::Begun => {}
        }
        // actix-http asks for the answer before it has looked at what it has read behind the head. A body that
        // it finds whole only then would keep the connection open after its end was announced.
        yield_now().await;
        let bytes_max = read_bytes + UNREAD_BYTES_MAX;
        match read_on(&self.shared, bytes_max).now_or_never() {
            Some(true) => return None,
            Some(false) => return unread,
            None => {}
        }
        // To wait for it would be to ask for it.
        let is_withheld = self.is_expecting && progress == Progress::Untouched;
        let declared_bytes = self.declared_bytes.unwrap_or(0);
        if is_withheld || declared_bytes > bytes_max {
            return unread;
        }
        let deadline = self.arrived + body_timeout;
        match timeout_at(deadline, read_on(&self.shared, bytes_max)).await {
            Ok(true) => None,
            Ok(false) | Err(_) => unread,
        }
    }
}

/// Nobody here speaks it, so the request is one like any other (RFC 9110, section 7.8). actix-http would give
/// whatever follows on the connection as its body, without an end.
fn asks_for_websocket(request: &ServiceRequest) -> bool {
    let headers = request.headers();
    let mut wishes = headers.get_all(UPGRADE);
    !headers.contains_key(TRANSFER_ENCODING)
        && wishes.any(|wish| {
            wish.as_bytes()
                .trim_ascii()
                .eq_ignore_ascii_case(b"websocket")
        })
}

/// Whether the body ends before it has so many bytes more.
async fn read_on(body: &RefCell<Shared>, bytes_max: usize) -> bool {
    loop {
        match poll_fn(|context| body.borrow_mut().poll(context)).await {
            Some(Ok(_)) if body.borrow().read_bytes <= bytes_max => {}
            Some(_) => return false,
            None => return true,
        }
    }
}

impl Shared {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        if self.left_bytes == Some(0) {
            self.progress = Progress::Over;
            return Poll::Ready(None);
        }
        let mut polled = Pin::new(&mut self.payload).poll_next(context);
        if let (Some(left), Poll::Ready(Some(Ok(chunk)))) = (&mut self.left_bytes, &mut polled) {
            chunk.truncate(*left);
            *left -= chunk.len();
        }
        self.progress = match &polled {
            Poll::Pending => Progress::Begun,
            Poll::Ready(Some(Ok(chunk))) => {
                self.read_bytes += chunk.len();
                Progress::Begun
            }
            Poll::Ready(None) => Progress::Over,
            Poll::Ready(Some(Err(_))) => Progress::Broken,
        };
        polled
    }
}

impl Stream for Reader {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll(context)
    }
}
