// The lists below: topics and dead letters. Read again when the numbers say that there is something new.

import { read } from "/dashboard/api.js";
import { element, foreign, opening, time } from "/dashboard/text.js";

const TOPICS_SHOWN = 12;
const LETTERS_SHOWN = 8;
const TOPICS_PAUSE_MS = 3000;
const LETTERS_PAUSE_MS = 1000;

const byId = (id) => document.getElementById(id);
let topicNames = new Set();

/** Whether there is a topic of this name, as far as is known. */
export function isTopic(name) {
  return topicNames.has(name);
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

const topics = whenChanged(refreshTopics, TOPICS_PAUSE_MS);
const letters = whenChanged(refreshLetters, LETTERS_PAUSE_MS);

/** Brings the lists up to these numbers. */
export function refreshLists(stats) {
  if (!stats) return;
  topics(`${stats.unique_processed_count} ${stats.duplicate_dropped_count}`);
  letters(String(stats.dead_letter_count));
}
