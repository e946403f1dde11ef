//! What every engine behind the store's seam must do, claim by claim, on both. The only tests here
//! that call the library: a seam has no other side.

mod expiry;
mod fence;
mod folding;
mod memory;
mod payloads;
mod plans;
mod reading;
mod retention;
mod sqlite;
mod writing;

use crate::support::{Database, Engine};
use oncelog::{
    domain::{Event, EventBatch, EventId, Outcome, Payload, Receipt, Source, Timestamp, Topic},
    store::{self, EventWriter, GroupReceipts, Store, StoreOptions, TxnId},
};
use std::{sync::Arc, time::Duration};

/// A store on an empty database, which goes with it.
struct Fixture {
    store: Store,
    _database: Database,
}

impl Fixture {
    async fn open(engine: Engine) -> Self {
        let database = Database::create(engine).await;
        let store = open(database.url());
        Self {
            store,
            _database: database,
        }
    }

    async fn writer(&self) -> Box<dyn EventWriter> {
        self.store.writers.connect(0).await.unwrap()
    }
}

fn open(url: &str) -> Store {
    open_remembering(url, 1000)
}

fn open_remembering(url: &str, recent_keys_max: usize) -> Store {
    open_with(url, recent_keys_max, false)
}

fn open_with(url: &str, recent_keys_max: usize, is_pooled: bool) -> Store {
    let options = StoreOptions {
        read_connections_max: 2,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(20),
        is_pooled,
        is_citus: false,
        recent_keys_max,
    };
    store::open(url, options).unwrap()
}

/// Number, topic and id make the event; its payload follows from `says`.
fn event(topic: &str, event_id: &str, says: &str) -> Event {
    let payload = serde_json::json!({ "says": says }).to_string();
    event_with(topic, event_id, &payload)
}

fn event_with(topic: &str, event_id: &str, payload: &str) -> Event {
    Event::new(
        Topic::parse(topic.to_owned()).unwrap(),
        EventId::parse(event_id.to_owned()).unwrap(),
        Timestamp::parse("2026-01-31T12:00:00.123456Z").unwrap(),
        Source::parse("conformance").unwrap(),
        Payload::parse(payload.to_owned()).unwrap(),
    )
}

fn batch(events: Vec<Event>) -> Arc<EventBatch> {
    Arc::new(EventBatch::new(events).unwrap())
}

/// Stores a group and gives its receipts.
async fn append(writer: &mut dyn EventWriter, group: &[Arc<EventBatch>]) -> GroupReceipts {
    writer.append(TxnId::random(), group).await.unwrap()
}

fn outcomes(receipts: &[Receipt]) -> Vec<Outcome> {
    receipts.iter().map(|receipt| receipt.outcome).collect()
}
