// The actor tree: a card for each actor with its button, and the ways that events take between them.

import { crash } from "/dashboard/api.js";

const SVG = "http://www.w3.org/2000/svg";
const FLASH_MS = 2500;

const tree = document.getElementById("tree");
const message = document.getElementById("actors-message");
const wires = document.createElementNS(SVG, "svg");
wires.setAttribute("class", "wires");
wires.setAttribute("aria-hidden", "true");

const cards = new Map();
let known = "";

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/** A term with its value; returns the value. */
function figure(list, term) {
  const pair = element("div", "");
  const value = element("dd", "", "–");
  pair.append(element("dt", "", term), value);
  list.append(pair);
  return value;
}

function actorCard(name) {
  const root = element("li", "actor");
  const state = element("span", "state");
  const head = element("div", "name");
  head.append(element("h3", "", name), state);
  const figures = element("dl", "");
  const mailbox = figure(figures, "Mailbox");
  const restarts = figure(figures, "Restarts");
  const button = element("button", "crash", "Crash");
  button.type = "button";
  button.setAttribute("aria-label", `Crash ${name}`);
  button.addEventListener("click", async () => {
    button.classList.add("busy");
    message.textContent = await crash(name).catch(() => "The service did not answer.");
    button.classList.remove("busy");
  });
  const row = element("div", "row");
  row.append(figures, button);
  const failure = element("p", "failure");
  root.append(head, row, failure);
  root.dataset.actor = name;
  return { root, state, mailbox, restarts, failure, flash: 0 };
}

/** What is no actor and belongs into the picture. */
function placeCard(name, text) {
  const root = element("li", "place");
  const note = element("p", "note", text);
  root.append(element("h3", "", name), note);
  return { root, note };
}

function build(actors) {
  cards.clear();
  const columns = [
    ["Producers", []],
    ["Routing", []],
    ["Writing", []],
    ["Counting", []],
  ].map(([title, members]) => ({ title, members }));
  const place = (column, key, card) => {
    cards.set(key, card);
    columns[column].members.push(card.root);
  };
  place(0, "http", placeCard("HTTP", "publish, publish/batch"));
  const column = { "redis-bridge": 0, ingest: 1, persist: 2, stats: 3 };
  for (const { name, kind } of actors) place(column[kind] ?? 3, name, actorCard(name));
  place(3, "database", placeCard("Database", ""));
  const lists = columns.map(({ title, members }) => {
    const list = element("ul", "column");
    list.setAttribute("aria-label", title);
    list.classList.toggle("many", members.length > 8);
    list.append(...members);
    return list;
  });
  tree.replaceChildren(wires, ...lists);
}

function ways(actors) {
  const named = (kind) => actors.filter((actor) => actor.kind === kind).map((actor) => actor.name);
  const shards = named("persist");
  const sources = ["http", ...named("redis-bridge")];
  return [
    ...sources.map((source) => [source, "ingest", "events"]),
    ...shards.map((shard) => ["ingest", shard, "events"]),
    ...shards.map((shard) => [shard, "database", "events"]),
    ...shards.map((shard) => [shard, "stats", "counts"]),
  ];
}

function drawWires(actors) {
  const origin = tree.getBoundingClientRect();
  wires.setAttribute("viewBox", `0 0 ${origin.width} ${origin.height}`);
  wires.replaceChildren();
  for (const [from, to, kind] of ways(actors)) {
    if (!cards.has(from) || !cards.has(to)) continue;
    const [a, b] = [from, to].map((key) => cards.get(key).root.getBoundingClientRect());
    // In a narrow window the cards stand below each other and tell their order by themselves.
    if (b.left <= a.right) continue;
    const [x1, y1] = [a.right - origin.left, a.top + a.height / 2 - origin.top];
    const [x2, y2] = [b.left - origin.left, b.top + b.height / 2 - origin.top];
    const middle = (x1 + x2) / 2;
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`);
    path.setAttribute("class", kind);
    wires.append(path);
  }
}

function ago(timestamp) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(timestamp)) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min ago` : new Date(timestamp).toLocaleString();
}

function update(card, actor) {
  const set = (target, text) => target.textContent === text || (target.textContent = text);
  const restarts = String(actor.restarts);
  if (card.restarts.textContent !== "–" && card.restarts.textContent !== restarts) flash(card);
  const state = actor.state === "running" && !actor.connected ? "running, not connected" : actor.state;
  set(card.state, state);
  card.root.dataset.state = actor.state === "running" && !actor.connected ? "cut-off" : actor.state;
  set(card.mailbox, String(actor.mailbox_depth));
  set(card.restarts, restarts);
  const failure = actor.last_failure;
  set(card.failure, failure ? `Ended ${ago(failure.at)}${failure.reason ? `: ${failure.reason}` : ""}` : "Never ended");
  card.failure.title = failure?.reason ?? "";
}

/** A restart takes some milliseconds: what nobody could see is shown for a moment. */
function flash(card) {
  clearTimeout(card.flash);
  card.root.classList.add("restarted");
  card.flash = setTimeout(() => card.root.classList.remove("restarted"), FLASH_MS);
}

let shown = [];

/** Shows the actors of a frame. */
export function showActors({ actors, health, rates }) {
  const names = actors.map((actor) => actor.name).join(" ");
  const isNew = names !== known;
  if (isNew) {
    known = names;
    build(actors);
  }
  for (const actor of actors) update(cards.get(actor.name), actor);
  const database = cards.get("database");
  database.note.textContent = health.database;
  database.root.dataset.state = health.database;
  const last = rates.points.at(-1);
  tree.classList.toggle("flowing", Boolean(last && last[0] + last[1] > 0));
  shown = actors;
  if (isNew) drawWires(actors);
}

new ResizeObserver(() => drawWires(shown)).observe(tree);
