-- Retention says beforehand up to which time of storing it will delete events, and the count is raised once for
-- that. Whoever remembers keys forgets those that are as old, and no more; the deletions themselves
-- then need not be counted. announcements: how many of the statements that are counted were only that.
alter table deletions add column announcements bigint not null default 0;
alter table deletions add column expires_through timestamptz;

-- An older version beside this one knows nothing of announcements. While there may be one, for a day after a
-- database with events in it was migrated, each deletion is counted as before.
alter table deletions add column counts_all_until timestamptz not null default now();
update deletions set counts_all_until = now() + interval '1 day' where exists (select from topics);

create or replace function count_deletion() returns trigger language plpgsql
    security definer set search_path from current
as $$
begin
    if tg_op = 'UPDATE' and current_setting('oncelog.drops_payloads', true) = 'on' then
        return null;
    end if;
    if tg_op = 'DELETE' and current_setting('oncelog.deletes_announced', true) = 'on'
        and exists (select from deletions where counts_all_until <= statement_timestamp())
    then
        return null;
    end if;
    update deletions set statements = statements + 1;
    return null;
end
$$;

alter table retention add column dead_letters_deleted bigint not null default 0;
