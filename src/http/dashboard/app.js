// The dashboard: keeps the stream of numbers open, and hands each frame to the parts of the page.

import { NUMBERS, tellAboutToken, watchToken } from "/dashboard/api.js";
import { showActors } from "/dashboard/actors.js";
import { addPoints, setHistory } from "/dashboard/chart.js";
import { refreshLists } from "/dashboard/lists.js";
import { EventStream } from "/dashboard/stream.js";
import { noteNumbers, restartTail } from "/dashboard/tail.js";

// The service sends at least a frame a second; after this long it is gone.
const SILENCE_MS = 6_000;

const byId = (id) => document.getElementById(id);
const set = (id, text) => {
  const element = byId(id);
  // Writing what is there already would make a screen reader and the layout look again.
  if (element.textContent !== text) element.textContent = text;
};

function duration(seconds) {
  const [days, hours, minutes] = [seconds / 86400, (seconds / 3600) % 24, (seconds / 60) % 60].map(Math.floor);
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(seconds)} s`;
}

function milliseconds(ms) {
  if (ms === null) return "–";
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

function showHealth(health) {
  for (const [id, state] of [["database", health.database], ["broker", health.redis]]) {
    byId(id).dataset.state = state;
    const text = byId(id).querySelector("b");
    if (text.textContent !== state) text.textContent = state;
  }
}

/** Where everything is kept, and always was, there is nothing to show. */
function showRetention(retention) {
  const { rules, dead_letter_age: age, last_run_at: at } = retention;
  const { payloads_dropped_count: dropped, events_deleted_count: deleted, dead_letters_deleted_count: letters } = retention;
  const isUsed = Boolean(rules || age || dropped || deleted || letters);
  const settings = [rules && `RETENTION=${rules}`, age && `DEAD_LETTER_RETENTION=${age}`];
  for (const row of document.querySelectorAll(".aged")) {
    row.hidden = !isUsed;
    row.title = settings.filter(Boolean).join(" ");
  }
  set("payloads-dropped", String(dropped));
  set("events-deleted", String(deleted));
  set("letters-deleted", String(letters));
  set("retention-run", at ? new Date(at).toLocaleTimeString([], { hour12: false }) : "–");
}

function showStats(stats, publish) {
  const { received_count: received, duplicate_dropped_count: duplicates } = stats;
  set("received", String(received));
  set("unique", String(stats.unique_processed_count));
  set("duplicates", String(duplicates));
  set("ratio", received ? `${((duplicates / received) * 100).toFixed(1)} %` : "–");
  set("conflicts", String(stats.conflict_count));
  set("rejected", String(stats.rejected_count));
  set("queue", String(stats.queue_length));
  set("topics-count", String(stats.topics_count));
  set("letters-count", String(stats.dead_letter_count));
  set("uptime", duration(stats.uptime_seconds));
  showRetention(stats.retention);
  set("p50", milliseconds(publish.p50_ms));
  set("p99", milliseconds(publish.p99_ms));
}

function showFrame(frame) {
  showHealth(frame.health);
  if (frame.stats) showStats(frame.stats, frame.publish);
  addPoints(frame.rates);
  showActors(frame);
  refreshLists(frame.stats);
  noteNumbers(frame.stats);
}

function showLink(state, text) {
  document.body.classList.toggle("stale", state === "lost");
  byId("link").dataset.state = state;
  set("link", text);
}

let isTailing = false;
const numbers = new EventStream({
  path: () => NUMBERS,
  silenceMs: SILENCE_MS,
  onEvent: (name, data) => {
    if (name === "history") setHistory(JSON.parse(data));
    else showFrame(JSON.parse(data));
  },
  onState: (state, pauseMs) => {
    if (state === "live") {
      showLink("live", "Live");
      // Not before: without a token both would be refused.
      if (!isTailing) restartTail();
      isTailing = true;
      return;
    }
    if (state === "lost") return showLink("lost", `Connection lost, trying again in ${Math.ceil(pauseMs / 1000)} s`);
    if (state === "hidden") return;
    showLink("refused", "Token needed");
    tellAboutToken("Reading needs a token of this service.", true);
  },
});

watchToken(() => {
  isTailing = false;
  numbers.start();
});
numbers.start();
