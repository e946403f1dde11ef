-- This engine has had the table from its first version on.
select 1;
