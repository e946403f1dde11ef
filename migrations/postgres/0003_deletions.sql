-- The service only ever adds events, and remembers the latest keys that it has stored. Whoever
-- deletes or changes rows by hand is counted here, and the count tells the service to forget.
create table deletions (
    is_only_row boolean primary key default true check (is_only_row),
    statements  bigint not null default 0
);

insert into deletions default values;

create function count_deletion() returns trigger language plpgsql
    security definer set search_path from current
as $$
begin
    update deletions set statements = statements + 1;
    return null;
end
$$;

create trigger processed_events_deletion
    after delete or update or truncate on processed_events
    for each statement execute function count_deletion();
