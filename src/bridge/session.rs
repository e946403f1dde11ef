//! A session with one stream of the broker: reads, stores, acknowledges, and begins anew when
//! something fails. Run by the bridge actor, one for each stream.

use super::{
    actor::Bridge,
    entry::{self, EVENT_FIELD},
    names::StreamNames,
    stream::{Entry, StreamConnection},
};
use crate::{
    actors::AppendError,
    domain::{Event, EventBatch, NewDeadLetter},
    wire,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use redis::RedisError;
use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::sleep};

/// Entries in one batch; no more than a batch of events may have.
const READ_ENTRIES_MAX: usize = 1000;
/// What one read should bring, so that large entries come a few at a time.
/// All streams share it.
const READ_BYTES_GOAL: usize = 4 << 20;
/// The least of it that a stream has.
const READ_BYTES_GOAL_MIN: usize = 256 << 10;
/// Batches that are stored at the same time, over all streams.
pub(super) const BATCHES_IN_FLIGHT_MAX: usize = 4;
/// Before a second attempt to connect; doubles up to the next.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// A session that ends sooner has done nothing of use: what it is about, Redis refuses.
const PROVEN_AFTER: Duration = Duration::from_secs(1);
/// Before an event is handed to a database again that did not take it in time.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// What reads one stream.
pub(super) struct Session<'a> {
    pub(super) bridge: &'a Bridge,
    pub(super) names: &'a StreamNames,
}

/// How far a session has come.
#[derive(Default)]
struct Progress {
    /// Whether the one before had connected, and came to nothing all the same.
    is_doubtful: bool,
    has_connected: bool,
    is_proven: bool,
}

