-- Behind a pooler a writer has no connection of its own that its successor could end. Each session of a
-- writer counts this up instead, and a transaction of an earlier session finds another number than its own
-- and fails as a whole.
alter table writer_transactions add column fence bigint not null default 0;
