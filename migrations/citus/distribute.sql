-- For Citus 12 or 13, on the coordinator, after the migrations of ../postgres: spreads the events over the
-- workers by topic, which is in their primary key and in each look-up. Everything else stays on the
-- coordinator: counters, topics, dead letters and the writers' transactions. DATABASE_CITUS=true runs it at
-- the start; it may be run again, and does nothing then.
do $$
begin
    perform pg_advisory_xact_lock(hashtext('oncelog distribution'));
    if not exists (select from pg_dist_partition where logicalrelid = 'processed_events'::regclass) then
        -- Its table is not on the workers. Without it nobody says when rows were deleted, so the service
        -- remembers no keys on Citus.
        drop trigger if exists processed_events_deletion on processed_events;
        perform create_distributed_table('processed_events', 'topic');
    end if;
end
$$;
