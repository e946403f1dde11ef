//! What events cost the database beside its time: bytes of its log by kind, of the table and of each
//! index, and on its connections. Used by `replicas` around the load of a round.

use crate::servers::{self, Postgres};
use anyhow::{Result, ensure};
use sqlx::{ConnectOptions, Row, postgres::PgConnectOptions};
use std::process::Command;

/// The written end of the log; everything answered is below it.
const LOG_END: &str = "select pg_current_wal_lsn()::text";
const SIZES: &str =
    "select pg_table_size('processed_events'), pg_database_size(current_database())";
/// The primary key first, then by name.
const INDEXES: &str = "select c.relname::text, pg_relation_size(c.oid) \
     from pg_index i join pg_class c on c.oid = i.indexrelid \
     where i.indrelid = 'processed_events'::regclass order by not i.indisprimary, c.relname";

/// The state at one moment.
pub(crate) struct Reading {
    log_end: String,
    table_bytes: i64,
    database_bytes: i64,
    indexes: Vec<(String, i64)>,
    traffic: Traffic,
}

/// Of the connections to a port that are open, what their clients have sent and received.
#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    sent_bytes: u64,
    received_bytes: u64,
}

/// What went by between two readings.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    pub(crate) log: Log,
    pub(crate) table_bytes: f64,
    /// By name, in the order of the readings.
    pub(crate) indexes: Vec<(String, f64)>,
    /// Of all other tables and their indexes.
    pub(crate) rest_bytes: f64,
    /// To the database and from it, without the heads of packets.
    pub(crate) sent_bytes: f64,
    pub(crate) received_bytes: f64,
}

/// Of the write-ahead log, in bytes. Whole pages that follow a checkpoint are apart from the records
/// that carry them.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) heap: f64,
    pub(crate) index: f64,
    pub(crate) others: f64,
    pub(crate) pages: f64,
    /// Transactions that have written.
    pub(crate) transactions: f64,
}

impl Reading {
    pub(crate) async fn take(postgres: &Postgres, options: &PgConnectOptions) -> Result<Self> {
        let traffic = Traffic::read(postgres.port())?;
        let mut connection = options.connect().await?;
        let sizes = sqlx::query(SIZES).fetch_one(&mut connection).await?;
        let indexes = sqlx::query(INDEXES).fetch_all(&mut connection).await?;
        let indexes = indexes
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        Ok(Self {
            log_end: sqlx::query_scalar(LOG_END)
                .fetch_one(&mut connection)
                .await?,
            table_bytes: sizes.try_get(0)?,
            database_bytes: sizes.try_get(1)?,
            indexes: indexes.collect::<Result<_>>()?,
            traffic,
        })
    }

    pub(crate) fn costs_since(&self, earlier: &Self, postgres: &Postgres) -> Result<Costs> {
        let stats = postgres.wal_stats(&earlier.log_end, &self.log_end)?;
        let table_bytes = self.table_bytes - earlier.table_bytes;
        let indexes: Vec<(String, f64)> = self
            .indexes
            .iter()
            .zip(&earlier.indexes)
            .map(|((name, bytes), (_, before))| (name.clone(), (bytes - before) as f64))
            .collect();
        let index_bytes: f64 = indexes.iter().map(|(_, bytes)| bytes).sum();
        let database_bytes = self.database_bytes - earlier.database_bytes;
        Ok(Costs {
            log: Log::parse(&stats)?,
            table_bytes: table_bytes as f64,
            rest_bytes: (database_bytes - table_bytes) as f64 - index_bytes,
            indexes,
            sent_bytes: (self.traffic.sent_bytes - earlier.traffic.sent_bytes) as f64,
            received_bytes: (self.traffic.received_bytes - earlier.traffic.received_bytes) as f64,
        })
    }
}

impl Traffic {
    /// The kernel's own count of each socket, from the side that has connected.
    fn read(port: u16) -> Result<Self> {
        let sockets =
            servers::run(Command::new("ss").args(["-tinHO", &format!("dport = :{port}")]))?;
        let mut traffic = Self::default();
        for word in sockets.split_whitespace() {
            if let Some(bytes) = word.strip_prefix("bytes_sent:") {
                traffic.sent_bytes += bytes.parse::<u64>()?;
            }
            if let Some(bytes) = word.strip_prefix("bytes_received:") {
                traffic.received_bytes += bytes.parse::<u64>()?;
            }
        }
        Ok(traffic)
    }
}

impl Log {
    /// Lines of `pg_waldump --stats`: kind, number, bytes of records, of pages, of both, with a share
    /// behind each.
    fn parse(stats: &str) -> Result<Self> {
        let mut log = Self::default();
        let mut seen = 0.0;
        for line in stats.lines() {
            let mut words = line.split_whitespace();
            let kind = words.next().unwrap_or_default();
            let numbers: Vec<f64> = words
                .filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()))
                .map(str::parse)
                .collect::<Result<_, _>>()?;
            let [number, records, pages, _] = numbers[..] else {
                continue;
            };
            if kind == "Total" {
                seen = records + pages;
                continue;
            }
            log.pages += pages;
            match kind {
                "Heap" | "Heap2" => log.heap += records,
                "Btree" => log.index += records,
                _ => log.others += records,
            }
            if kind == "Transaction" {
                log.transactions = number;
            }
        }
        let sum = log.bytes();
        ensure!(sum > 0.0 && sum == seen, "{sum} of {seen} bytes of log");
        Ok(log)
    }

    pub(crate) fn bytes(&self) -> f64 {
        self.heap + self.index + self.others + self.pages
    }
}

impl Costs {
    pub(crate) fn index_bytes(&self) -> f64 {
        self.indexes.iter().map(|(_, bytes)| bytes).sum()
    }
}
