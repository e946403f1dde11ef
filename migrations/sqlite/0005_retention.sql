-- The same as on Postgres.
alter table processed_events add column payload_digest blob;

create table retention (
    is_only_row      integer primary key default 1 check (is_only_row = 1),
    payloads_dropped integer not null default 0,
    events_deleted   integer not null default 0,
    last_run_at      integer
) strict;

insert into retention default values;

create table retention_walks (
    walk       text primary key,
    seq        integer not null,
    updated_at integer not null
) strict, without rowid;

-- Retention itself relies on the count: it drops a payload only if nothing was changed since it read it.
drop trigger processed_events_change;
create trigger processed_events_change after update on processed_events
    when not (old.payload_digest is null and new.payload_digest is not null)
begin
    update deletions set statements = statements + 1;
end;
