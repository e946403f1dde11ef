-- What reached the broker and can be no event, with why. An entry is redelivered until it is
-- acknowledged, so its origin makes it one letter however often it comes.
create table dead_letters (
    id           integer primary key autoincrement,
    origin       text not null unique,
    reason       text not null,
    entry        blob not null,
    is_truncated integer not null,
    received_at  integer not null
) strict;

alter table system_stats add column dead_letter_count integer not null default 0;
