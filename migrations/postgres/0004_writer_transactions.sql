-- The latest transaction of each writer, written by that very transaction under a number that the writer
-- chose before: whether it is there says whether it has committed, also to one who never got its answer.
-- xid: Postgres's own number, which the rows of that transaction carry as txn.
create table writer_transactions (
    writer       text collate "C" primary key,
    txn          bigint not null,
    xid          bigint not null,
    committed_at timestamptz not null
) with (fillfactor = 20);
