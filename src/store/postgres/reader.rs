//! Reading from Postgres through a small pool. Used by HTTP through the seam.

use super::{
    Database,
    answers::{after_all_of, count, news, stored_event, topic_summary, totals},
    citus,
    pool::{Pools, Reading},
    replica::Replica,
    signals, within,
};
use crate::{
    domain::{
        Cursor, EventId, EventPage, EventQuery, Order, Source, StoredEvent, Timestamp, Topic,
    },
    store::{CommitSignal, EventReader, News, StoreError, StoreFuture, TopicSummary, Totals, page},
};
use sqlx::{Postgres, Row, postgres::PgRow, query::Query};
use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// Before the first look at whether the running transactions have ended; each further pause is twice as
/// long.
const RUNNING_PAUSE: Duration = Duration::from_millis(2);

pub(super) struct PostgresReader {
    database: Arc<Database>,
    pools: Pools,
    replica: Option<Replica>,
}

impl PostgresReader {
    pub(super) fn new(database: Arc<Database>, replica: Option<Replica>) -> Self {
        Self {
            pools: Pools::new(&database, &database.servers, "reader"),
            database,
            replica,
        }
    }

    /// A connection for one call, to a server which has our schema.
    pub(super) async fn begin(&self, what: &'static str) -> Result<Reading<'_>, StoreError> {
        let database = &self.database;
        database.servers.find().await?;
        database.migrate().await?;
        self.pools.begin(database, &database.servers, what).await
    }

    async fn events(
        &self,
        query: &EventQuery,
        mut reading: Reading<'_>,
    ) -> Result<EventPage, StoreError> {
        let is_on_citus = self.database.options.is_citus && query.order == Order::Ascending;
        let end = match is_on_citus {
            true => {
                let end = citus::oldest_running(&mut reading);
                Some(self.within("end", end).await?)
            }
            false => None,
        };
        let statement = match (query.order, &query.topic) {
            (Order::Ascending, None) if is_on_citus => citus::OLDEST_FIRST,
            (Order::Ascending, Some(_)) if is_on_citus => citus::OLDEST_FIRST_OF_TOPIC,
            (Order::Descending, None) => NEWEST_FIRST,
            (Order::Descending, Some(_)) => NEWEST_FIRST_OF_TOPIC,
            (Order::Ascending, None) => OLDEST_FIRST,
            (Order::Ascending, Some(_)) => OLDEST_FIRST_OF_TOPIC,
        };
        let start = match query.order {
            Order::Descending => Cursor {
                txn: i64::MAX,
                seq: i64::MAX,
            },
            Order::Ascending => Cursor::START,
        };
        let from = query.after.unwrap_or(start);
        let mut statement: Query<'_, Postgres, _> = reading
            .query(statement)
            .bind(from.txn)
            .bind(from.seq)
            .bind(query.source.as_ref().map(Source::as_str))
            .bind(query.since.map(Timestamp::to_chrono))
            .bind(query.until.map(Timestamp::to_chrono))
            // One more than asked for tells whether there is another page.
            .bind(i64::from(query.limit) + 1);
        if let Some(topic) = &query.topic {
            statement = statement.bind(topic.as_str());
        }
        if let Some(end) = end {
            statement = statement.bind(end);
        }
        let events = statement.try_map(stored_event).fetch(reading.connection());
        let found = self.within("page", page::collect(events)).await?;
        match found.is_cut {
            true => reading.break_off(),
            false => reading.end().await?,
        }
        Ok(EventPage::new(query, found.events, found.is_cut))
    }

    async fn summaries(
        &self,
        after: Option<&Topic>,
        limit: u32,
        mut reading: Reading<'_>,
    ) -> Result<Vec<TopicSummary>, StoreError> {
        let rows = reading
            .query(
                "with page as ( \
                 select topic, first_stored_at from topics \
                 where topic > $1 order by topic limit $2 \
             ), recent as ( \
                 select t.topic, sum(t.unique_count) as unique_count, \
                        sum(t.duplicate_count) as duplicate_count, \
                        max(d.stored_at) filter (where t.unique_count > 0) as last_stored_at \
                 from topic_deltas d \
                 cross join unnest(d.topics, d.unique_counts, d.duplicate_counts) \
                      as t (topic, unique_count, duplicate_count) \
                 group by t.topic \
             ) \
             select p.topic, p.first_stored_at, \
                    (s.unique_count + coalesce(r.unique_count, 0))::bigint as unique_count, \
                    (s.duplicate_count + coalesce(r.duplicate_count, 0))::bigint \
                        as duplicate_count, \
                    coalesce(greatest(r.last_stored_at, s.last_stored_at), \
                             p.first_stored_at) as last_stored_at \
             from page p \
             cross join lateral ( \
                 select coalesce(sum(unique_count), 0) as unique_count, \
                        coalesce(sum(duplicate_count), 0) as duplicate_count, \
                        max(last_stored_at) as last_stored_at \
                 from topic_stats where topic_stats.topic = p.topic \
             ) s \
             left join recent r on r.topic = p.topic \
             order by p.topic",
            )
            .bind(after.map_or("", Topic::as_str))
            .bind(i64::from(limit))
            .try_map(topic_summary)
            .fetch_all(reading.connection());
        let topics = self.within("topics", rows).await?;
        reading.end().await?;
        Ok(topics)
    }

    pub(super) async fn within<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        within(self.database.options, what, call).await
    }
}

