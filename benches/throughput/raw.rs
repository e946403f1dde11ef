//! The rival: what the database does with the same events when nobody stands before it. Rows are
//! built and sorted before the clock starts, and nothing is counted or answered. Used by `rounds`.

use crate::{
    events::Source,
    load::{Clock, Measured},
    meters::Meters,
};
use anyhow::{Result, ensure};
use chrono::{DateTime, Utc};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};
use tokio::task::JoinSet;

const BATCH_ROWS: usize = 1000;

/// How the rows go in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawShape {
    pub(crate) connections: u32,
    /// Of a statement, which is a transaction of its own.
    pub(crate) rows: u64,
}

/// What the tables call raw: about the most that the database can do.
pub(crate) const RAW: RawShape = RawShape {
    connections: 2,
    rows: BATCH_ROWS as u64,
};

/// The columns of one batch, in the order of its keys.
struct Batch {
    topics: Vec<String>,
    event_ids: Vec<String>,
    timestamps: Vec<DateTime<Utc>>,
    sources: Vec<String>,
    payloads: Vec<String>,
    places: Vec<i32>,
}

impl Batch {
    fn draw(source: &Source, rows: usize) -> Result<Self> {
        let mut events = Vec::with_capacity(rows);
        for _ in 0..rows {
            let event = source.draw();
            let topic = text(|out| event.write_topic(out))?;
            let event_id = text(|out| event.write_event_id(out))?;
            events.push((topic, event_id, event));
        }
        events.sort_unstable_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let mut batch = Self {
            topics: Vec::with_capacity(rows),
            event_ids: Vec::with_capacity(rows),
            timestamps: Vec::with_capacity(rows),
            sources: Vec::with_capacity(rows),
            payloads: Vec::with_capacity(rows),
            places: (0..i32::try_from(rows)?).collect(),
        };
        for (topic, event_id, event) in events {
            let timestamp_us = i64::try_from(event.timestamp_us())?;
            batch.topics.push(topic);
            batch.event_ids.push(event_id);
            batch
                .timestamps
                .push(DateTime::from_timestamp_micros(timestamp_us).unwrap_or_default());
            batch.sources.push(text(|out| event.write_source(out))?);
            batch.payloads.push(text(|out| event.write_payload(out))?);
        }
        Ok(batch)
    }

    async fn insert(&self, connection: &mut PgConnection) -> Result<u64> {
        let done = sqlx::query(
            "insert into processed_events (topic, event_id, timestamp, source, payload, txn, seq) \
             select e.topic, e.event_id, e.timestamp, e.source, e.payload::jsonb, \
                    (select pg_current_xact_id()::text::bigint), e.seq \
             from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::int[]) \
                  as e (topic, event_id, timestamp, source, payload, seq) \
             on conflict do nothing",
        )
        .bind(&self.topics)
        .bind(&self.event_ids)
        .bind(&self.timestamps)
        .bind(&self.sources)
        .bind(&self.payloads)
        .bind(&self.places)
        .execute(connection)
        .await?;
        Ok(done.rows_affected())
    }
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> Result<String> {
    let mut out = Vec::new();
    write(&mut out);
    Ok(String::from_utf8(out)?)
}

fn draw_batches(source: &Source, rows: u64, batch: u64) -> Result<Vec<Batch>> {
    (0..rows.div_ceil(batch))
        .map(|_| Batch::draw(source, usize::try_from(batch)?))
        .collect()
}

/// Inserts batches until the clock is over, or `rows_max` are inserted.
pub(crate) async fn postgres(
    options: &PgConnectOptions,
    shape: RawShape,
    source: &Source,
    rows_max: u64,
    clock: Clock,
    meters: Meters,
) -> Result<Measured> {
    let batches = Arc::new(draw_batches(source, rows_max, shape.rows)?);
    let mut connections = Vec::new();
    for _ in 0..shape.connections {
        connections.push(options.connect().await?);
    }
    let from = Instant::now() + clock.warmup;
    let until = from + clock.measured;
    let next = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for mut connection in connections {
        let (batches, next) = (Arc::clone(&batches), Arc::clone(&next));
        writers.spawn(async move {
            let mut rows = 0;
            let mut last = from;
            while Instant::now() < until {
                let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    break;
                };
                batch.insert(&mut connection).await?;
                let done = Instant::now();
                if from <= done && done < until {
                    rows += shape.rows;
                    last = done;
                }
            }
            connection.close().await?;
            anyhow::Ok((rows, last))
        });
    }
    tokio::time::sleep_until(from.into()).await;
    let before = meters.read()?;
    let mut measured = Measured::default();
    let mut last = from;
    while let Some(writer) = writers.join_next().await {
        let (rows, done) = writer??;
        measured.events += rows;
        last = last.max(done);
    }
    measured.cpu = meters.read()?.since(before);
    // Rows that ran out end the round early.
    let ran_out = next.load(Ordering::Relaxed) > batches.len();
    measured.elapsed = if ran_out { last - from } else { clock.measured };
    ensure!(
        measured.events > 0,
        "no raw batch ended in the measured time"
    );
    Ok(measured)
}

/// Inserts batches over the one connection that SQLite lets write: one prepared statement of 1000 rows,
/// which is a transaction of its own. Like the rival on Postgres it counts nothing.
pub(crate) async fn sqlite(
    file: &Path,
    source: &Source,
    rows_max: u64,
    clock: Clock,
    meters: Meters,
) -> Result<Measured> {
    let batches = draw_batches(source, rows_max, RAW.rows)?;
    let mut connection = open_sqlite(file).await?;
    // Or ignore: with `on conflict do nothing` SQLite prepares for undoing a part of the statement.
    let insert = format!(
        "insert or ignore into processed_events \
             (topic, event_id, timestamp, source, payload, processed_at, txn) values {}",
        vec!["(?,?,?,?,?,?,?)"; BATCH_ROWS].join(",")
    );
    let from = Instant::now() + clock.warmup;
    let until = from + clock.measured;
    let mut measured = Measured::default();
    let mut before = meters.read()?;
    let mut began = Instant::now();
    let mut last = began;
    for (txn, batch) in (1_i64..).zip(&batches) {
        let now_us = Utc::now().timestamp_micros();
        let mut query = sqlx::query(AssertSqlSafe(insert.as_str()));
        for row in 0..BATCH_ROWS {
            query = query
                .bind(&batch.topics[row])
                .bind(&batch.event_ids[row])
                .bind(batch.timestamps[row].timestamp_micros())
                .bind(&batch.sources[row])
                .bind(&batch.payloads[row])
                .bind(now_us)
                .bind(txn);
        }
        query.execute(&mut connection).await?;
        last = Instant::now();
        if last >= until {
            break;
        }
        if last < from {
            (before, began) = (meters.read()?, last);
        } else {
            measured.events += RAW.rows;
        }
    }
    measured.elapsed = last - began;
    measured.cpu = meters.read()?.since(before);
    connection.close().await?;
    ensure!(
        measured.events > 0,
        "no raw batch ended in the measured time"
    );
    Ok(measured)
}

/// The file as the service's writer opens it.
pub(crate) async fn open_sqlite(file: &Path) -> Result<SqliteConnection> {
    Ok(SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "4000")
        .pragma("cache_size", "-32768")
        .disable_statement_logging()
        .connect()
        .await?)
}
