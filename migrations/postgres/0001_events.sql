-- The event log. Topic and event id are compared bytewise: faster, and two spellings are two keys.
-- (txn, seq) is the order of storing: the storing transaction and the place within it. Readers who
-- stay below the oldest running transaction see every row once, whoever commits in which order.
create table processed_events (
    topic        text collate "C" not null,
    event_id     text collate "C" not null,
    timestamp    timestamptz not null,
    source       text collate "C" not null,
    payload      jsonb not null,
    processed_at timestamptz not null default now(),
    txn          bigint not null default (pg_current_xact_id()::text::bigint),
    seq          integer not null,
    primary key (topic, event_id)
);

-- Without seq: the rows of one transaction share an index entry, and sorting so few is cheap.
create index processed_events_in_order on processed_events (txn);
create index processed_events_of_topic_in_order on processed_events (topic, txn);

-- One row per writer, so that no two wait for each other; a reader sums them up.
-- Slot 0 belongs to no writer and counts what validation has refused.
create table system_stats (
    slot                    integer primary key,
    received_count          bigint not null default 0,
    unique_processed_count  bigint not null default 0,
    duplicate_dropped_count bigint not null default 0,
    conflict_count          bigint not null default 0,
    rejected_count          bigint not null default 0,
    topics_count            bigint not null default 0,
    updated_at              timestamptz not null default now(),
    check (received_count = unique_processed_count + duplicate_dropped_count)
) with (fillfactor = 20);

-- Each topic once, so that topics are counted when they are first seen and never again.
create table topics (
    topic           text collate "C" primary key,
    first_stored_at timestamptz not null default now()
);

-- What each writer has done for a topic, up to its latest folding.
create table topic_stats (
    topic           text collate "C" not null,
    slot            integer not null,
    unique_count    bigint not null,
    duplicate_count bigint not null,
    last_stored_at  timestamptz,
    primary key (topic, slot)
) with (fillfactor = 70);

-- What each transaction has done for its topics since then: one row instead of one for each topic.
-- Its writer folds its own rows into topic_stats now and then, so there are always few.
create table topic_deltas (
    slot             integer not null,
    topics           text[] not null,
    unique_counts    bigint[] not null,
    duplicate_counts bigint[] not null,
    stored_at        timestamptz not null default now()
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

create index topic_deltas_of_slot on topic_deltas (slot);
