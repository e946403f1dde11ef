#!/usr/bin/env bash
# What event ids cost Postgres behind a checkpoint, without the service: ./scripts/measure-log-pages.sh [ROWS]
# Fills a table of ROWS rows (3,000,000) in a Postgres of its own, once with random ids and once with ids that
# begin with the time; then, behind a checkpoint each, inserts more of them in transactions of 1000 and of
# 10 rows, and prints what that wrote to the log, how many whole pages of it, and how many the formula of
# docs/scaling.md expects. Bytes, not times: other work on the machine changes nothing. Takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
rows=${1:-3000000}
step=$((rows / 30))

bin=${PG_BIN:-$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin | sort -V | tail -n 1)}
work=$(mktemp -d /var/tmp/oncelog-log-pages.XXXXXX)
server=
clean_up() {
    [ -z "$server" ] || kill -QUIT "$server" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
run=()
# Postgres refuses to run as root.
if [ "$(id -u)" = 0 ]; then
    run=(setpriv --reuid postgres --regid postgres --clear-groups --)
    chown postgres: "$work"
fi
port=$((10000 + RANDOM % 20000))
(cd / && "${run[@]}" "$bin/initdb" --username=postgres --auth=trust --encoding=UTF8 --no-locale --no-sync \
    --pgdata="$work/data" >/dev/null)
# exec keeps the id of the subshell; fsync is off, because only bytes are counted.
(cd / && exec "${run[@]}" "$bin/postgres" -D "$work/data" -p "$port" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c fsync=off -c shared_buffers=1GB -c max_wal_size=16GB \
    -c checkpoint_timeout=15min) </dev/null >"$work/log" 2>&1 &
server=$!
sql() { "$bin/psql" -q -X -A -t -F ' ' -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$port" -U postgres "$@"; }
for _ in $(seq 100); do
    if "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"; then break; fi
    sleep 0.1
done
for migration in migrations/postgres/*.sql; do sql -f "$migration" >/dev/null; done
sql <<'SQL'
create procedure fill(transactions int, rows int, kind text, seed int) language plpgsql as $$
begin
    for t in 1..transactions loop
        insert into processed_events (topic, event_id, timestamp, source, payload, txn, seq)
        select topic, event_id, now(), 'checkout-1', payload, (select pg_current_xact_id()::text::bigint), n
        from (select n,
                     'orders.region-' || lpad((abs(hashtext(n || '/' || t || '/' || seed)) % 100)::text, 2, '0') as topic,
                     case kind
                         when 'random' then md5(seed || '-' || t || '-' || n)
                         -- 48 bits of milliseconds and 80 of chance, as in a UUID of version 7.
                         else lpad(to_hex(1764000000000 + seed::bigint * 100000000 + t * 10 + n / 100), 12, '0')
                              || left(md5(seed || '-' || t || '-' || n), 20)
                     end as event_id,
                     jsonb_build_object('order', n, 'customer', 'c-000001', 'amount', '129.90', 'note', repeat('x', 150))
                         as payload
              from generate_series(1, rows) as n) as drawn
        order by topic collate "C", event_id collate "C";
        commit;
    end loop;
end
$$;
SQL

# The statistics of a backend are there once it has ended.
reading() {
    sql -c "select pg_current_wal_lsn() - '0/0', (select wal_fpi from pg_stat_wal), pg_relation_size('processed_events_pkey')"
}

# measure KIND TRANSACTIONS ROWS SEED
measure() {
    local log images size log_after images_after size_after
    sql -c checkpoint
    sleep 1
    read -r log images size < <(reading)
    sql -c "call fill($2, $3, '$1', $4)"
    sleep 1
    read -r log_after images_after size_after < <(reading)
    awk -v kind="$1" -v transactions="$2" -v rows="$3" -v log_bytes=$((log_after - log)) \
        -v images=$((images_after - images)) -v pages=$((size / 8192)) -v grown=$((size_after - size)) 'BEGIN {
            n = transactions * rows
            printf "| %s | %d x %d | %d | %.0f | %.3f | %.3f | %.0f |\n", kind, transactions, rows, pages, log_bytes / n,
                images / n, pages / n * (1 - exp(-n / pages)), grown / n }'
}

echo '| ids | transactions x rows | pages of the primary key | log bytes/row | whole pages/row | expected of random ids | primary key, bytes/row |'
echo '| --- | --- | --- | --- | --- | --- | --- |'
for kind in random time; do
    sql -c 'truncate processed_events'
    sql -c "call fill(30, $step, '$kind', 1)"
    sql -c 'vacuum processed_events'
    measure "$kind" 20 1000 2
    measure "$kind" 200 1000 3
    measure "$kind" 1000 10 4
done
