// What the dashboard shows of what age has taken.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { card, crashButton, isAsWideAsItsWindow, lowContrast, restarts, shows } from "./page.js";
import { Redis, Service, event, eventually, launch, open } from "./service.js";

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

describe("with retention", () => {
  const settings = { RETENTION: "gone=1s:delete,*=1s", DEAD_LETTER_RETENTION: "1s", RETENTION_INTERVAL_MS: "100" };
  const RUNS_MS = 20_000;
  let redis, service;
  before(async () => {
    if (Redis.isInstalled) redis = await Redis.start();
    service = await Service.start({ ...settings, ...(redis && { REDIS_URL: redis.url }) });
  });
  after(async () => {
    await service?.stop();
    await redis?.stop();
  });

  test("what age has taken is counted, with its last run, and its actor crashes and goes on", async () => {
    const page = await open(browser, service);
    await service.publish([event("old", "o-1"), event("old", "o-2"), event("old", "o-3"), event("gone", "g-1"), event("gone", "g-2")]);
    await redis?.send("XADD oncelog:events * event nothing");
    await shows(page, "payloads-dropped", 3, RUNS_MS);
    await shows(page, "events-deleted", 2, RUNS_MS);
    await shows(page, "letters-deleted", redis ? 1 : 0, RUNS_MS);
    await eventually("the time of its last run", async () => /^\d\d:\d\d:\d\d$/.test(await page.locator("#retention-run").innerText()));
    const rows = page.locator(".aged");
    assert.equal(await rows.count(), 4);
    for (const row of await rows.all()) {
      assert.ok(await row.isVisible());
      assert.equal(await row.getAttribute("title"), `RETENTION=${settings.RETENTION} DEAD_LETTER_RETENTION=1s`);
    }
    // What was stored stays counted.
    await shows(page, "unique", 5);

    await crashButton(page, "retention").click();
    await eventually("it was restarted", async () => (await restarts(page, "retention")) === 1);
    await eventually("it runs", async () => (await card(page, "retention").locator(".state").innerText()) === "running");
    await service.publish([event("old", "o-4")]);
    await shows(page, "payloads-dropped", 4, RUNS_MS);
    const fresh = await open(browser, service);
    await eventually("the list says so", async () => (await fresh.locator("#events td.dropped").count()) === 4);
    assert.deepEqual([...page.complaints, ...fresh.complaints], []);
    await page.context().close();
    await fresh.context().close();
  });

  for (const [name, viewport] of Object.entries({ wide: { width: 1280, height: 900 }, narrow: { width: 390, height: 844 } })) {
    test(`${name}, its rows fit beside the others`, async () => {
      const page = await open(browser, service, { viewport });
      await shows(page, "payloads-dropped", 4);
      await crashButton(page, "retention").waitFor();
      assert.ok(await isAsWideAsItsWindow(page));
      const cut = (rows) => rows.filter((row) => row.scrollWidth > row.clientWidth).map((row) => row.textContent);
      assert.deepEqual(await page.locator(".totals dl.small > div").evaluateAll(cut), []);
      assert.deepEqual(await page.evaluate(lowContrast), [], "contrast below 4.5");
      await page.context().close();
    });
  }
});
