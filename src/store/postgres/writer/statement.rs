//! The statement that is a group's whole transaction, in the forms that a group may need. All take the same
//! parameters. Counts suppose that every event is new, so nothing is written unless all of them are.

/// `$taken`: the places of keys that are taken. `$if_free`: a condition on them. `$seen_first`: topics that
/// get their row, and `$topics_count`, how many.
macro_rules! insert {
    ($taken:expr, $if_free:expr, $seen_first:expr, $topics_count:expr) => {
        concat!(
            "with here as ( \
                select d.statements as deletions, pg_postmaster_start_time() as server_started, ",
            $taken,
            " as taken \
                from deletions d \
            ), all_new as ( \
                select pg_current_xact_id()::text::bigint as xid, statement_timestamp() as now \
                from here \
                where ",
            $if_free,
            "($18::bigint is null or (deletions = $18 and server_started = $19::timestamptz)) \
            ), inserted as ( \
                insert into processed_events \
                    (topic, event_id, timestamp, source, payload, processed_at, txn, seq) \
                select e.topic, e.event_id, e.timestamp, e.source, e.payload::jsonb, n.now, n.xid, e.seq \
                from all_new n cross join \
                     unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::int[]) \
                         as e (topic, event_id, timestamp, source, payload, seq) \
            )",
            $seen_first,
            ", per_topic as ( \
                insert into topic_deltas (slot, topics, unique_counts, duplicate_counts, stored_at) \
                select $11, $8, $9, $10, now from all_new \
            ), in_all as ( \
                insert into system_stats as s \
                    (slot, received_count, unique_processed_count, duplicate_dropped_count, \
                     conflict_count, topics_count, updated_at) \
                select $11, $12, $13, $14, $15, ",
            $topics_count,
            ", now \
                from all_new \
                on conflict (slot) do update set \
                    received_count = s.received_count + excluded.received_count, \
                    unique_processed_count = s.unique_processed_count + excluded.unique_processed_count, \
                    duplicate_dropped_count = \
                        s.duplicate_dropped_count + excluded.duplicate_dropped_count, \
                    conflict_count = s.conflict_count + excluded.conflict_count, \
                    topics_count = s.topics_count + excluded.topics_count, \
                    updated_at = excluded.updated_at \
            ), named as ( \
                insert into writer_transactions as w (writer, txn, xid, committed_at, fence) \
                select $16, $17, xid, now, coalesce($20::bigint, 0) from all_new \
                on conflict (writer) do update set \
                    txn = case when $20::bigint is null or w.fence = $20 then excluded.txn end, \
                    xid = excluded.xid, committed_at = excluded.committed_at \
            ) \
            select (select xid from all_new) as xid, taken, deletions, server_started, \
                   statement_timestamp() as now \
            from here"
        )
    };
}

/// The row of a key `e`, if there is one. Asked for in this way, and with sorting made dear, by the primary
/// key alone: of a small table that has been analyzed Postgres may believe that a topic has one
/// event, and a plan that finds events by topic, which it keeps, is slow once there are many.
macro_rules! row_of_key {
    () => {
        "lateral ( \
            select * from processed_events p where p.topic = e.topic \
                and p.event_id >= e.event_id and p.event_id <= e.event_id \
            order by p.event_id limit 1 \
        ) p"
    };
}
pub(super) use row_of_key;

/// Its places are those of keys that are taken.
macro_rules! look {
    () => {
        concat!(
            "array( \
                select e.seq \
                from unnest($1::text[], $2::text[], $6::int[]) as e (topic, event_id, seq) \
                cross join ",
            row_of_key!(),
            " )"
        )
    };
}

macro_rules! seen_first {
    () => {
        ", seen_first as ( \
            insert into topics (topic, first_stored_at) \
            select unnest($7::text[]), now from all_new \
            on conflict (topic) do nothing \
            returning 1 \
        )"
    };
}

/// The form for a group whose keys are to be looked up or not, and which may have topics without a row.
pub(super) fn insert(looks: bool, has_new_topics: bool) -> &'static str {
    match (looks, has_new_topics) {
        (true, true) => insert!(
            look!(),
            "cardinality(taken) = 0 and ",
            seen_first!(),
            "(select count(*) from seen_first)"
        ),
        (true, false) => insert!(look!(), "cardinality(taken) = 0 and ", "", "0"),
        (false, true) => insert!(
            "'{}'::int[]",
            "",
            seen_first!(),
            "(select count(*) from seen_first)"
        ),
        (false, false) => insert!("'{}'::int[]", "", "", "0"),
    }
}
