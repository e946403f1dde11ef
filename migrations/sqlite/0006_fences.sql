-- There is no pooler in front of a file. The column is there so that both engines have the same tables.
alter table writer_transactions add column fence integer not null default 0;
