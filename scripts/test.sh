#!/usr/bin/env bash
# All checks and all tests, on a private Postgres and a private Redis: ./scripts/test.sh [ARGS]
# ARGS go to the test runner (cargo nextest where it is installed, else cargo test). Without them the
# dashboard's tests in a browser come before it. What is missing is installed by apt, with sudo where
# this is not root.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "test.sh: $*" >&2
    exit 1
}

postgres_bin() {
    local dir
    dir=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
    if [ -n "$dir" ] && [ -x "$dir/initdb" ]; then
        echo "$dir"
    elif command -v initdb >/dev/null && command -v postgres >/dev/null; then
        dirname "$(command -v initdb)"
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_missing() {
    local packages=()
    [ -n "$(postgres_bin)" ] || packages+=(postgresql)
    command -v redis-server >/dev/null || packages+=(redis-server)
    command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || packages+=(nginx)
    command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || packages+=(pgbouncer)
    command -v setpriv >/dev/null || packages+=(util-linux)
    command -v cc >/dev/null || packages+=(build-essential)
    if [ ${#packages[@]} = 0 ]; then
        return
    fi
    command -v apt-get >/dev/null \
        || fail "this is no Debian or Ubuntu: please install ${packages[*]} (in Debian's names) first"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null \
        || fail "missing: ${packages[*]}, and no sudo to install them; as root: apt-get install ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get update -qq </dev/null >&2 || true
    (
        # Debian starts the servers that it installs, on their usual ports, unless this says no.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            trap 'as_root rm -f "$policy"' EXIT
            printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
            as_root chmod 755 "$policy"
        fi
        as_root apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null >&2
    ) || fail "apt could not install ${packages[*]}"
}

command -v cargo >/dev/null || fail "cargo is missing: install Rust with rustup"
install_missing

work=$(mktemp -d "${TMPDIR:-/tmp}/oncelog-test.XXXXXX")
postgres_pid=
redis_pid=
clean_up() {
    # QUIT is an immediate shutdown; nobody will miss the data.
    [ -z "$postgres_pid" ] || kill -QUIT "$postgres_pid" 2>/dev/null || true
    [ -z "$redis_pid" ] || kill -KILL "$redis_pid" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A port of loopback on which nobody answers, below those of outgoing connections.
free_port() {
    local port
    while :; do
        port=$((10000 + (RANDOM * 32768 + RANDOM) % 22000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}

# Postgres refuses to run as root.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && exec setpriv --reuid postgres --regid postgres --clear-groups -- "$@")
    else
        "$@"
    fi
}

start_postgres() {
    local bin data="$work/postgres" port
    bin=$(postgres_bin)
    chmod 755 "$work"
    mkdir "$data"
    if [ "$(id -u)" = 0 ]; then chown postgres: "$data"; fi
    as_postgres "$bin/initdb" --username=postgres --auth=trust --encoding=UTF8 --no-locale \
        --no-sync --pgdata="$data" >"$work/initdb.log" 2>&1 || fail "initdb: $(cat "$work/initdb.log")"
    for _ in 1 2 3 4 5; do
        port=$(free_port)
        # exec keeps the id of the subshell; fsync is off, because no test pulls the plug.
        (
            run=()
            if [ "$(id -u)" = 0 ]; then
                run=(setpriv --reuid postgres --regid postgres --clear-groups --)
            fi
            cd / && exec "${run[@]}" "$bin/postgres" -D "$data" -p "$port" -c listen_addresses=127.0.0.1 \
                -c unix_socket_directories= -c shared_buffers=64MB -c max_connections=200 -c fsync=off
        ) </dev/null >>"$work/postgres.log" 2>&1 &
        postgres_pid=$!
        for _ in $(seq 150); do
            if "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"; then
                export TEST_POSTGRES_URL="postgres://postgres@127.0.0.1:$port/postgres"
                return
            fi
            kill -0 "$postgres_pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -QUIT "$postgres_pid" 2>/dev/null || true
        wait "$postgres_pid" 2>/dev/null || true
        postgres_pid=
    done
    fail "Postgres does not start: $(tail -n 20 "$work/postgres.log")"
}

start_redis() {
    local port
    mkdir "$work/redis"
    for _ in 1 2 3 4 5; do
        port=$(free_port)
        redis-server --bind 127.0.0.1 --port "$port" --dir "$work/redis" --save "" --appendonly no \
            </dev/null >>"$work/redis.log" 2>&1 &
        redis_pid=$!
        for _ in $(seq 100); do
            if [ "$(redis-cli -h 127.0.0.1 -p "$port" ping 2>/dev/null)" = PONG ]; then
                export TEST_REDIS_URL="redis://127.0.0.1:$port/0"
                return
            fi
            kill -0 "$redis_pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$redis_pid" 2>/dev/null || true
        wait "$redis_pid" 2>/dev/null || true
        redis_pid=
    done
    fail "Redis does not start: $(tail -n 20 "$work/redis.log")"
}

cargo fmt --all --check
if [ $# = 0 ]; then
    scripts/check-kubernetes.sh
    scripts/check-dependencies.sh
fi
cargo clippy --workspace --all-targets --locked -- -D warnings
start_postgres
start_redis
browser_failure=
# Before the others, whose summary is the last thing that is said.
if [ $# = 0 ]; then scripts/test-browser.sh || browser_failure=$?; fi
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --locked "$@"
else
    cargo test --workspace --locked "$@"
fi
if [ -n "$browser_failure" ]; then fail "tests in the browser failed: see above"; fi