impl Session<'_> {
    /// One session after the other, for ever.
    pub(super) async fn keep_up(&self) -> Infallible {
        let mut pause = RECONNECT_PAUSE_MIN;
        let mut said = None;
        let mut progress = Progress::default();
        loop {
            progress = Progress {
                is_doubtful: progress.has_connected && !progress.is_proven,
                ..Progress::default()
            };
            let Err(error) = self.hold(&mut progress).await;
            if progress.is_proven {
                pause = RECONNECT_PAUSE_MIN;
                said = None;
            }
            // Once for each way in which it fails.
            let why = Some(error.to_string());
            if said != why {
                let stream = &self.names.stream;
                tracing::warn!(%error, stream, "lost the broker, trying again until it is back");
                said = why;
            }
            sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
        }
    }

    /// Reads, stores and acknowledges until something fails.
    async fn hold(&self, progress: &mut Progress) -> Result<Infallible, RedisError> {
        let (nodes, names) = (&self.bridge.nodes, self.names);
        let reading = StreamConnection::open(nodes, names).await?;
        let mut acknowledging = StreamConnection::open(nodes, names).await?;
        acknowledging.ensure_group().await?;
        progress.has_connected = true;
        let (batches, waiting) = mpsc::channel(1);
        tokio::try_join!(
            self.read(reading, batches.clone()),
            self.take_over(acknowledging.clone(), batches),
            self.store_all(acknowledging, waiting),
            self.be_connected(progress),
        )
        .map(|(read, _, _, _)| read)
    }

    /// Counts as connected while it lives: at once, or where the session before came to nothing, when this one has
    /// come to something.
    async fn be_connected(&self, progress: &mut Progress) -> Result<Infallible, RedisError> {
        let names = self.names;
        let connect = || {
            tracing::info!(
                stream = names.stream,
                consumer = names.consumer,
                "connected to the broker"
            );
            self.bridge.connected()
        };
        let at_once = (!progress.is_doubtful).then(connect);
        sleep(PROVEN_AFTER).await;
        progress.is_proven = true;
        let _connected = at_once.unwrap_or_else(connect);
        pending().await
    }

    /// First what this consumer left pending, then what is new.
    async fn read(
        &self,
        mut connection: StreamConnection,
        batches: mpsc::Sender<Vec<Entry>>,
    ) -> Result<Infallible, RedisError> {
        let mut count = READ_ENTRIES_MAX;
        let mut after = "0".to_owned();
        loop {
            let entries = connection.read_pending(&after, count).await?;
            let Some(last) = entries.last() else { break };
            after.clone_from(&last.id);
            count = self.next_count(&entries);
            self.hand_over(&batches, entries).await?;
        }
        loop {
            let entries = connection.read_new(count).await?;
            if entries.is_empty() {
                continue;
            }
            count = self.next_count(&entries);
            self.hand_over(&batches, entries).await?;
        }
    }

    /// Now and then, what another consumer has held for too long.
    async fn take_over(
        &self,
        mut connection: StreamConnection,
        batches: mpsc::Sender<Vec<Entry>>,
    ) -> Result<Infallible, RedisError> {
        let idle = self.bridge.settings.takeover_after;
        loop {
            sleep(idle / 2).await;
            let mut from = "0-0".to_owned();
            loop {
                let (next, entries) = connection.claim(idle, &from, READ_ENTRIES_MAX).await?;
                if !entries.is_empty() {
                    tracing::info!(
                        entries = entries.len(),
                        "took over entries of another consumer"
                    );
                    self.hand_over(&batches, entries).await?;
                }
                if next == "0-0" {
                    break;
                }
                from = next;
            }
        }
    }

    /// Gives entries to those who store them, when they have room; a paused bridge never does.
    async fn hand_over(
        &self,
        batches: &mpsc::Sender<Vec<Entry>>,
        entries: Vec<Entry>,
    ) -> Result<(), RedisError> {
        if self.bridge.is_paused.load(Ordering::Relaxed) {
            return pending().await;
        }
        let closed = |_| RedisError::from((redis::ErrorKind::Io, "the session has ended"));
        batches.send(entries).await.map_err(closed)
    }

    /// The streams take turns: each has one batch at most that waits for its turn.
    async fn store_all(
        &self,
        acknowledging: StreamConnection,
        waiting: mpsc::Receiver<Vec<Entry>>,
    ) -> Result<(), RedisError> {
        let batches = stream::unfold(waiting, |mut waiting| async {
            let entries = waiting.recv().await?;
            let turn = self.bridge.turns.acquire().await.ok()?;
            Some(((entries, turn), waiting))
        });
        batches
            .map(Ok)
            .try_for_each_concurrent(BATCHES_IN_FLIGHT_MAX, |(entries, turn)| {
                let mut acknowledging = acknowledging.clone();
                async move {
                    if self.bridge.is_paused.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    let _turn = turn;
                    let _in_flight = CountGuard::new(&self.bridge.entries_in_flight, entries.len());
                    let ids: Vec<String> = entries.iter().map(|entry| entry.id.clone()).collect();
                    self.store(entries).await;
                    acknowledging.acknowledge(&ids).await
                }
            })
            .await
    }

    /// Returns when each entry is either an event in the store or a dead letter.
    async fn store(&self, entries: Vec<Entry>) {
        let mut events = Vec::with_capacity(entries.len());
        let mut letters = Vec::new();
        for entry in entries {
            let Some(fields) = entry.fields else {
                continue;
            };
            match self.event(&entry.id, fields) {
                Ok(event) => events.push((entry.id, event)),
                Err(letter) => letters.push(*letter),
            }
        }
        if !events.is_empty() {
            letters.extend(self.append(events).await);
        }
        if !letters.is_empty() {
            self.keep(&letters).await;
        }
    }

    fn event(
        &self,
        id: &str,
        fields: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Event, Box<NewDeadLetter>> {
        let letter = |reason: &str, entry: &[u8]| {
            Box::new(NewDeadLetter::new(self.origin(id), reason, entry))
        };
        let mut events = fields
            .iter()
            .filter(|(name, _)| name == EVENT_FIELD.as_bytes());
        let (first, second) = (events.next(), events.next());
        let (Some((_, json)), None) = (first, second) else {
            let reason = match first {
                None => "the entry has no field named event",
                Some(_) => "the entry has more than one field named event",
            };
            let joined: Vec<u8> = fields
                .into_iter()
                .flat_map(|(name, value)| [name, b"=".to_vec(), value, b"\n".to_vec()].concat())
                .collect();
            return Err(letter(reason, &joined));
        };
        let limit = self.bridge.settings.entry_limit;
        if !limit.takes(json) {
            let max = limit.bytes_max();
            return Err(letter(
                &format!("the event has more than {max} bytes"),
                json,
            ));
        }
        wire::event_from_json(json.clone().into()).map_err(|error| letter(&error.to_string(), json))
    }

    fn origin(&self, id: &str) -> String {
        format!("{}/{id}", self.names.stream)
    }

    /// Stores events, for as long as it takes. Returns those that the database will never take.
    async fn append(&self, events: Vec<(String, Event)>) -> Vec<NewDeadLetter> {
        let batch = events.iter().map(|(_, event)| event.clone()).collect();
        if self.append_batch(batch).await.is_ok() {
            return Vec::new();
        }
        let mut letters = Vec::new();
        for (id, event) in events {
            let json = entry::text_of(&event);
            if self.append_batch(vec![event]).await.is_err() {
                let reason = "the database refused the event";
                letters.push(NewDeadLetter::new(self.origin(&id), reason, &json));
            }
        }
        letters
    }

    async fn append_batch(&self, events: Vec<Event>) -> Result<(), AppendError> {
        let Ok(batch) = EventBatch::new(events).map(Arc::new) else {
            return Ok(());
        };
        loop {
            let admission = self.bridge.ingest.admission();
            let room = admission.admit_waiting(batch.events().len(), batch.size_bytes());
            let Ok(permit) = room.await else {
                sleep(RETRY_PAUSE).await;
                continue;
            };
            let deadline = self.bridge.ingest.deadline();
            match self
                .bridge
                .ingest
                .append(Arc::clone(&batch), permit, deadline)
                .await
            {
                Ok(_) => return Ok(()),
                Err(AppendError::Refused) => return Err(AppendError::Refused),
                Err(AppendError::TimedOut) => sleep(RETRY_PAUSE).await,
            }
        }
    }

    async fn keep(&self, letters: &[NewDeadLetter]) {
        while let Err(error) = self.bridge.dead_letters.keep(letters).await {
            tracing::debug!(%error, "failed to keep dead letters, trying again");
            sleep(RETRY_PAUSE).await;
        }
        for letter in letters {
            tracing::warn!(
                origin = letter.origin(),
                reason = letter.reason(),
                "kept a dead letter"
            );
        }
    }

    /// How many entries to ask for next, after these.
    fn next_count(&self, entries: &[Entry]) -> usize {
        let goal = (READ_BYTES_GOAL / self.bridge.settings.streams.len()).max(READ_BYTES_GOAL_MIN);
        let bytes: usize = entries.iter().map(Entry::size_bytes).sum();
        let mean = bytes / entries.len().max(1);
        (goal / mean.max(1)).clamp(1, READ_ENTRIES_MAX)
    }
}

/// Adds to a count for as long as it lives.
struct CountGuard<'a> {
    count: &'a AtomicUsize,
    entries: usize,
}

impl<'a> CountGuard<'a> {
    fn new(count: &'a AtomicUsize, entries: usize) -> Self {
        count.fetch_add(entries, Ordering::Relaxed);
        Self { count, entries }
    }
}

impl Drop for CountGuard<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(self.entries, Ordering::Relaxed);
    }
}
