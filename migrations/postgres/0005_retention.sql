-- SHA-256 of the payload's value where retention has dropped it: then the payload is an empty object, for
-- those who do not know this column. Null = the payload is there.
alter table processed_events add column payload_digest bytea;

-- What retention has done, over all replicas.
create table retention (
    is_only_row      boolean primary key default true check (is_only_row),
    payloads_dropped bigint not null default 0,
    events_deleted   bigint not null default 0,
    last_run_at      timestamptz
);

insert into retention default values;

-- How far it has gone through the log, for each set of rules, age and mode.
create table retention_walks (
    walk       text collate "C" primary key,
    txn        bigint not null,
    seq        bigint not null,
    updated_at timestamptz not null default now()
);

-- An event without its payload is the same event: what is remembered of it still holds.
create or replace function count_deletion() returns trigger language plpgsql
    security definer set search_path from current
as $$
begin
    if tg_op = 'UPDATE' and current_setting('oncelog.drops_payloads', true) = 'on' then
        return null;
    end if;
    update deletions set statements = statements + 1;
    return null;
end
$$;
