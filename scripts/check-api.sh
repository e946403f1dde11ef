#!/usr/bin/env bash
# Asks a real server what its description promises: schemathesis makes requests from /openapi.json,
# right ones and wrong ones, and fails on a 5xx and on every answer that is not described.
#
#   scripts/check-api.sh                               # SQLite in a directory of its own
#   DATABASE_URL=postgres://… scripts/check-api.sh     # an empty Postgres database
#   REDIS_URL=redis://… scripts/check-api.sh           # with a broker, an empty database of Redis
#   TOKENS=true scripts/check-api.sh                   # with tokens, and each call without one, too
#   SEED=7 EXAMPLES=200 scripts/check-api.sh           # the same requests again; more of them
#
# The stream of /events/stream never ends and is left out; crashing an actor is left in.
set -euo pipefail
cd "$(dirname "$0")/.."

seed=${SEED:-$RANDOM}
examples=${EXAMPLES:-50}
venv=target/check-api
checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method
token=()
if [ -n "${TOKENS:-}" ]; then
  export API_TOKENS=check-api:publish+read+admin:check-api-all ADMIN_TOKEN=check-api-admin
  token=(--header 'Authorization: Bearer check-api-all')
  # What asks for a token has to refuse none and a made-up one.
  checks+=,ignored_auth
fi
work=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null && wait "$server"; fi; rm -rf "$work"' EXIT

[ -x "$venv/bin/schemathesis" ] || {
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet 'schemathesis>=4,<5'
}
cargo build --workspace --quiet
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
DATABASE_URL=${DATABASE_URL:-sqlite://$work/oncelog.db} BIND=127.0.0.1:$port \
  target/debug/oncelog serve >"$work/log" 2>&1 &
server=$!
until curl -fs "$url/readyz" >"$work/ready"; do
  kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
done

# With a broker there can be dead letters to look at, to take away and to try again: numbers 1 to 40.
dead_letters=0
if [ -n "${REDIS_URL:-}" ]; then
  dead_letters=40
  for n in $(seq "$dead_letters"); do
    redis-cli -u "$REDIS_URL" xadd "${BROKER_STREAM:-oncelog:events}" '*' event \
      '{"topic":"check-api","event_id":"'"$n"'"}' >"$work/xadd"
  done
  until curl -fs "${token[@]}" "$url/stats" | grep -q "\"dead_letter_count\":$dead_letters,"; do sleep 0.1; done
fi

# NDJSON is a text to the description, and a text is sent as it is.
cat >"$work/hooks.py" <<'PYTHON'
import os

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(context, value):
    return value if isinstance(value, bytes) else str(value).encode()


# Made-up numbers are those of no dead letter; half of them become the number of one.
@schemathesis.hook
def map_path_parameters(context, path_parameters):
    number = (path_parameters or {}).get("id")
    dead_letters = int(os.environ["DEAD_LETTERS"])
    if dead_letters and isinstance(number, int) and number % 2:
        path_parameters["id"] = 1 + number // 2 % dead_letters
    return path_parameters
PYTHON

echo "seed $seed, $examples examples a call"
DEAD_LETTERS=$dead_letters SCHEMATHESIS_HOOKS=$work/hooks.py "$venv/bin/schemathesis" run "$url/openapi.json" --no-color \
  --seed "$seed" --max-examples "$examples" --phases examples,coverage,fuzzing \
  --checks "$checks" "${token[@]}" \
  --exclude-path /events/stream --request-timeout 10