/// The number of the oldest transaction that is under way, and one that none of them reaches.
async fn running(reading: &mut Reading<'_>) -> Result<(i64, i64), sqlx::Error> {
    let running = reading.query(
        "select pg_snapshot_xmin(s)::text::bigint as oldest, \
                pg_snapshot_xmax(s)::text::bigint as next \
         from pg_current_snapshot() as s",
    );
    let row = running.fetch_one(reading.connection()).await?;
    Ok((row.try_get("oldest")?, row.try_get("next")?))
}

// One statement for each index and direction: a planner that has to guess whether a parameter is
// null cannot choose an index by it. `txn` is bounded beside the row comparison because the
// indexes hold no `seq`.
//
// What a page holds is found and put in order first, and only its payloads are written out, one after the other as
// they are sent. In one select Postgres writes those of a whole transaction before it puts them in order.

/// A page of these columns, in the order of `$order`, from what `$found` says.
macro_rules! page_of {
    ($found:literal, $order:literal) => {
        concat!(
            "select topic, event_id, timestamp, source, payload::text as payload, \
                payload_digest is not null as is_payload_dropped, processed_at, txn, seq \
             from (select * from processed_events where ",
            $found,
            " and ($3::text is null or source = $3) \
              and ($4::timestamptz is null or timestamp >= $4) \
              and ($5::timestamptz is null or timestamp < $5) \
              order by ",
            $order,
            " limit $6) as page order by ",
            $order
        )
    };
}

const NEWEST_FIRST: &str = page_of!("txn <= $1 and (txn, seq) < ($1, $2)", "txn desc, seq desc");

const NEWEST_FIRST_OF_TOPIC: &str = page_of!(
    "topic = $7 and txn <= $1 and (txn, seq) < ($1, $2)",
    "txn desc, seq desc"
);

const OLDEST_FIRST: &str = page_of!(
    "txn >= $1 and (txn, seq) > ($1, $2) \
     and txn < pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
    "txn, seq"
);

const OLDEST_FIRST_OF_TOPIC: &str = page_of!(
    "topic = $7 and txn >= $1 and (txn, seq) > ($1, $2) \
     and txn < pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
    "txn, seq"
);

/// The end of the log: the last transaction of a writer that an ascending walk has behind it, also where retention
/// has deleted since what it stored. Not the last number that was given, although nothing stands between the two:
/// after a crash Postgres gives those anew of which nothing was on its disk, and a reader who was past them would
/// miss what they bring. What can be read is on the disk.
const END: &str = "select greatest( \
        (select txn from processed_events where txn < oldest.xmin order by txn desc limit 1), \
        (select max(xid) from writer_transactions where xid < oldest.xmin) \
    ) from pg_current_snapshot() as s, lateral (select pg_snapshot_xmin(s)::text::bigint as xmin) as oldest";

