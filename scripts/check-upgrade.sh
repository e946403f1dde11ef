#!/usr/bin/env bash
# An upgrade under load, one replica after the other, from an older version to this one:
#
#     scripts/check-upgrade.sh OLD_COMMIT
#
# Builds the old version in a work tree of its own (target/upgrade keeps what it compiled), and runs
# `faults/upgrade.rs` with it: both versions on one database and one consumer group, behind nginx, with
# clients who publish, quarrel and read all the time. Exits with 0 where nothing was lost, told wrong or
# counted wrong, and both versions could be started on the new schema.
set -euo pipefail
cd "$(dirname "$0")/.."

old=$(git rev-parse --verify --quiet "${1:-}^{commit}") || {
    echo "check-upgrade.sh: name a commit: scripts/check-upgrade.sh OLD_COMMIT" >&2
    exit 2
}
work=$(mktemp -d "${TMPDIR:-/tmp}/oncelog-upgrade.XXXXXX")
trap 'git worktree remove --force "$work/old" 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

git worktree add --quiet --detach "$work/old" "$old"
target=$PWD/target/upgrade
(cd "$work/old" && CARGO_TARGET_DIR=$target cargo build --locked --bin oncelog)
cp "$target/debug/oncelog" "$work/oncelog"
echo "old: $(git log -1 --format='%h %s' "$old")"
export OLD_ONCELOG=$work/oncelog
cargo test --locked --workspace --test suite -- --ignored --exact --nocapture \
    faults::upgrade::replicas_are_upgraded_under_load_and_back
