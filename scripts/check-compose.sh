#!/usr/bin/env bash
# Runs the compose stack for real and checks it: one line per check, exit 0 only if all hold.
#
#     scripts/check-compose.sh
#
# Needs Docker with Compose, curl and python3, and two free ports (ONCELOG_PUBLISH, 127.0.0.1:18080 here, and
# ONCELOG_BALANCER_PUBLISH, 127.0.0.1:18081).
# It has a project name of its own, reads no .env, and ends with `down -v`: another stack of this
# machine and its volumes are left alone. KEEP_IMAGES=0 removes the images that it built, too.
set -euo pipefail
cd "$(dirname "$0")/.."

export COMPOSE_PROJECT_NAME=oncelog-check-$$
export ONCELOG_PUBLISH=${ONCELOG_PUBLISH:-127.0.0.1:18080}
export ONCELOG_BALANCER_PUBLISH=${ONCELOG_BALANCER_PUBLISH:-127.0.0.1:18081}
# Nothing is that old, but its actor runs and its metrics are there.
export RETENTION=36500d
url=http://$ONCELOG_PUBLISH
wait_s=${WAIT_S:-180}
work=$(mktemp -d)
topic=check-$$
event='{"topic":"'$topic'","event_id":"e-1","timestamp":"2026-01-01T00:00:00Z","source":"check-compose","payload":{"n":1}}'
failed=0
stage=start

compose() { docker compose --env-file /dev/null "$@"; }
ok()   { printf 'ok    %-38s %s\n' "$1" "${2:-}"; }
fail() { printf 'FAIL  %-38s %s\n' "$1" "${2:-}"; failed=$((failed + 1)); }

# check NAME COMMAND...: the last line that the command prints is the note.
check() {
  local name=$1; shift
  stage=$name
  if "$@" >"$work/out" 2>&1; then
    ok "$name" "$(tail -n 1 "$work/out")"
  else
    fail "$name" "$(tail -n 1 "$work/out")"
    return 1
  fi
}

# must NAME COMMAND...: what follows makes no sense without it.
must() {
  check "$@" || { compose logs --no-color --tail 20 2>/dev/null; exit 1; }
}

finish() {
  local code=$?
  trap - EXIT
  [ "$code" = 0 ] || [ "$failed" -gt 0 ] || fail "$stage" "ended with $code"
  # Whatever happened: nothing of this run stays.
  if compose --profile replicas down -v -t 15 >"$work/down" 2>&1 && [ -z "$(leftovers)" ]; then
    ok 'down -v leaves nothing'
  else
    fail 'down -v leaves nothing' "$(tail -n 1 "$work/down") $(leftovers)"
  fi
  if [ "${KEEP_IMAGES:-1}" = 0 ]; then docker image rm oncelog oncelog-publisher >/dev/null 2>&1 || true; fi
  rm -rf "$work"
  if [ "$failed" = 0 ]; then echo "PASS, $SECONDS s"; else echo "FAIL ($failed), $SECONDS s"; exit 1; fi
}
trap finish EXIT
trap 'exit 130' INT TERM

leftovers() {
  local label=label=com.docker.compose.project=$COMPOSE_PROJECT_NAME
  docker ps -aq --filter "$label"
  docker volume ls -q --filter "$label"
  docker network ls -q --filter "$label"
}

# within SECONDS COMMAND...: until it holds.
within() {
  local end=$((SECONDS + $1)); shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 1
  done
}

get()  { curl -fsS -m 10 "$url$1"; }
post() { curl -sS -m 10 -H 'Content-Type: application/json' -d "$event" "$url/publish"; }
# field NAME...: values of the JSON object on stdin.
field() { python3 -c 'import json, sys; o = json.load(sys.stdin); print(*(o[n] for n in sys.argv[1:]))' "$@"; }

