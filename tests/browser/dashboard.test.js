// The dashboard in a real browser, over the real service.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { card, crashButton, isAsWideAsItsWindow, lowContrast, restarts, shows } from "./page.js";
import { Service, event, eventually, launch, open } from "./service.js";

// What the contract calls live. Elsewhere the tests wait longer: the machine may have other work.
const LIVE_MS = 3000;

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

describe("without tokens", () => {
  let service;
  before(async () => (service = await Service.start()));
  after(() => service?.stop());

  test("the counts are those of /stats, in full digits, within three seconds", async () => {
    const page = await open(browser, service);
    for (let batch = 0; batch < 12; batch++) {
      const events = Array.from({ length: 1000 }, (_, n) => event(`load.${n % 7}`, `b${batch}-${n}`));
      await service.publish(events);
      if (batch < 2) await service.publish(events);
    }
    const stats = await service.stats();
    assert.ok(stats.received_count >= 14_000 && stats.duplicate_dropped_count >= 2000);
    await shows(page, "received", stats.received_count, LIVE_MS);
    await shows(page, "unique", stats.unique_processed_count);
    await shows(page, "duplicates", stats.duplicate_dropped_count);
    await shows(page, "topics-count", stats.topics_count);
    await eventually("publish times", async () => /^[\d.]+ ms$/.test(await page.locator("#p99").innerText()));
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });

  test("the chart moves, and a fresh page has the minutes before it", async () => {
    const page = await open(browser, service);
    const drawn = () => page.locator(".line.stored").getAttribute("d");
    const first = await eventually("a line", drawn);
    await service.publish([event("chart", `c-${Date.now()}`)]);
    await eventually("the line moves", async () => (await drawn()) !== first);
    const points = (path) => path.split(/[ML]/).length - 1;
    const before = points(await drawn());
    const fresh = await open(browser, service);
    await eventually("the same history", async () => points((await fresh.locator(".line.stored").getAttribute("d")) ?? "") >= before);
    await fresh.getByText("1 min", { exact: true }).click();
    await eventually("a minute", () => fresh.getByText("−60 s", { exact: true }).isVisible());
    assert.deepEqual([...page.complaints, ...fresh.complaints], []);
    await page.context().close();
    await fresh.context().close();
  });

  test("an actor crashes at a click, comes back, and publishing goes on", async () => {
    const page = await open(browser, service);
    await crashButton(page, "persist-0").waitFor();
    for (const name of ["ingest", "persist-0", "stats"]) {
      const before = await restarts(page, name);
      const count = (await service.stats()).unique_processed_count;
      await crashButton(page, name).click();
      const publishes = Array.from({ length: 5 }, (_, n) => service.publish([event("crash", `${name}-${count}-${n}`)]));
      await eventually(`${name} was restarted`, async () => (await restarts(page, name)) === before + 1);
      await eventually(`${name} runs`, async () => (await card(page, name).locator(".state").innerText()) === "running");
      await Promise.all(publishes);
      await shows(page, "unique", count + 5);
    }
    assert.match(await card(page, "persist-0").innerText(), /Ended .* crashed on request \(now\)/);
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });

  test("what events say stays text", async () => {
    const page = await open(browser, service);
    const markup = `<img src=x onerror=alert(1)><script>alert(2)</script>`;
    const stamp = String(Date.now());
    const id = `</script><b>"'&\u202e\u2066${stamp}`;
    const wide = "\u{1F9E8}".repeat(255 - stamp.length) + stamp;
    const template = `{{7*7}}\${7*7}${stamp}`;
    await service.publish([
      event(markup, id, { [markup]: markup, big: 1 }),
      event(wide, wide, { "</td>": wide }),
      event("javascript:alert(3)", template, {}),
    ]);
    const cell = (text) => page.locator("#events bdi").filter({ hasText: text }).first();
    await cell(markup).waitFor();
    assert.equal(await cell(markup).textContent(), markup);
    const ids = await page.locator("#events .id bdi").allTextContents();
    assert.ok(ids.includes(id) && ids.includes(wide) && ids.includes(template));
    await page.locator("#events summary", { hasText: markup }).first().click();
    await page.locator("#events pre", { hasText: markup }).first().waitFor();
    assert.equal(await page.locator("main img, main script, main b:has-text('&')").count(), 0);
    assert.ok(await isAsWideAsItsWindow(page));
    await page.locator("#filter").fill(template);
    await eventually("only what matches", async () => (await page.locator("#events tr").count()) === 1);
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });

  test("a number of any size is shown digit by digit", async () => {
    const digits = "123456789012345678901234567890";
    const body = `{"topic":"digits","event_id":"d-${Date.now()}","timestamp":"2026-01-02T03:04:05Z","source":"s","payload":{"n":${digits}}}`;
    const page = await open(browser, service);
    await fetch(`${service.url}/publish`, { method: "POST", headers: { "content-type": "application/json" }, body });
    await page.locator("#events summary", { hasText: digits }).first().waitFor();
    await page.context().close();
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`narrow and ${colorScheme}, all is readable and nothing has to be scrolled sideways`, async () => {
      const page = await open(browser, service, { viewport: { width: 390, height: 844 }, colorScheme });
      await crashButton(page, "persist-0").waitFor();
      await page.locator("#events tr").first().waitFor();
      assert.ok(await isAsWideAsItsWindow(page));
      const [ground, text] = await page.evaluate(() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]);
      const lightness = (color) => Math.max(...color.match(/\d+/g).map(Number));
      assert.equal(lightness(ground) > lightness(text), colorScheme === "light", `${text} on ${ground}`);
      const low = await page.evaluate(lowContrast);
      assert.deepEqual(low, [], "contrast below 4.5");
      await page.context().close();
    });
  }

  test("where everything is kept there is nothing of retention to see", async () => {
    const page = await open(browser, service);
    await crashButton(page, "persist-0").waitFor();
    await eventually("numbers", async () => /^\d+$/.test(await page.locator("#received").innerText()));
    assert.equal(await page.locator(".aged").count(), 4);
    assert.equal(await page.locator(".aged:visible").count(), 0);
    assert.equal(await card(page, "retention").count(), 0);
    await page.context().close();
  });

  test("the keyboard reaches every control, and Enter crashes an actor", async () => {
    const page = await open(browser, service);
    await crashButton(page, "ingest").waitFor();
    const reached = new Set();
    for (let presses = 0; presses < 40; presses++) {
      await page.keyboard.press("Tab");
      reached.add(await page.evaluate(() => document.activeElement.ariaLabel ?? document.activeElement.id));
      if (await crashButton(page, "ingest").evaluate((button) => button === document.activeElement)) break;
    }
    assert.ok(reached.has("token") && reached.has("Crash ingest"), [...reached].join());
    const outline = await crashButton(page, "ingest").evaluate((button) => getComputedStyle(button).outlineStyle);
    assert.notEqual(outline, "none");
    const before = await restarts(page, "ingest");
    await page.keyboard.press("Enter");
    await eventually("restarted", async () => (await restarts(page, "ingest")) > before);
    await page.context().close();
  });

  test("a lost connection is told, and comes back by itself", async () => {
    const page = await open(browser, service);
    await shows(page, "link", "Live");
    await service.end();
    await eventually("it is told", async () => /^Connection lost/.test(await page.locator("#link").innerText()));
    await service.restart();
    await shows(page, "link", "Live", 20_000);
    await page.context().close();
  });
});