/// One visit to the topics' index for each of them, 1 ms for a thousand. In any other words that were tried
/// the planner goes through all that is new for every single topic, where the table knows but one (4 s).
/// A row comparison that begins with the topic is of no use on the index of transactions, and the order on
/// none but these two.
const NEWS: &str = "select greatest( \
        (select txn from processed_events where txn < oldest.xmin order by txn desc limit 1), \
        (select max(xid) from writer_transactions where xid < oldest.xmin) \
    ) as end_txn, array( \
        select t.number from unnest($1::text[]) with ordinality as t (topic, number) \
        cross join lateral ( \
            select 1 from processed_events p \
            where p.topic = t.topic and (p.topic, p.txn) > (t.topic, $2) \
              and (p.topic, p.txn) < (t.topic, oldest.xmin) \
            order by p.txn limit 1 \
        ) as first \
    ) as numbers \
    from pg_current_snapshot() as s, lateral (select pg_snapshot_xmin(s)::text::bigint as xmin) as oldest";

impl EventReader for PostgresReader {
    fn page<'a>(&'a self, query: &'a EventQuery) -> StoreFuture<'a, EventPage> {
        Box::pin(async move {
            // Whoever reads forward takes what is not there yet for what there is not.
            if query.order == Order::Descending
                && let Some(replica) = &self.replica
            {
                let begin = replica.begin(&self.database, "page");
                let call = async { self.events(query, begin.await?).await };
                if let Some(page) = replica.found(call).await {
                    return Ok(page);
                }
            }
            self.events(query, self.begin("page").await?).await
        })
    }

