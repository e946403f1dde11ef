-- The same as on Postgres: events that were deleted or changed by hand are counted. SQLite calls a trigger
-- for each row. Nothing reads the count here yet, because this engine remembers no keys: its look-up is a
-- call within the process.
create table deletions (
    is_only_row integer primary key default 1 check (is_only_row = 1),
    statements  integer not null default 0
) strict;

insert into deletions default values;

create trigger processed_events_deletion after delete on processed_events
begin
    update deletions set statements = statements + 1;
end;

create trigger processed_events_change after update on processed_events
begin
    update deletions set statements = statements + 1;
end;
