#!/usr/bin/env bash
# Counts the instructions that an event costs between body and statement, and fails where they are over 10 %
# more than the committed number: scripts/check-instructions.sh [--update]
# Unlike times they hardly vary from run to run, so a shared machine can be held to them. What is missing is
# installed by apt, with sudo where this is not root. --update commits to today's numbers instead.
set -euo pipefail
cd "$(dirname "$0")/.."

committed=benches/ingest/instructions.txt
tolerance_percent=10

fail() {
    echo "check-instructions.sh: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

if ! command -v valgrind >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    { as_root apt-get update -qq && as_root apt-get install -y -qq --no-install-recommends valgrind; } \
        </dev/null >&2 || fail "valgrind is missing and apt could not install it"
fi

bench=$(cargo bench --bench ingest --no-run --message-format=json-render-diagnostics |
    sed -n 's/.*"name":"ingest".*"executable":"\([^"]*\)".*/\1/p')
[ -n "$bench" ] || fail "cargo has built no benchmark"

# Instructions of a whole run with so many rounds.
collected() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bench" count "$1" "$2" 2>&1 >/dev/null |
        sed -n 's/.*Collected : //p'
}

# The difference of two runs, so that neither the start nor the building of bodies counts.
per_event() {
    local work=$1 events=$2 few many
    few=$(collected "$work" 2)
    many=$(collected "$work" 22)
    [ -n "$few" ] && [ -n "$many" ] || fail "valgrind counted nothing"
    echo $(((many - few) / (20 * events)))
}

singles=$(per_event singles 64)
batch=$(per_event batch 1000)
if [ "${1-}" = --update ]; then
    printf 'singles %s\nbatch %s\n' "$singles" "$batch" >"$committed"
fi

check() {
    local work=$1 now=$2 then
    then=$(sed -n "s/^$work //p" "$committed")
    [ -n "$then" ] || fail "$committed has no number for $work"
    echo "$work: $now instructions an event, committed $then"
    if [ $((now * 100)) -gt $((then * (100 + tolerance_percent))) ]; then
        fail "$work costs over $tolerance_percent % more than committed"
    fi
}

check singles "$singles"
check batch "$batch"
