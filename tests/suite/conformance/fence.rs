//! Writers behind a pooler, which cannot end their predecessor's connection: it is fenced off.

use super::{append, batch, event, open_with, outcomes};
use crate::support::{Database, Engine};
use oncelog::{
    domain::Outcome,
    store::{Store, StoreError, TxnId},
};

async fn unique(store: &Store) -> u64 {
    store.reader.totals().await.unwrap().unique_processed
}

#[tokio::test]
async fn what_an_earlier_session_sends_late_is_not_stored() {
    let database = Database::create(Engine::Postgres).await;
    let store = open_with(database.url(), 1000, true);
    let mut early = store.writers.connect(0).await.unwrap();
    let first = [batch(vec![event("t", "1", "x")])];
    append(&mut *early, &first).await;

    let mut next = store.writers.connect(0).await.unwrap();
    let late = [batch(vec![event("t", "2", "x")])];
    let txn = TxnId::random();
    let error = early.append(txn, &late).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert_eq!(unique(&store).await, 1);

    assert_eq!(next.settle(txn, &late).await.unwrap(), None);
    let receipts = append(&mut *next, &late).await;
    assert_eq!(outcomes(&receipts[0]), [Outcome::Stored]);
    assert_eq!(unique(&store).await, 2);
}

#[tokio::test]
async fn what_an_earlier_session_has_committed_is_found_by_the_next() {
    let database = Database::create(Engine::Postgres).await;
    let store = open_with(database.url(), 1000, true);
    let mut early = store.writers.connect(0).await.unwrap();
    let group = [batch(vec![event("t", "1", "x"), event("t", "1", "x")])];
    let txn = TxnId::random();
    let receipts = early.append(txn, &group).await.unwrap();
    drop(early);
    let mut next = store.writers.connect(0).await.unwrap();
    let settled = next.settle(txn, &group).await.unwrap().expect("committed");
    assert_eq!(outcomes(&settled[0]), outcomes(&receipts[0]));
    assert_eq!(next.settle(TxnId::random(), &group).await.unwrap(), None);
}

#[tokio::test]
async fn a_writer_in_the_middle_of_its_transaction_is_waited_for() {
    let database = Database::create(Engine::Postgres).await;
    let store = open_with(database.url(), 1000, true);
    for number in 0..20 {
        let mut early = store.writers.connect(0).await.unwrap();
        let id = number.to_string();
        let group = [batch(vec![event("t", &id, "x")])];
        let txn = TxnId::random();
        // Whichever of the two is first, the other one sees it.
        let (appended, next) = tokio::join!(early.append(txn, &group), store.writers.connect(0));
        let settled = next.unwrap().settle(txn, &group).await.unwrap();
        assert_eq!(appended.is_ok(), settled.is_some(), "{appended:?}");
        assert_eq!(
            appended.is_ok(),
            unique(&store).await == 1,
            "stored or not, as was said"
        );
        database.execute("delete from processed_events").await;
        database.execute("delete from system_stats").await;
    }
}
