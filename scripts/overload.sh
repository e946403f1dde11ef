#!/usr/bin/env bash
# Overload of every kind at full size, on a release build and a Postgres of its own: overload.sh
# Takes two minutes beside the build. Prints what each came to; exits with 0 where all bounds are kept.
set -euo pipefail
cd "$(dirname "$0")/.."

# The release build: what is loaded is what is run.
cargo test --release --locked --workspace --test suite -- --ignored --exact --nocapture overload::full::at_full_size
