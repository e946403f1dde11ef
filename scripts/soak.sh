#!/usr/bin/env bash
# Faults of every kind under load, against real servers: soak.sh [minutes] [postgres|sqlite] [seed]
# Prints how it goes every half minute and the account at the end; exits with 0 where it agrees: each event
# that was answered is stored once and was read once, and from ten minutes on memory stays flat. In the second half
# the process is not killed, so that its memory can be watched for as long. An hour takes about 15 GB in the
# temporary directory. SOAK_FAULTS names the faults that are wanted, with commas between them and as the account does:
# SOAK_FAULTS="black hole,actor crashed".
set -euo pipefail
cd "$(dirname "$0")/.."

export SOAK_MINUTES=${1:-10}
for argument in "${@:2}"; do
    case $argument in
        postgres | sqlite) export SOAK_ENGINE=$argument ;;
        *) export FAULT_SEED=$argument ;;
    esac
done

# The release build: what is soaked is what is run.
cargo test --release --locked --test suite -- --ignored --exact --nocapture faults::storm::soak
