#!/usr/bin/env bash
# Measures oncelog against raw inserts into the same Postgres; prints a Markdown table.
# scripts/bench.sh --quick takes a minute, --help says the rest. See docs/benchmarks.md.
set -euo pipefail
cd "$(dirname "$0")/.."

# Built through cargo, run without it: a signal must reach the benchmark, which cleans up after itself.
bench=$(cargo bench --bench throughput --no-run --message-format=json-render-diagnostics |
    sed -n 's/.*"name":"throughput".*"executable":"\([^"]*\)".*/\1/p')
exec "$bench" "$@"