    fn find<'a>(
        &'a self,
        topic: &'a Topic,
        event_id: &'a EventId,
    ) -> StoreFuture<'a, Option<StoredEvent>> {
        Box::pin(async move {
            let mut reading = self.begin("find").await?;
            let row = reading
                .query(
                    "select topic, event_id, timestamp, source, payload::text as payload, \
                        payload_digest is not null as is_payload_dropped, \
                        processed_at, txn, seq \
                 from processed_events where topic = $1 and event_id = $2",
                )
                .bind(topic.as_str())
                .bind(event_id.as_str())
                .try_map(stored_event)
                .fetch_optional(reading.connection());
            let found = self.within("find", row).await?;
            reading.end().await?;
            Ok(found)
        })
    }

    fn topics<'a>(
        &'a self,
        after: Option<&'a Topic>,
        limit: u32,
    ) -> StoreFuture<'a, Vec<TopicSummary>> {
        Box::pin(async move {
            if let Some(replica) = &self.replica {
                let begin = replica.begin(&self.database, "topics");
                let call = async { self.summaries(after, limit, begin.await?).await };
                if let Some(topics) = replica.found(call).await {
                    return Ok(topics);
                }
            }
            self.summaries(after, limit, self.begin("topics").await?)
                .await
        })
    }

    fn end(&self) -> StoreFuture<'_, Cursor> {
        Box::pin(async move {
            let mut reading = self.begin("end").await?;
            if self.database.options.is_citus {
                let last = citus::last(&mut reading);
                let last = self.within("end", last).await?;
                reading.end().await?;
                return Ok(after_all_of(last));
            }
            let last = reading
                .scalar::<Option<i64>>(END)
                .fetch_one(reading.connection());
            let last = self.within("end", last).await?;
            reading.end().await?;
            Ok(after_all_of(last))
        })
    }

    fn news<'a>(&'a self, topics: &'a [Topic], after: Cursor) -> StoreFuture<'a, News> {
        Box::pin(async move {
            let mut reading = self.begin("news").await?;
            // Whole transactions: their number alone is in the index.
            let from = match after.seq {
                i64::MAX => after.txn,
                _ => after.txn - 1,
            };
            if self.database.options.is_citus {
                let topics: Vec<&str> = topics.iter().map(Topic::as_str).collect();
                let news = citus::news(&mut reading, &topics, from);
                let (topics, last) = self.within("news", news).await?;
                reading.end().await?;
                let end = after_all_of(last);
                return Ok(News { topics, end });
            }
            let statement = reading
                .query(NEWS)
                .bind(topics.iter().map(Topic::as_str).collect::<Vec<_>>())
                .bind(from)
                .try_map(news);
            let statement = statement.fetch_one(reading.connection());
            let news = self.within("news", statement).await?;
            reading.end().await?;
            Ok(news)
        })
    }

    fn wait_for_running(&self, patience: Duration) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let deadline = Instant::now() + patience;
            let look = async || {
                let mut reading = self.begin("running").await?;
                let running = running(&mut reading);
                let running = self.within("running", running).await?;
                reading.end().await?;
                Ok::<_, StoreError>(running)
            };
            let (mut oldest, next) = look().await?;
            let mut pause = RUNNING_PAUSE;
            while oldest < next && Instant::now() < deadline {
                sleep(pause).await;
                pause *= 2;
                (oldest, _) = look().await?;
            }
            Ok(())
        })
    }

    fn commits(&self) -> CommitSignal {
        self.database.commits.clone()
    }

    fn exchange_signals(&self) -> StoreFuture<'_, Infallible> {
        Box::pin(signals::exchange(&self.database))
    }

    fn totals(&self) -> StoreFuture<'_, Totals> {
        Box::pin(async move {
            let mut reading = self.begin("totals").await?;
            let totals = reading
                .query(
                    "select coalesce(sum(received_count), 0)::bigint as received, \
                        coalesce(sum(unique_processed_count), 0)::bigint as unique_processed, \
                        coalesce(sum(duplicate_dropped_count), 0)::bigint as duplicate_dropped, \
                        coalesce(sum(conflict_count), 0)::bigint as conflicts, \
                        coalesce(sum(rejected_count), 0)::bigint as rejected, \
                        coalesce(sum(topics_count), 0)::bigint as topics, \
                        coalesce(sum(dead_letter_count), 0)::bigint as dead_letters, \
                        max(updated_at) as last_updated, \
                        (select payloads_dropped from retention) as payloads_dropped, \
                        (select events_deleted from retention) as events_deleted, \
                        (select dead_letters_deleted from retention) as dead_letters_deleted, \
                        (select last_run_at from retention) as retention_run_at \
                 from system_stats",
                )
                .try_map(totals)
                .fetch_one(reading.connection());
            let totals = self.within("totals", totals).await?;
            reading.end().await?;
            Ok(totals)
        })
    }

    fn add_rejected(&self, events: u64) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let mut reading = self.begin("add rejected").await?;
            let statement = reading
                .query(
                    "insert into system_stats as s (slot, rejected_count) values (0, $1) \
                 on conflict (slot) do update set \
                     rejected_count = s.rejected_count + excluded.rejected_count, \
                     updated_at = now()",
                )
                .bind(i64::try_from(events).unwrap_or(i64::MAX))
                .execute(reading.connection());
            self.within("add rejected", statement).await?;
            reading.end().await?;
            Ok(())
        })
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let mut reading = self.begin("ping").await?;
            let one = reading.query("select 1").execute(reading.connection());
            self.within("ping", one).await?;
            reading.end().await?;
            Ok(())
        })
    }

    fn role(&self) -> StoreFuture<'_, &'static str> {
        Box::pin(async move {
            let mut reading = self.begin("role").await?;
            let role = reading
                .scalar::<String>(
                    "select case when pg_is_in_recovery() then 'standby' \
                    when current_setting('transaction_read_only') = 'on' then 'read-only' \
                    else 'primary' end",
                )
                .fetch_one(reading.connection());
            let role = self.within("role", role).await?;
            reading.end().await?;
            Ok(match role.as_str() {
                "standby" => "standby",
                "read-only" => "read-only",
                _ => "primary",
            })
        })
    }

    fn durability_gaps(&self) -> StoreFuture<'_, Vec<String>> {
        Box::pin(async move {
            let mut reading = self.begin("settings").await?;
            let names = reading.scalar(
                "select name from pg_settings \
                where name in ('fsync', 'full_page_writes', 'synchronous_commit') \
                  and setting = 'off' order by name",
            );
            let names = names.fetch_all(reading.connection());
            let names = self.within("settings", names).await?;
            reading.end().await?;
            Ok(names)
        })
    }

    fn held_back(&self) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            let mut reading = self.begin("held back").await?;
            let transactions = reading
                .query(
                    "select pg_snapshot_xmax(s)::text::bigint - pg_snapshot_xmin(s)::text::bigint \
                     as transactions \
                 from pg_current_snapshot() as s",
                )
                .try_map(|row: PgRow| count(&row, "transactions"))
                .fetch_one(reading.connection());
            let transactions = self.within("held back", transactions).await?;
            reading.end().await?;
            Ok(transactions)
        })
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.pools.close().await;
            if let Some(replica) = &self.replica {
                replica.close().await;
            }
        })
    }
}