describe("with tokens", () => {
  let service;
  before(async () => (service = await Service.start({ ADMIN_TOKEN: "boss", API_TOKENS: "eyes" })));
  after(() => service?.stop());

  test("a wrong token is told beside the field, the right ones read and crash", async () => {
    const page = await open(browser, service);
    const tells = (pattern) => eventually(`it tells ${pattern}`, async () => pattern.test(await page.locator("#token-message").innerText()));
    const give = async (token) => {
      await page.getByLabel("Token").fill(token);
      await page.getByRole("button", { name: "Use", exact: true }).click();
    };
    await tells(/needs a token/);
    await give("wrong");
    await tells(/not known/);
    await give("eyes");
    await tells(/Good for reading/);
    await service.publish([event("tokens", `t-${Date.now()}`)], "eyes");
    await page.locator("#events tr").first().waitFor();

    await crashButton(page, "persist-0").click();
    await eventually("refused", async () => /refused/.test(await page.locator("#token-message").innerText()));
    assert.equal(await restarts(page, "persist-0"), 0);

    await page.getByLabel("Token").fill("boss");
    await crashButton(page, "persist-0").click();
    await eventually("restarted", async () => (await restarts(page, "persist-0")) === 1);
    await tells(/Good for crashing actors/);
    await page.locator("#filter").fill("tokens");
    await page.locator("#events tr").first().waitFor();

    await page.reload();
    await crashButton(page, "persist-0").waitFor();
    const stored = await page.evaluate(() => [Object.keys(localStorage).length, document.cookie]);
    assert.deepEqual(stored, [0, ""], "the token stays in this tab");
    await page.context().close();
  });
});
