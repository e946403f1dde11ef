#!/usr/bin/env bash
# The dashboard's tests in headless Chromium: ./scripts/test-browser.sh
# Says that they are skipped where there is no Chromium or no Node, and fails only where a test does.
# TEST_BROWSER_DATABASE_URL names the database; without it each service has a SQLite file.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "test-browser.sh: browser tests are SKIPPED: $*" >&2
    exit 0
}

has_browser=
for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
    if [ -n "$name" ] && path=$(command -v "$name"); then
        has_browser=1
        export CHROMIUM=$path
        break
    fi
done
[ -n "$has_browser" ] || skip "no Chromium here (Debian: apt-get install chromium)"
command -v node >/dev/null && command -v npm >/dev/null || skip "no Node here (Debian: apt-get install nodejs npm)"
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || skip "Node is older than 20"

cargo build --quiet --bin oncelog
if [ -z "${ONCELOG_BIN:-}" ]; then
    ONCELOG_BIN=$(cargo metadata --format-version 1 --no-deps | node -p 'JSON.parse(require("fs").readFileSync(0)).target_directory')/debug/oncelog
fi
export ONCELOG_BIN
cd tests/browser
# A browser comes from the system; the package would fetch none anyway.
npm ci --silent >/dev/null || skip "npm could not install playwright-core"
npm test --silent
