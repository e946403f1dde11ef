//! What HTTP holds of the broker: append events to one of its streams, and ask how much waits there.

use super::{
    actor::BridgeSettings,
    entry::{self, EVENT_FIELD, EntryLimit},
    link::Link,
    names::StreamNames,
    nodes::BrokerNodes,
};
use crate::domain::Event;
use futures_util::future::join_all;
use redis::{Pipeline, RedisError, Value};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// The longest that an append may take, connecting included.
const APPEND_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that one of several streams may take for it, so that there is time for another.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
/// Streams that are tried for one append.
const ATTEMPTS_MAX: usize = 4;
/// A stream that has failed is tried after the others for that long.
const AVOIDED_FOR: Duration = Duration::from_secs(2);
/// The longest that a question may take: it is asked to show something, and can be left out.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(500);

/// The broker did not take or answer it.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It said so, or is not to be reached.
    #[error("the broker failed: {0}")]
    Failed(#[from] RedisError),
    /// It said nothing in time. What was to be appended may have been.
    #[error("the broker did not answer in time")]
    TimedOut,
    /// It has appended it, and fewer replicas than are asked for have said that they have it, too.
    #[error("{replicas} replicas of the broker have it, {wanted} are asked for")]
    NotReplicated {
        /// How many have said so in time.
        replicas: u32,
        /// How many are asked for.
        wanted: u32,
    },
}

/// How much waits in the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Entries of those streams that have answered: they wait, or are being stored.
    pub entries: u64,
    /// Whether all have answered.
    pub is_complete: bool,
}

/// A way to the broker's streams, shared by all requests.
#[derive(Clone)]
pub struct BrokerClient {
    streams: Arc<[Stream]>,
    entry_limit: EntryLimit,
    is_cluster: bool,
    replicas_ack: u32,
    /// The stream that the next append begins with.
    next: Arc<AtomicUsize>,
}

struct Stream {
    key: String,
    /// `WAIT` stalls all who share its connection, so questions have one of their own.
    appending: Link,
    asking: Link,
    avoided_until: Mutex<Option<Instant>>,
}

impl BrokerClient {
    /// A client that connects when it is first used, and again whenever it has to. It appends to the
    /// streams that a bridge of these settings reads. An append is acknowledged when so many replicas
    /// of its node have it, too.
    pub fn new(nodes: &BrokerNodes, settings: &BridgeSettings, replicas_ack: u32) -> Self {
        let stream = |names: &StreamNames| Stream {
            key: names.stream.clone(),
            appending: Link::new(nodes.clone(), &names.stream, APPEND_TIMEOUT),
            asking: Link::new(nodes.clone(), &names.stream, APPEND_TIMEOUT),
            avoided_until: Mutex::new(None),
        };
        Self {
            streams: settings.streams.iter().map(stream).collect(),
            entry_limit: settings.entry_limit,
            is_cluster: nodes.is_cluster(),
            replicas_ack,
            next: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Whether the bridge would take all of the events from a stream. Others must not be appended: they
    /// would become dead letters.
    pub fn takes(&self, events: &[Event]) -> bool {
        let mut events = events.iter();
        events.all(|event| self.entry_limit.takes_event(event))
    }

    /// Appends all of the events to one stream, or none of them to any. When it returns, Redis has
    /// acknowledged them, and so have as many replicas as are asked for.
    ///
    /// # Errors
    /// [`BrokerError`], the last one where several streams were tried; the events may have been
    /// appended all the same, also twice, and are then stored once.
    pub async fn append(&self, events: &[Event]) -> Result<(), BrokerError> {
        let deadline = Instant::now() + APPEND_TIMEOUT;
        let mut result = Err(BrokerError::TimedOut);
        for stream in self.in_turn().take(ATTEMPTS_MAX) {
            let until = match self.streams.len() {
                1 => deadline,
                _ => deadline.min(Instant::now() + ATTEMPT_TIMEOUT),
            };
            result = stream.append(events, self.replicas_ack, until).await;
            match &result {
                Ok(()) => break,
                Err(error) if self.streams.len() > 1 => stream.avoid(error),
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        result
    }

    /// All streams, another one first each time, and those last that have failed a moment ago.
    fn in_turn(&self) -> impl Iterator<Item = &Stream> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.streams.len().max(1);
        let mut streams: Vec<&Stream> = self.streams.iter().collect();
        streams.rotate_left(first);
        let now = Instant::now();
        streams.sort_by_key(|stream| stream.is_avoided(now));
        streams.into_iter()
    }

    /// Entries of the streams.
    pub async fn depth(&self) -> Depth {
        let depths = join_all(self.streams.iter().map(Stream::depth)).await;
        Depth {
            entries: depths.iter().flatten().sum(),
            is_complete: depths.iter().all(Result::is_ok),
        }
    }

    /// Whether the broker answers; in a cluster, for each of the streams.
    pub async fn ping(&self) -> bool {
        match self.streams.first() {
            Some(stream) if !self.is_cluster => stream.ping().await.is_ok(),
            _ => self.depth().await.is_complete,
        }
    }
}

impl Stream {
    async fn append(
        &self,
        events: &[Event],
        wanted: u32,
        deadline: Instant,
    ) -> Result<(), BrokerError> {
        let appends = appends(&self.key, events);
        let replicas: u32 = self
            .appending
            .ask(deadline, async |mut connection| {
                appends.query_async::<()>(&mut connection).await?;
                if wanted == 0 {
                    return Ok(0);
                }
                // It counts the replicas that have what this connection has written; on a connection
                // that has written nothing that is all of them.
                redis::cmd("WAIT")
                    .arg(wanted)
                    .arg(wait_ms(deadline))
                    .query_async(&mut connection)
                    .await
            })
            .await?;
        match replicas < wanted {
            true => Err(BrokerError::NotReplicated { replicas, wanted }),
            false => Ok(()),
        }
    }

    fn is_avoided(&self, now: Instant) -> bool {
        let until = self.avoided_until.lock();
        until
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|until| until > now)
    }

    fn avoid(&self, error: &BrokerError) {
        let now = Instant::now();
        if self.is_avoided(now) {
            return;
        }
        *self
            .avoided_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(now + AVOIDED_FOR);
        tracing::warn!(stream = self.key, %error, "failed to append, other streams go first for a while");
    }

    async fn depth(&self) -> Result<u64, BrokerError> {
        let asked = self.asking.ask(soon(), async |mut connection| {
            let mut question = redis::cmd("XLEN");
            question.arg(&self.key).query_async(&mut connection).await
        });
        asked.await
    }

    async fn ping(&self) -> Result<Value, BrokerError> {
        let asked = self.asking.ask(soon(), async |mut connection| {
            redis::cmd("PING").query_async(&mut connection).await
        });
        asked.await
    }
}

fn soon() -> Instant {
    Instant::now() + QUESTION_TIMEOUT
}

/// One transaction: all of the events are appended, or none.
fn appends(stream: &str, events: &[Event]) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    for event in events {
        pipeline
            .cmd("XADD")
            .arg(stream)
            .arg("*")
            .arg(EVENT_FIELD)
            .arg(entry::text_of(event))
            .ignore();
    }
    pipeline
}

/// How long replicas may take, so that their number is known before the deadline. Never 0, which
/// Redis takes for ever.
fn wait_ms(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(Instant::now());
    u64::try_from((left * 3 / 4).as_millis()).map_or(1, |ms| ms.max(1))
}
