//! The RedisBridgeActor: keeps a session with the broker and hands what it reads to the actors.

use super::stream::{Entry, StreamConnection, StreamNames};
use crate::{
    actors::{ActorStatus, AppendError, Crash, DeadLetterClient, IngestClient},
    domain::{Event, EventBatch, NewDeadLetter},
    wire,
};
use actix::{Actor, AsyncContext, Context, Handler, Message, Supervised, WrapFuture};
use futures_util::{StreamExt, TryStreamExt, stream};
use redis::{Client, RedisError};
use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::sleep};

/// The field of an entry that holds the event.
pub(super) const EVENT_FIELD: &str = "event";

/// Entries in one batch; no more than a batch of events may have.
const READ_ENTRIES_MAX: usize = 1000;
/// What one read should bring, so that large entries come a few at a time.
const READ_BYTES_GOAL: usize = 4 << 20;
/// Batches that are stored at the same time.
const BATCHES_IN_FLIGHT_MAX: usize = 4;
/// Before a second attempt to connect; doubles up to the next.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Before an event is handed to a database again that did not take it in time.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// The numbers and names of the bridge.
#[derive(Debug, Clone)]
pub struct BridgeSettings {
    /// What is read.
    pub names: StreamNames,
    /// An entry that another consumer has held for that long without acknowledging it is taken
    /// over. Looked for twice in that time.
    pub takeover_after: Duration,
    /// A larger entry becomes a dead letter.
    pub entry_bytes_max: usize,
}

/// Reads the broker's stream.
pub struct RedisBridgeActor {
    status: ActorStatus,
    bridge: Arc<Bridge>,
}

struct Bridge {
    status: ActorStatus,
    client: Client,
    settings: BridgeSettings,
    ingest: IngestClient,
    dead_letters: DeadLetterClient,
    entries_in_flight: Arc<AtomicUsize>,
    is_paused: AtomicBool,
}

/// Begin nothing new: the process is going down. What is in flight is stored and acknowledged;
/// what was read and not begun stays pending, for the next start or another consumer.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Pause;

impl RedisBridgeActor {
    /// An actor that connects when it is started. `entries_in_flight` counts the entries that are
    /// being stored, which are both in the stream and in the actors.
    pub fn new(
        status: ActorStatus,
        client: Client,
        settings: BridgeSettings,
        ingest: IngestClient,
        dead_letters: DeadLetterClient,
        entries_in_flight: Arc<AtomicUsize>,
    ) -> Self {
        let bridge = Bridge {
            status: status.clone(),
            client,
            settings,
            ingest,
            dead_letters,
            entries_in_flight,
            is_paused: AtomicBool::new(false),
        };
        Self {
            status,
            bridge: Arc::new(bridge),
        }
    }
}

impl Actor for RedisBridgeActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // Everything that must survive is pending in Redis, so the sessions may die with the actor.
        let bridge = Arc::clone(&self.bridge);
        ctx.spawn(async move { bridge.run().await }.into_actor(self));
    }
}

impl Supervised for RedisBridgeActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.status.set_connected(false);
    }
}

impl Handler<Crash> for RedisBridgeActor {
    type Result = ();

    fn handle(&mut self, crash: Crash, ctx: &mut Context<Self>) {
        self.status.obey(crash, ctx);
    }
}

impl Handler<Pause> for RedisBridgeActor {
    type Result = ();

    fn handle(&mut self, _: Pause, _: &mut Context<Self>) {
        self.bridge.is_paused.store(true, Ordering::Relaxed);
    }
}

impl Bridge {
    /// One session after the other, for ever.
    async fn run(&self) {
        let mut pause = RECONNECT_PAUSE_MIN;
        let mut is_first_failure = true;
        loop {
            let Err(error) = self.session().await;
            let was_connected = self.status.is_connected();
            self.status.set_connected(false);
            if was_connected {
                pause = RECONNECT_PAUSE_MIN;
                is_first_failure = true;
            }
            if is_first_failure {
                tracing::warn!(%error, "lost the broker, trying again until it is back");
                is_first_failure = false;
            }
            sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
        }
    }

