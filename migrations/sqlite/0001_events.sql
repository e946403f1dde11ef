-- The event log. Texts are compared bytewise, SQLite's default. One transaction writes at a time, so
-- seq, which never goes back, is the order of storing. The payload is the text that came; times are
-- microseconds since 1970.
create table processed_events (
    seq          integer primary key autoincrement,
    topic        text not null,
    event_id     text not null,
    timestamp    integer not null,
    source       text not null,
    payload      text not null,
    processed_at integer not null,
    txn          integer not null,
    unique (topic, event_id)
) strict;

create index processed_events_of_topic_in_order on processed_events (topic, seq);

-- Slot 1 belongs to the writers, who take turns; slot 0 counts what validation has refused.
create table system_stats (
    slot                    integer primary key,
    received_count          integer not null default 0,
    unique_processed_count  integer not null default 0,
    duplicate_dropped_count integer not null default 0,
    conflict_count          integer not null default 0,
    rejected_count          integer not null default 0,
    topics_count            integer not null default 0,
    updated_at              integer not null,
    check (received_count = unique_processed_count + duplicate_dropped_count)
) strict;

-- Each topic once, so that topics are counted when they are first seen and never again.
create table topics (
    topic           text primary key,
    first_stored_at integer not null
) strict, without rowid;

-- What the writers have done for a topic.
create table topic_stats (
    topic           text primary key,
    unique_count    integer not null,
    duplicate_count integer not null,
    last_stored_at  integer
) strict, without rowid;

-- The latest transaction of each writer, written by that very transaction: whether it is there says
-- whether it has committed. SQLite has no numbers of its own to ask after.
create table writer_transactions (
    writer       text primary key,
    txn          integer not null,
    committed_at integer not null
) strict, without rowid;
