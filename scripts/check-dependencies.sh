#!/usr/bin/env bash
# Licences, bans, sources and advisories of all dependencies, those of fuzz/ too: check-dependencies.sh [--strict]
# Needs cargo-deny. The advisories' database is fetched: where it cannot be had this says so and goes on
# without it, or fails with --strict. See deny.toml.
set -euo pipefail
cd "$(dirname "$0")/.."

deny=(cargo deny --locked)
checks=(licenses bans sources)
if GIT_TERMINAL_PROMPT=0 timeout 60 cargo deny fetch db >/dev/null 2>&1; then
    checks+=(advisories)
elif [ "${1:-}" = --strict ]; then
    echo "check-dependencies.sh: the advisories' database cannot be fetched" >&2
    exit 1
else
    echo "check-dependencies.sh: the advisories' database cannot be fetched: ADVISORIES ARE NOT CHECKED" >&2
fi
"${deny[@]}" --workspace check --allow license-exception-not-encountered "${checks[@]}"
# Has few dependencies, so few of the licences that are allowed.
"${deny[@]}" --manifest-path fuzz/Cargo.toml check --allow license-not-encountered "${checks[@]}"
