// The dashboard: keeps the stream of numbers open, and hands each frame to the parts of the page.
// Whatever comes from events goes into the page as text, never as markup.

import { openStream, tellAboutToken, watchToken } from "/dashboard/api.js";
import { showActors } from "/dashboard/actors.js";
import { addPoints, setHistory } from "/dashboard/chart.js";
import { refreshLists } from "/dashboard/lists.js";

const PAUSE_MS_MIN = 500;
const PAUSE_MS_MAX = 10_000;
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
  set("p50", milliseconds(publish.p50_ms));
  set("p99", milliseconds(publish.p99_ms));
}

function showFrame(frame) {
  showHealth(frame.health);
  if (frame.stats) showStats(frame.stats, frame.publish);
  addPoints(frame.rates);
  showActors(frame);
  refreshLists(frame.stats);
}

function showLink(state, text) {
  document.body.classList.toggle("stale", state === "lost");
  byId("link").dataset.state = state;
  set("link", text);
}

/** Hands over each event of a Server-Sent Events body. EventSource would do it, and cannot send a token. */
async function eachEvent(body, handle) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: ?(.*)/s)));
      if (fields.data) handle(fields.event, JSON.parse(fields.data));
    }
  }
}

let again = new AbortController();
// Another token was given: the next connection is made with it, at once.
let isRenewed = false;

/** One connection, to its end. Returns whether it brought anything. */
async function follow() {
  again = new AbortController();
  const { signal } = again;
  let silence;
  let isAlive = false;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => again.abort(), SILENCE_MS);
  };
  try {
    heard();
    const answer = await openStream(signal);
    if (answer.status === 401 || answer.status === 403) {
      showLink("refused", "Token needed");
      tellAboutToken("Reading needs a token of this service.", true);
      clearTimeout(silence);
      // Nothing to try again before there is another token.
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      return true;
    }
    if (!answer.ok) return false;
    await eachEvent(answer.body, (name, data) => {
      heard();
      isAlive = true;
      showLink("live", "Live");
      if (name === "history") setHistory(data);
      else showFrame(data);
    });
  } catch {
    // Lost, silent, or a new token: in each case the next connection tells.
  } finally {
    clearTimeout(silence);
  }
  return isAlive;
}

async function stayConnected() {
  for (let pause = PAUSE_MS_MIN; ; ) {
    isRenewed = false;
    const wasAlive = await follow();
    if (wasAlive || isRenewed) pause = PAUSE_MS_MIN;
    if (isRenewed) continue;
    showLink("lost", `Connection lost, trying again in ${Math.ceil(pause / 1000)} s`);
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, PAUSE_MS_MAX);
  }
}

watchToken(() => {
  isRenewed = true;
  again.abort();
});
stayConnected();