    /// Reads, stores and acknowledges until something fails.
    async fn session(&self) -> Result<Infallible, RedisError> {
        let names = &self.settings.names;
        let reading = StreamConnection::open(&self.client, names).await?;
        let mut acknowledging = StreamConnection::open(&self.client, names).await?;
        acknowledging.ensure_group().await?;
        self.status.set_connected(true);
        tracing::info!(
            stream = names.stream,
            consumer = names.consumer,
            "connected to the broker"
        );
        let (batches, waiting) = mpsc::channel(1);
        tokio::try_join!(
            self.read(reading, batches.clone()),
            self.take_over(acknowledging.clone(), batches),
            self.store_all(acknowledging, waiting),
        )
        .map(|(read, _, _)| read)
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
            count = next_count(&entries);
            self.hand_over(&batches, entries).await?;
        }
        loop {
            let entries = connection.read_new(count).await?;
            if entries.is_empty() {
                continue;
            }
            count = next_count(&entries);
            self.hand_over(&batches, entries).await?;
        }
    }

    /// Now and then, what another consumer has held for too long.
    async fn take_over(
        &self,
        mut connection: StreamConnection,
        batches: mpsc::Sender<Vec<Entry>>,
    ) -> Result<Infallible, RedisError> {
        let idle = self.settings.takeover_after;
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
        if self.is_paused.load(Ordering::Relaxed) {
            return pending().await;
        }
        let closed = |_| RedisError::from((redis::ErrorKind::Io, "the session has ended"));
        batches.send(entries).await.map_err(closed)
    }

    async fn store_all(
        &self,
        acknowledging: StreamConnection,
        waiting: mpsc::Receiver<Vec<Entry>>,
    ) -> Result<(), RedisError> {
        let batches = stream::unfold(waiting, |mut waiting| async {
            waiting.recv().await.map(|entries| (entries, waiting))
        });
        batches
            .map(Ok)
            .try_for_each_concurrent(BATCHES_IN_FLIGHT_MAX, |entries| {
                let mut acknowledging = acknowledging.clone();
                async move {
                    if self.is_paused.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    let _in_flight = CountGuard::new(&self.entries_in_flight, entries.len());
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
        let Some((_, json)) = fields
            .iter()
            .find(|(name, _)| name == EVENT_FIELD.as_bytes())
        else {
            let joined: Vec<u8> = fields
                .into_iter()
                .flat_map(|(name, value)| [name, b"=".to_vec(), value, b"\n".to_vec()].concat())
                .collect();
            return Err(letter("the entry has no field named event", &joined));
        };
        if json.len() > self.settings.entry_bytes_max {
            let max = self.settings.entry_bytes_max;
            return Err(letter(
                &format!("the event has more than {max} bytes"),
                json,
            ));
        }
        wire::event_from_json(json.clone().into()).map_err(|error| letter(&error.to_string(), json))
    }

    fn origin(&self, id: &str) -> String {
        format!("{}/{id}", self.settings.names.stream)
    }

    /// Stores events, for as long as it takes. Returns those that the database will never take.
    async fn append(&self, events: Vec<(String, Event)>) -> Vec<NewDeadLetter> {
        let batch = events.iter().map(|(_, event)| event.clone()).collect();
        if self.append_batch(batch).await.is_ok() {
            return Vec::new();
        }
        let mut letters = Vec::new();
        for (id, event) in events {
            let json = wire::event_to_json(&event);
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
            let admission = self.ingest.admission();
            let room = admission.admit_waiting(batch.events().len(), batch.size_bytes());
            let Ok(permit) = room.await else {
                sleep(RETRY_PAUSE).await;
                continue;
            };
            let deadline = self.ingest.deadline();
            match self
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
        while let Err(error) = self.dead_letters.keep(letters).await {
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
}

/// How many entries to ask for next, after these.
fn next_count(entries: &[Entry]) -> usize {
    let bytes: usize = entries.iter().map(Entry::size_bytes).sum();
    let mean = bytes / entries.len().max(1);
    (READ_BYTES_GOAL / mean.max(1)).clamp(1, READ_ENTRIES_MAX)
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
