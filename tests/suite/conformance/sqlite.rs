//! What only a file can do to its users: it is not there yet, and another process has it locked.

use super::{append, batch, event, open, outcomes};
use oncelog::{
    domain::Outcome::{Duplicate, Stored},
    store::{StoreError, TxnId},
};
use sqlx::{Connection, SqliteConnection};

#[tokio::test]
async fn the_file_and_the_directories_above_it_are_made() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("not/there yet/events.db");
    let store = open(&format!("sqlite://{}", file.display()));
    store.reader.ping().await.unwrap();
    assert!(file.exists());
}

#[tokio::test]
async fn a_lock_of_another_process_is_contention_and_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/events.db", directory.path().display());
    let store = open(&url);
    let mut writer = store.writers.connect(0).await.unwrap();
    let group = [batch(vec![event("t", "1", "a")])];
    let mut other = SqliteConnection::connect(&url).await.unwrap();
    let lock = other.begin_with("begin immediate").await.unwrap();
    let error = writer.append(TxnId::random(), &group).await.unwrap_err();
    assert!(matches!(error, StoreError::Contention(_)), "{error:?}");
    // Readers need no lock.
    assert_eq!(store.reader.totals().await.unwrap().received, 0);
    lock.rollback().await.unwrap();
    let receipts = append(&mut *writer, &group).await;
    assert_eq!(outcomes(&receipts[0]), [Stored]);
    let receipts = append(&mut *writer, &group).await;
    assert_eq!(outcomes(&receipts[0]), [Duplicate]);
}
