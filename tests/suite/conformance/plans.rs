//! How Postgres finds a key, whatever it believes of the table.

use super::{append, batch, event, open_remembering};
use crate::support::{Database, Engine, eventually};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Of a table in which each topic has one event, as it may be when Postgres analyzes it for the first time, it
/// believes that a topic names the event as well as its key does.
#[tokio::test]
async fn keys_are_found_by_the_primary_key_where_each_topic_has_one_event() {
    let database = Database::create(Engine::Postgres).await;
    // Nothing is remembered, so everything is looked up and compared.
    let store = open_remembering(database.url(), 0);
    let mut writer = store.writers.connect(0).await.unwrap();
    let each = (0..60).map(|number| event(&format!("t{number}"), "1", "x"));
    append(&mut *writer, &[batch(each.collect())]).await;
    database.execute("analyze processed_events").await;
    drop(writer);

    let mut writer = store.writers.connect(0).await.unwrap();
    for number in 0..20 {
        let repeat = event(&format!("t{number}"), "1", "x");
        let new = event("t1", &format!("new {number}"), "x");
        append(&mut *writer, &[batch(vec![repeat, new])]).await;
    }
    // It counts for good when a connection ends.
    drop(writer);
    let by_key = "select idx_scan from pg_stat_user_indexes \
                  where indexrelname = 'processed_events_pkey'";
    eventually("all look-ups are counted", PATIENCE, async || {
        database.number(by_key).await >= 60
    })
    .await;
    let by_topic = "select idx_scan from pg_stat_user_indexes \
                    where indexrelname = 'processed_events_of_topic_in_order'";
    assert_eq!(database.number(by_topic).await, 0);
}
