//! The memory of recent keys changes no answer: a store with it, one with a memory so small that it
//! forgets all the time, and one without any are given the same groups, while rows are deleted and
//! changed by hand in between, and by retention.

use super::{
    batch, event_with, open_remembering,
    retention::{PATIENCE, ROWS_MAX, rules, run},
};
use crate::support::{Database, Engine, eventually};
use oncelog::{
    domain::{
        Event, EventBatch, Expiry, Outcome, RetentionMode, RetentionRule, Topic, TopicPattern,
    },
    store::{EventWriter, Store, StoreError, Totals, TxnId},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{sync::Arc, time::Duration};

on_both_engines!(
    with_and_without_memory_every_outcome_is_the_same,
    a_recalled_duplicate_says_when_its_key_was_stored,
    a_conflict_with_what_another_replica_stored_after_a_deletion_is_found,
    a_key_that_is_taken_where_no_look_up_expected_it_is_answered_as_ever,
);

/// One content in two spellings, and another one.
const PAYLOADS: [&str; 3] = [r#"{"n":1,"m":[2]}"#, r#"{ "m":[2], "n":1 }"#, r#"{"n":2}"#];
const SOME_DELETED: &str = "delete from processed_events where event_id in ('1', '3', '5')";

fn by_hand(engine: Engine) -> [&'static str; 4] {
    [
        "delete from processed_events where topic = 't0'",
        SOME_DELETED,
        "update processed_events set payload = '{\"n\":2}' where event_id = '2'",
        match engine {
            Engine::Postgres => "truncate processed_events",
            // No trigger is called for what this deletes.
            Engine::Sqlite => {
                "insert or replace into processed_events \
                     (topic, event_id, timestamp, source, payload, processed_at, txn) \
                 select topic, event_id, timestamp, source, '{\"n\":2}', processed_at, txn \
                 from processed_events where event_id in ('4', '6')"
            }
        },
    ]
}

struct Subject {
    store: Store,
    database: Database,
    writers: Vec<Box<dyn EventWriter>>,
}

impl Subject {
    async fn open(engine: Engine, keys_max: usize) -> Self {
        let database = Database::create(engine).await;
        let store = open_remembering(database.url(), keys_max);
        let writers = vec![
            store.writers.connect(0).await.unwrap(),
            store.writers.connect(1).await.unwrap(),
        ];
        Self {
            store,
            database,
            writers,
        }
    }

    /// The outcomes, by request and by event.
    async fn append(&mut self, writer: usize, group: &[Arc<EventBatch>]) -> Vec<Vec<Outcome>> {
        let writer = &mut self.writers[writer];
        let receipts = loop {
            match writer.append(TxnId::random(), group).await {
                Ok(receipts) => break receipts,
                Err(StoreError::Contention(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        };
        let receipts = receipts.iter();
        receipts.map(|receipts| super::outcomes(receipts)).collect()
    }

    /// Deletes all that there is of a topic, by its age.
    async fn expire(&self) {
        let rules = rules(vec![RetentionRule {
            pattern: TopicPattern::Exact(Topic::parse("t0".to_owned()).unwrap()),
            expiry: Some(Expiry {
                age: Duration::from_secs(1),
                mode: RetentionMode::Delete,
            }),
        }]);
        eventually("the topic is empty", PATIENCE, async || {
            run(&self.store, &rules, ROWS_MAX).await;
            let left = "select count(*) from processed_events where topic = 't0'";
            self.database.number(left).await == 0
        })
        .await;
    }

    async fn totals(&self) -> Totals {
        Totals {
            last_updated: None,
            retention_run_at: None,
            ..self.store.reader.totals().await.unwrap()
        }
    }
}

fn draw(random: &mut StdRng) -> Event {
    let topic = format!("t{}", random.random_range(0..3));
    let event_id = random.random_range(0..8).to_string();
    event_with(&topic, &event_id, PAYLOADS[random.random_range(0..3)])
}

async fn with_and_without_memory_every_outcome_is_the_same(engine: Engine) {
    let seed = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let mut without = Subject::open(engine, 0).await;
    let mut little = Subject::open(engine, 4).await;
    let mut ample = Subject::open(engine, 1000).await;
    for step in 0..150 {
        if random.random_bool(0.1) {
            let statement = by_hand(engine)[random.random_range(0..4)];
            for subject in [&without, &little, &ample] {
                subject.database.execute(statement).await;
            }
        }
        if random.random_bool(0.05) {
            for subject in [&without, &little, &ample] {
                subject.expire().await;
            }
        }
        let writer = random.random_range(0..2);
        let group: Vec<_> = (0..random.random_range(1..4))
            .map(|_| {
                let events = 0..random.random_range(1..6);
                batch(events.map(|_| draw(&mut random)).collect())
            })
            .collect();
        let expected = without.append(writer, &group).await;
        assert_eq!(
            little.append(writer, &group).await,
            expected,
            "seed {seed}, step {step}"
        );
        assert_eq!(
            ample.append(writer, &group).await,
            expected,
            "seed {seed}, step {step}"
        );
    }
    let expected = without.totals().await;
    assert_eq!(little.totals().await, expected, "seed {seed}");
    assert_eq!(ample.totals().await, expected, "seed {seed}");
}

async fn a_recalled_duplicate_says_when_its_key_was_stored(engine: Engine) {
    let mut subject = Subject::open(engine, 1000).await;
    let group = [batch(vec![event_with("t", "1", "{}")])];
    let [first, second] = &mut subject.writers[..] else {
        panic!("two writers");
    };
    let stored = super::append(&mut **first, &group).await;
    let repeated = super::append(&mut **second, &group).await;
    assert_eq!(repeated[0][0].outcome, Outcome::Duplicate);
    assert_eq!(repeated[0][0].processed_at, stored[0][0].processed_at);
}

/// Each replica has its own memory; only the database knows what the others have stored.
async fn a_conflict_with_what_another_replica_stored_after_a_deletion_is_found(engine: Engine) {
    let subject = Subject::open(engine, 1000).await;
    let other = open_remembering(subject.database.url(), 1000);
    let mut here = subject.store.writers.connect(2).await.unwrap();
    let mut there = other.writers.connect(2).await.unwrap();
    let ours = [batch(vec![event_with("t", "1", PAYLOADS[0])])];
    let theirs = [batch(vec![event_with("t", "1", PAYLOADS[2])])];
    super::append(&mut *here, &ours).await;
    subject.database.execute(SOME_DELETED).await;
    let stored = super::append(&mut *there, &theirs).await;
    assert_eq!(stored[0][0].outcome, Outcome::Stored);
    if matches!(engine, Engine::Postgres) {
        // SQLite is told within the transaction, before it relies on anything.
        assert!(matches!(
            here.append(TxnId::random(), &ours).await,
            Err(StoreError::Contention(_))
        ));
    }
    let answered = super::append(&mut *here, &ours).await;
    assert_eq!(answered[0][0].outcome, Outcome::Conflict);
}

/// After many groups in which no key was taken, keys are inserted without being looked up first. Then come
/// some that another replica has stored, and that this one cannot remember.
async fn a_key_that_is_taken_where_no_look_up_expected_it_is_answered_as_ever(engine: Engine) {
    let mut subject = Subject::open(engine, 1000).await;
    let other = open_remembering(subject.database.url(), 1000);
    let mut other = other.writers.connect(0).await.unwrap();
    let new = |id: String| event_with("t0", &id, PAYLOADS[0]);
    let (mut unique, mut received) = (0, 0);
    for (round, clean) in [64, 128, 256].into_iter().enumerate() {
        let foreign = new(format!("foreign {round}"));
        let group = [batch(vec![foreign.clone()])];
        other.append(TxnId::random(), &group).await.unwrap();
        for number in 0..clean {
            let group = [batch(vec![new(format!("{round} {number}"))])];
            assert_eq!(subject.append(0, &group).await, [[Outcome::Stored]]);
        }
        let own = new(format!("own {round}"));
        let conflict = event_with("t0", foreign.event_id().as_str(), PAYLOADS[2]);
        let group = [
            batch(vec![foreign.clone(), own.clone()]),
            batch(vec![conflict, own]),
        ];
        let outcomes = subject.append(0, &group).await;
        let expected = [
            [Outcome::Duplicate, Outcome::Stored],
            [Outcome::Conflict, Outcome::Duplicate],
        ];
        assert_eq!(outcomes, expected, "round {round}");
        unique += clean + 2;
        received += clean + 5;
        let totals = subject.totals().await;
        assert_eq!(
            (totals.received, totals.unique_processed),
            (received, unique)
        );
        assert_eq!(totals.conflicts, 1 + round as u64);
    }
    if matches!(engine, Engine::Sqlite) {
        return;
    }
    // Postgres counts for good when a connection ends.
    subject.writers.clear();
    let tried = "select xact_rollback from pg_stat_database where datname = current_database()";
    eventually(
        "each insert that did not look has failed",
        PATIENCE,
        async || subject.database.number(tried).await >= 3,
    )
    .await;
}
