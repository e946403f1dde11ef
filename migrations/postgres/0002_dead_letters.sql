-- What reached the broker and can be no event, with why. An entry is redelivered until it is
-- acknowledged, so its origin makes it one letter however often it comes.
create table dead_letters (
    id           bigint generated always as identity primary key,
    origin       text collate "C" not null unique,
    reason       text not null,
    entry        bytea not null,
    is_truncated boolean not null,
    received_at  timestamptz not null default now()
);

alter table system_stats add column dead_letter_count bigint not null default 0;