config_parses()  { compose config -q && compose --profile replicas --profile observability config -q; }
port_is_free()   { ! curl -s -m 3 -o /dev/null "$url/" || { echo "something else answers at $url"; return 1; }; }
up()             { compose up -d --build; }
answers()        { get /health >/dev/null 2>&1; }
healthy() {
  within "$wait_s" answers || { echo "no 200 from $url/health within $wait_s s"; return 1; }
  get /health
}
state()          { docker inspect -f "$2" "$(compose ps -aq "$1")"; }
all_healthy() {
  local service
  for service in storage broker aggregator; do
    within "$wait_s" is_healthy "$service" || { echo "$service is $(state "$service" '{{.State.Status}}, {{.State.Health.Status}}')"; return 1; }
  done
  echo 'storage, broker, aggregator'
}
is_healthy()     { [ "$(state "$1" '{{.State.Health.Status}}')" = healthy ]; }
publisher_done() { [ "$(state publisher '{{.State.Status}}')" = exited ]; }
publisher_ends() {
  within "$wait_s" publisher_done || { echo "still running after $wait_s s"; return 1; }
  compose logs --no-color --no-log-prefix publisher >"$work/publisher"
  echo "exit code $(state publisher '{{.State.ExitCode}}')"
  [ "$(state publisher '{{.State.ExitCode}}')" = 0 ]
}
# The publisher is the only one who has published: the counts that it printed are those of /stats.
counts_agree() {
  local printed counted
  printed=$(sed -n 's/^unique: //p; s/^duplicates: //p' "$work/publisher" | tr '\n' ' ')
  counted=$(get /stats | field unique_processed_count duplicate_dropped_count)
  echo "unique and duplicates: it printed ${printed% }, /stats has $counted"
  [ "${printed% }" = "$counted" ]
}
published()      { post | tee "$work/reply" && [ "$(field outcome <"$work/reply")" = "$1" ]; }
# One duplicate more, nothing new.
counted_once() {
  local before after
  read -r -a before < <(get /stats | field unique_processed_count duplicate_dropped_count)
  published duplicate >/dev/null
  read -r -a after < <(get /stats | field unique_processed_count duplicate_dropped_count)
  echo "unique ${before[0]} -> ${after[0]}, duplicates ${before[1]} -> ${after[1]}"
  [ "${after[0]}" = "${before[0]}" ] && [ "${after[1]}" = $((before[1] + 1)) ]
}
there_once() {
  local count
  count=$(get "/events?topic=$topic" | field count)
  echo "$count in GET /events?topic=$topic"
  [ "$count" = 1 ]
}
stats_add_up() {
  local received unique duplicates
  read -r received unique duplicates < <(get /stats | field received_count unique_processed_count duplicate_dropped_count)
  echo "$received received = $unique unique + $duplicates duplicates"
  [ "$received" = $((unique + duplicates)) ]
}
hardened() {
  local service
  for service in aggregator publisher; do
    [ "$(state "$service" '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.Config.User}}')" = \
      'true [ALL] [no-new-privileges:true] 10001:10001' ] || { echo "$service is not"; return 1; }
  done
  echo 'read-only, no capabilities, no new privileges, uid 10001'
}
one_port() {
  local ports
  ports=$(compose ps --format '{{.Service}} {{.Ports}}' | grep -e '->' || true)
  echo "$ports"
  [ "$(wc -l <<<"$ports")" = 1 ] && [[ $ports == "aggregator $ONCELOG_PUBLISH->8080/tcp"* ]]
}
admin_closed()   {
  local code
  code=$(curl -sS -m 10 -o /dev/null -w '%{http_code}' "$url/admin/actors")
  echo "$code without the token"
  [ "$code" = 401 ]
}
# What the dashboard asks for is there to be asked for.
dashboard_metrics() {
  local name missing=
  get /metrics >"$work/metrics"
  for name in $(grep -ohE '(oncelog|process)_[a-z_]+' deploy/observability/grafana/dashboards/oncelog.json | sort -u); do
    grep -qE "^$name[{ ]" "$work/metrics" || missing+=" $name"
  done
  [ -z "$missing" ] || { echo "not in /metrics:$missing"; return 1; }
}
logged()         { compose exec -T aggregator sh -c 'cat /var/log/oncelog/*' | head -n 1 | field message; }
replicas_up()    { compose --profile replicas up -d --wait --scale aggregator-replica=2 balancer; }
balanced() {
  curl -fsS -m 10 "http://$ONCELOG_BALANCER_PUBLISH/health"
}
# Every aggregator is restarted while the publisher sends: it ends with 0, and agrees with /stats.
rolling_restart() {
  local service run
  compose run --rm -T --no-deps publisher --url http://balancer:8080 --events 16000 --rate 400 --duplicates 35% --verify \
    >"$work/rolled" 2>&1 &
  run=$!
  sleep 5
  for service in aggregator aggregator-replica; do
    compose --profile replicas restart "$service"
    compose --profile replicas up -d --no-deps --no-recreate --wait --scale aggregator-replica=2 "$service"
    sleep 5
  done
  kill -0 "$run" || { echo 'the publisher was done before the last restart'; cat "$work/rolled"; return 1; }
  wait "$run" || { cat "$work/rolled"; return 1; }
  sed -n 's/^\(sends\|retries\|errors\): /\1 /p' "$work/rolled" | paste -sd ' '
}
down()           { compose --profile replicas down -t 20; }

must  'compose config, all profiles'          config_parses
must  'the port is free'                      port_is_free
must  'up --build'                            up
must  'GET /health'                           healthy
must  'services are healthy'                  all_healthy
check 'the publisher ends with 0'             publisher_ends || true
check 'its counts are those of /stats'        counts_agree || true
check 'images built here are hardened'        hardened || true
check 'one port is published'                 one_port || true
check 'admin calls ask for the token'         admin_closed || true
check 'the log is in its volume'              logged || true
check 'the dashboard asks for what is there'  dashboard_metrics || true
must  'publish'                               published stored
check 'a second publish is a duplicate'       counted_once || true
check 'GET /events has it once'               there_once || true
check 'GET /stats adds up'                    stats_add_up || true
must  'up, profile replicas'                  replicas_up
must  'GET /health of the balancer'           balanced
check 'a rolling restart under load'          rolling_restart || true
check 'GET /stats adds up'                    stats_add_up || true
must  'down, volumes kept'                    down
must  'up again'                              up
must  'GET /health'                           healthy
must  'services are healthy'                  all_healthy
check 'the publisher ends with 0'             publisher_ends || true
check 'the event outlived it'                 there_once || true
check 'a publish of it is a duplicate'        counted_once || true
check 'GET /stats adds up'                    stats_add_up || true
