// The live tail: the newest events, as `GET /events/stream` tells of them. It draws at most a few times
// a second, and where more comes than anybody can read it lets go of the stream and takes it up again
// at the end of the log: a sample, which says how much it has left out.

import { parseExactly, read } from "/dashboard/api.js";
import { isTopic } from "/dashboard/lists.js";
import { EventStream } from "/dashboard/stream.js";
import { element, foreign, opening, time } from "/dashboard/text.js";

const ROWS_MAX = 25;
// For a filter that is no topic: so many of the newest events are looked through at the beginning.
const SEARCHED_MAX = 200;
const DRAW_MS = 250;
// More in a window than this, and the rest of the window is skipped.
const WINDOW_MS = 1000;
const RECEIVED_IN_WINDOW_MAX = 100;
const TYPING_MS = 300;
const RETRY_MS = 2000;
// The service sends a heartbeat every 10 s, unless it is told otherwise.
const SILENCE_MS = 60_000;

const byId = (id) => document.getElementById(id);
const rows = byId("events");
const filter = byId("filter");
const pause = byId("pause");

// Received, and not drawn yet.
let waiting = [];
let drawing = 0;
// What was there before the stream began is still to be read.
let isEmpty = true;
let fills = 0;
// Whether the stream is that of one topic, named by the filter.
let followsTopic = false;

let windowEnd = 0;
let receivedInWindow = 0;
let isSampling = false;
// All events received, and where that stood when nothing was left out.
let received = 0;
let stored = null;
let abreast = null;
let isAbreast = false;
let skippedBefore = 0;

const isPaused = () => pause.ariaPressed === "true";

const stream = new EventStream({
  path: () => (followsTopic ? `/events/stream?${new URLSearchParams({ topic: filter.value })}` : "/events/stream"),
  silenceMs: SILENCE_MS,
  onEvent: receive,
  onState: (state) => {
    isAbreast = false;
    clearTimeout(windowEnd);
    if (state === "live") openWindow();
    // Only now, when nothing that is stored from here on can be missed.
    if (state === "live" && isEmpty) fill();
    showState(state);
  },
});

function tell(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

function showState(state) {
  const texts = {
    live: isSampling ? "More than can be read: a sample" : "Live",
    lost: "Connecting",
    hidden: "Connecting",
    refused: "Reading events needs a token",
    paused: "Paused",
  };
  byId("tail-state").dataset.state = state;
  tell("tail-state", texts[state]);
}

function eventRow(event) {
  const row = element(
    "tr",
    "",
    element("td", "time", time(event.processed_at)),
    element("td", "topic", foreign(event.topic)),
    element("td", "id", foreign(event.event_id)),
    element("td", "source", foreign(event.source)),
    event.payload_dropped ? element("td", "payload dropped", "dropped by age") : element("td", "payload", opening(JSON.stringify(event.payload))),
  );
  row.dataset.key = keyOf(event);
  return row;
}

const keyOf = (event) => JSON.stringify([event.topic, event.event_id]);

function matches(event) {
  const needle = filter.value.toLowerCase();
  return followsTopic || [event.topic, event.event_id, event.source].some((text) => text.toLowerCase().includes(needle));
}

function receive(name, data) {
  if (name !== "event") return;
  received += 1;
  receivedInWindow += 1;
  const event = parseExactly(data);
  if (matches(event)) waiting = [...waiting.slice(1 - ROWS_MAX), event];
  drawing ||= setTimeout(draw, DRAW_MS);
  if (receivedInWindow < RECEIVED_IN_WINDOW_MAX) return;
  isSampling = true;
  isAbreast = false;
  stream.stop();
  stream.cursor = "";
  showState("live");
}

function openWindow() {
  receivedInWindow = 0;
  clearTimeout(windowEnd);
  windowEnd = setTimeout(closeWindow, WINDOW_MS);
}

function closeWindow() {
  if (receivedInWindow >= RECEIVED_IN_WINDOW_MAX) return stream.start();
  if (isSampling) {
    skippedBefore = skipped();
    abreast = null;
    isSampling = false;
    showState("live");
  }
  isAbreast = true;
  openWindow();
}

/** What was stored and not received. The numbers are half a second old, so that it is not exact. */
function skipped() {
  const since = abreast ? stored - abreast.stored - (received - abreast.received) : 0;
  return skippedBefore + Math.max(since, 0);
}

function showSkipped() {
  if (isPaused()) return;
  const count = isSampling ? skipped() : skippedBefore;
  // How many of a topic's events were stored meanwhile is not among the numbers.
  const text = followsTopic ? "some skipped" : `about ${count} skipped`;
  tell("tail-skipped", count || (followsTopic && isSampling) ? text : "");
}

function draw() {
  drawing = 0;
  // Those that are read now come below.
  if (isEmpty) return;
  const there = new Set([...rows.rows].map((row) => row.dataset.key));
  for (const event of waiting) if (!there.has(keyOf(event))) rows.prepend(eventRow(event));
  waiting = [];
  while (rows.rows.length > ROWS_MAX) rows.lastElementChild.remove();
  byId("events-empty").hidden = rows.rows.length > 0 || filter.value;
  byId("events-unmatched").hidden = rows.rows.length > 0 || !filter.value;
}

/** Reads the newest events that are stored already. */
async function fill() {
  const run = ++fills;
  const query = new URLSearchParams({ limit: String(filter.value && !followsTopic ? SEARCHED_MAX : ROWS_MAX) });
  if (followsTopic) query.set("topic", filter.value);
  const events = await read(`/events?${query}`).then((page) => page.events, () => null);
  if (run !== fills) return;
  if (!events) {
    setTimeout(() => run === fills && fill(), RETRY_MS);
    return;
  }
  rows.replaceChildren(...events.filter(matches).slice(0, ROWS_MAX).map(eventRow));
  tell("events-unmatched", `None of the newest events matches “${filter.value}”.`);
  isEmpty = false;
  draw();
}

/** Begins anew: with another filter or another token. */
export function restartTail() {
  fills += 1;
  isEmpty = true;
  waiting = [];
  followsTopic = isTopic(filter.value);
  [isSampling, isAbreast, abreast, skippedBefore] = [false, false, null, 0];
  showSkipped();
  stream.cursor = "";
  if (isPaused()) fill();
  else stream.start();
}

/** Is told the numbers of each frame. */
export function noteNumbers(stats) {
  if (!stats) return;
  stored = stats.unique_processed_count;
  if (isAbreast || !abreast) abreast = { stored, received };
  showSkipped();
  // The filter may name a topic that nobody knew when it was typed.
  if (!isPaused() && followsTopic !== isTopic(filter.value)) restartTail();
}

let typing = 0;
filter.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(restartTail, TYPING_MS);
});

pause.addEventListener("click", () => {
  pause.ariaPressed = String(!isPaused());
  pause.textContent = isPaused() ? "Resume" : "Pause";
  if (isPaused()) {
    isAbreast = false;
    clearTimeout(windowEnd);
    stream.stop();
    // What was received is shown at once: nothing may move afterwards.
    clearTimeout(drawing);
    draw();
    showState("paused");
  } else {
    // Without a cursor it goes on at the end of the log, and what is shown is older than that.
    if (!stream.cursor) isEmpty = true;
    stream.start();
  }
});
