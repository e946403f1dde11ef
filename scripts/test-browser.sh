#!/usr/bin/env bash
# The dashboard's tests in headless Chromium: ./scripts/test-browser.sh
# Chromium, Node and npm are installed by apt where they are missing and that is possible; where it is
# not, it says that the tests are skipped and why, and ends with 0. Services, brokers and ports are the
# tests' own. TEST_POSTGRES_URL names a Postgres for the one test that needs it.
set -euo pipefail
cd "$(dirname "$0")/.."

NODE_MAJOR_MIN=20
START_SECONDS_MAX=30

skip() {
    echo "test-browser.sh: browser tests are SKIPPED: $*" >&2
    exit 0
}

find_browser() {
    local name
    for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
        if [ -n "$name" ] && command -v "$name"; then return; fi
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

install_missing() {
    local packages=()
    [ -n "$(find_browser)" ] || packages+=(chromium)
    command -v node >/dev/null || packages+=(nodejs)
    command -v npm >/dev/null || packages+=(npm)
    [ ${#packages[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || skip "missing: ${packages[*]} (in Debian's names)"
    echo "test-browser.sh: installing ${packages[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get update -qq </dev/null >&2 || true
    if ! command -v node >/dev/null; then
        local offered
        offered=$(apt-cache policy nodejs | sed -n 's/^ *Candidate: *\([0-9]*\).*/\1/p')
        [ "${offered:-0}" -ge "$NODE_MAJOR_MIN" ] || skip "apt has no Node $NODE_MAJOR_MIN here, and there is none"
    fi
    # On Ubuntu Chromium comes as a snap, which needs more than apt.
    as_root apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null >&2 \
        || skip "apt could not install ${packages[*]}"
}

install_missing
CHROMIUM=$(find_browser)
[ -n "$CHROMIUM" ] || skip "no Chromium here (Debian: apt-get install chromium)"
node_major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null) || skip "Node does not start"
[ "$node_major" -ge "$NODE_MAJOR_MIN" ] || skip "Node is older than $NODE_MAJOR_MIN: $(node --version)"
# Where a browser cannot run at all, that says nothing about the dashboard.
timeout "$START_SECONDS_MAX" "$CHROMIUM" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
    --dump-dom about:blank >/dev/null 2>&1 || skip "$CHROMIUM does not start here"
export CHROMIUM

if [ -z "${ONCELOG_BIN:-}" ]; then
    cargo build --quiet --locked --bin oncelog
    ONCELOG_BIN=$(cargo metadata --format-version 1 --no-deps --locked \
        | node -p 'JSON.parse(require("fs").readFileSync(0)).target_directory')/debug/oncelog
fi
export ONCELOG_BIN
cd tests/browser
# The lock file has what is to be installed, with its digest. No browser comes with it.
npm ci --silent >/dev/null 2>&1 || skip "npm could not install playwright-core"
exec npm test --silent
