-- The same as on Postgres. Nothing is announced here, because nobody remembers keys.
alter table retention add column dead_letters_deleted integer not null default 0;
