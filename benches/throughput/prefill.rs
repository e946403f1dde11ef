//! Tables that are millions of rows long before the first round: built by the database itself, through
//! the schema and all of its indexes. Used by `rounds`.
#![expect(clippy::print_stderr, reason = "progress goes there")]

use crate::{events::Source, report::thousands};
use anyhow::Result;
use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::task::JoinSet;

const CONNECTIONS: usize = 2;
/// Rows of a transaction. Sorted, so many of them are inserted with few visits to each page.
const STEP_ROWS: u64 = 100_000;

/// The ids are as random as those of the rounds, so that new rows fall anywhere among these. The payload
/// is that of the rounds, with the number of the row in it, and is built after sorting: `offset 0`.
const FILL: &str = "insert into processed_events \
        (topic, event_id, timestamp, source, payload, txn, seq) \
    select e.topic, e.event_id, timestamptz '2025-01-01' + e.number * interval '1 microsecond', \
           'checkout-' || e.number % 10, \
           overlay($3 placing lpad((e.number % 1000000000)::text, 9, '0') from 11 for 9)::jsonb, \
           (select pg_current_xact_id()::text::bigint), (e.number - $1)::integer \
    from (select * from ( \
              select number, 'orders.region-' || lpad((number % 100)::text, 2, '0') as topic, \
                     md5(number::text) as event_id \
              from generate_series($1, $2 - 1) as number) as unsorted \
          order by topic collate \"C\", event_id collate \"C\" offset 0) as e";

/// As if a writer had counted the rows. Each on its own: `vacuum` wants no transaction around it.
const COUNT: [&str; 5] = [
    "insert into topics (topic) select distinct topic from processed_events on conflict do nothing",
    "insert into topic_stats (topic, slot, unique_count, duplicate_count, last_stored_at) \
     select topic, 1, count(*), 0, max(processed_at) from processed_events group by topic \
     on conflict (topic, slot) do update set \
         unique_count = excluded.unique_count, last_stored_at = excluded.last_stored_at",
    "insert into system_stats as s \
         (slot, received_count, unique_processed_count, topics_count) \
     select 1, sum(unique_count), sum(unique_count), count(*) from topic_stats \
     on conflict (slot) do update set \
         received_count = excluded.received_count, \
         unique_processed_count = excluded.unique_processed_count, \
         topics_count = excluded.topics_count",
    "vacuum (analyze) processed_events",
    "checkpoint",
];

/// Adds the rows with these numbers.
pub(crate) async fn prefill(options: &PgConnectOptions, rows: Range<u64>) -> Result<()> {
    let began = Instant::now();
    let mut payload = Vec::new();
    Source::new(0, 0.0).draw().write_payload(&mut payload);
    let payload: Arc<str> = String::from_utf8(payload)?.into();
    let next = Arc::new(AtomicU64::new(rows.start));
    let mut writers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut connection = options.connect().await?;
        sqlx::raw_sql("set work_mem = '256MB'")
            .execute(&mut connection)
            .await?;
        let (payload, next, end) = (Arc::clone(&payload), Arc::clone(&next), rows.end);
        writers.spawn(async move {
            loop {
                let first = next.fetch_add(STEP_ROWS, Ordering::Relaxed);
                if first >= end {
                    return anyhow::Ok(connection.close().await?);
                }
                sqlx::query(FILL)
                    .bind(i64::try_from(first)?)
                    .bind(i64::try_from((first + STEP_ROWS).min(end))?)
                    .bind(&*payload)
                    .execute(&mut connection)
                    .await?;
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let mut connection = options.connect().await?;
    for statement in COUNT {
        sqlx::raw_sql(statement).execute(&mut connection).await?;
    }
    eprintln!(
        "filled in {} rows in {:.0} s",
        thousands((rows.end - rows.start) as f64),
        began.elapsed().as_secs_f64()
    );
    Ok(connection.close().await?)
}
