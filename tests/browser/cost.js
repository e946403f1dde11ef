// What an open dashboard costs the service: node cost.js [PAIRS] [SECONDS] [RATE...]
// CPU time of the service's process, from /proc, while a browser shows the page and while none does, in
// turns; at each rate of events a second. ONCELOG_BIN names the binary, DATABASE_URL the database.

import { readFileSync } from "node:fs";
import { Service, event, launch, open } from "./service.js";

const TICKS_A_SECOND = 100;
const BATCHES_A_SECOND = 50;
const SETTLE_MS = 2000;

const [pairs = 4, seconds = 20, ...rates] = process.argv.slice(2).map(Number);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** User and system time, in seconds. */
function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND;
}

/** Publishes at that rate until it is told to end; no answer holds up the next publish. */
function load(service, rate) {
  let isOver = rate === 0;
  const run = async () => {
    const answers = [];
    for (let batch = 0, due = Date.now(); !isOver; batch++, due += 1000 / BATCHES_A_SECOND) {
      const id = `${due}-${batch}`;
      const events = Array.from({ length: rate / BATCHES_A_SECOND }, (_, n) => event(`load.${n % 20}`, `${id}-${n}`));
      answers.push(service.publish(events));
      await wait(due - Date.now());
    }
    await Promise.all(answers);
  };
  const running = run();
  return () => {
    isOver = true;
    return running;
  };
}

/** The share of a core, in percent. */
async function share(service) {
  await wait(SETTLE_MS);
  const [cpu, clock] = [cpuSeconds(service.process.pid), performance.now()];
  await wait(seconds * 1000);
  return ((cpuSeconds(service.process.pid) - cpu) / (performance.now() - clock)) * 100_000;
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const text = (values) => `${median(values).toFixed(2)} (${values.map((value) => value.toFixed(2)).join(", ")})`;

const settings = process.env.DATABASE_URL ? { DATABASE_URL: process.env.DATABASE_URL } : {};
const service = await Service.start(settings);
const browser = await launch();
for (const rate of rates.length ? rates : [0, 500]) {
  const [before, start] = [(await service.stats()).unique_processed_count, performance.now()];
  const end = load(service, rate);
  const [closed, opened] = [[], []];
  for (let pair = 0; pair < pairs; pair++) {
    closed.push(await share(service));
    const page = await open(browser, service);
    opened.push(await share(service));
    await page.context().close();
  }
  await end();
  const stored = ((await service.stats()).unique_processed_count - before) / ((performance.now() - start) / 1000);
  const cost = opened.map((value, pair) => value - closed[pair]);
  console.log(`${Math.round(stored)} events/s stored, % of a core: without ${text(closed)}, with ${text(opened)}, difference ${text(cost)}`);
}
await browser.close();
await service.stop();
