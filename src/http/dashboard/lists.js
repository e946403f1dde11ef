// The lists below: newest events, topics, dead letters. Read again when the numbers say that there is
// something new, the events at most once a second: a browser that was sent every one of 50,000 events
// a second could show none of them.

import { read } from "/dashboard/api.js";

const EVENTS_SHOWN = 25;
const EVENTS_SEARCHED = 200;
const TOPICS_SHOWN = 12;
const LETTERS_SHOWN = 8;
const EVENTS_PAUSE_MS = 1000;
const TOPICS_PAUSE_MS = 3000;

const byId = (id) => document.getElementById(id);
const filter = byId("filter");
const pause = byId("pause");
let topicNames = new Set();

function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

/** Text of somebody else: its writing direction must not spread to what stands beside it. */
function foreign(text) {
  const made = element("bdi", "", text);
  made.title = text;
  return made;
}

function time(timestamp) {
  const date = new Date(timestamp);
  const made = element("time", "", date.toLocaleTimeString([], { hour12: false }));
  made.dateTime = timestamp;
  made.title = date.toLocaleString();
  return made;
}

/** One line, the whole of it when opened. */
function opening(text) {
  return element("details", "", element("summary", "", foreign(text)), element("pre", "", text));
}

const keyOf = (event) => JSON.stringify([event.topic, event.event_id]);

function eventRow(event) {
  const row = element(
    "tr",
    "",
    element("td", "time", time(event.processed_at)),
    element("td", "topic", foreign(event.topic)),
    element("td", "id", foreign(event.event_id)),
    element("td", "source", foreign(event.source)),
    element("td", "payload", opening(JSON.stringify(event.payload))),
  );
  row.dataset.key = keyOf(event);
  return row;
}

async function refreshEvents() {
  const wanted = filter.value;
  const isTopic = topicNames.has(wanted);
  const query = new URLSearchParams({ limit: String(wanted && !isTopic ? EVENTS_SEARCHED : EVENTS_SHOWN) });
  if (isTopic) query.set("topic", wanted);
  const { events } = await read(`/events?${query}`);
  if (wanted !== filter.value || pause.ariaPressed === "true") return;
  const needle = wanted.toLowerCase();
  const matches = (event) => [event.topic, event.event_id, event.source].some((text) => text.toLowerCase().includes(needle));
  const shown = (wanted && !isTopic ? events.filter(matches) : events).slice(0, EVENTS_SHOWN);
  // Rows that stay are kept: one that is open stays open, and the focus where it is.
  const rows = new Map([...byId("events").rows].map((row) => [row.dataset.key, row]));
  const next = shown.map((event) => rows.get(keyOf(event)) ?? eventRow(event));
  const kept = new Set(next);
  for (const row of rows.values()) if (!kept.has(row)) row.remove();
  next.forEach((row, index) => {
    const there = byId("events").rows[index];
    if (there !== row) byId("events").insertBefore(row, there ?? null);
  });
  byId("events-empty").hidden = shown.length > 0;
  if (wanted) byId("events-empty").textContent = `None of the newest events matches “${wanted}”.`;
}

async function refreshTopics() {
  const { topics } = await read("/topics?limit=1000");
  topics.sort((a, b) => Number(b.unique_count) - Number(a.unique_count));
  const names = topics.map(({ topic }) => topic);
  if (names.some((name) => !topicNames.has(name))) {
    topicNames = new Set(names);
    byId("topic-names").replaceChildren(...names.slice(0, 100).map((name) => new Option(name, name)));
  }
  const largest = Math.max(1, ...topics.map((topic) => Number(topic.unique_count)));
  const number = (value) => element("td", "number", String(value));
  const rows = topics.slice(0, TOPICS_SHOWN).map((topic) => {
    const row = element("tr", "", element("th", "", foreign(topic.topic)), number(topic.unique_count), number(topic.duplicate_count));
    row.firstChild.scope = "row";
    row.style.setProperty("--share", String(Number(topic.unique_count) / largest));
    return row;
  });
  byId("topics").replaceChildren(...rows);
  byId("topics-empty").hidden = rows.length > 0;
  byId("topics-more").hidden = topics.length <= TOPICS_SHOWN;
  byId("topics-more").textContent = `The ${TOPICS_SHOWN} largest; all of them at /topics.`;
}

async function refreshLetters() {
  const { dead_letters: letters } = await read(`/dead-letters?limit=${LETTERS_SHOWN}`);
  const rows = letters.map((letter) => {
    const reason = element("p", "reason", foreign(letter.reason));
    return element("tr", "", element("td", "time", time(letter.received_at)), element("td", "", reason, opening(letter.entry)));
  });
  byId("letters").replaceChildren(...rows);
  byId("letters-empty").hidden = rows.length > 0;
}

/** Runs when what it depends on has changed, one run at a time and with a pause between them. */
function whenChanged(run, pauseMs) {
  let done;
  let isRunning = false;
  let notBefore = 0;
  return async (state) => {
    if (state === done || isRunning || Date.now() < notBefore) return;
    isRunning = true;
    try {
      await run();
      done = state;
    } catch {
      // Tried again with a later frame; the page says by itself when the service is out of reach.
    }
    notBefore = Date.now() + pauseMs;
    isRunning = false;
  };
}

const events = whenChanged(refreshEvents, EVENTS_PAUSE_MS);
const topics = whenChanged(refreshTopics, TOPICS_PAUSE_MS);
const letters = whenChanged(refreshLetters, EVENTS_PAUSE_MS);
let last = null;

/** Brings the lists up to these numbers. */
export function refreshLists(stats) {
  if (!stats) return;
  last = stats;
  if (pause.ariaPressed !== "true") events(`${stats.unique_processed_count} ${filter.value}`);
  topics(`${stats.unique_processed_count} ${stats.duplicate_dropped_count}`);
  letters(String(stats.dead_letter_count));
}

filter.addEventListener("input", () => refreshLists(last));
pause.addEventListener("click", () => {
  const isPaused = pause.ariaPressed !== "true";
  pause.ariaPressed = String(isPaused);
  pause.textContent = isPaused ? "Resume" : "Pause";
  refreshLists(last);
});
