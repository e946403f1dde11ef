// What the dashboard shows of a broker and a database that come and go. The broker is a Redis of the
// test's own; the database is the Postgres that TEST_POSTGRES_URL names, behind a way that can be cut.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Proxy, Redis, Service, event, eventually, launch, open } from "./service.js";

const POSTGRES = process.env.TEST_POSTGRES_URL;

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

const health = (page, id, text) => eventually(`#${id} is ${text}`, async () => (await page.locator(`#${id} b`).innerText()) === text, 20_000);

test("what can be no event is shown among the dead letters, as text, and a lost broker as lost", { skip: !Redis.isInstalled && "no redis-server here" }, async () => {
  const redis = await Redis.start();
  const service = await Service.start({ REDIS_URL: redis.url });
  try {
    const page = await open(browser, service);
    await health(page, "broker", "connected");
    await page.locator('[data-actor="redis-bridge"]').waitFor();
    await redis.send(`XADD oncelog:events * event "<img/src=x/onerror=alert(1)>"`);
    await page.locator("#letters tr").first().waitFor();
    assert.match(await page.locator("#letters tr").first().innerText(), /<img\/src=x\/onerror=alert\(1\)>/);
    assert.equal(await page.locator("#letters img").count(), 0);
    assert.equal(await page.locator("#letters-count").innerText(), "1");
    assert.deepEqual(page.complaints, []);
    await redis.stop();
    await health(page, "broker", "disconnected");
    await health(page, "database", "connected");
    await page.context().close();
  } finally {
    await service.stop();
    await redis.stop();
  }
});

test("a lost database is told, and the page goes on when it is back", { skip: !POSTGRES && "TEST_POSTGRES_URL names no database" }, async () => {
  const url = new URL(POSTGRES);
  const proxy = await Proxy.to(url.hostname, Number(url.port || 5432));
  [url.hostname, url.port] = ["127.0.0.1", String(proxy.port)];
  const service = await Service.start({ DATABASE_URL: url.href });
  try {
    const page = await open(browser, service);
    await health(page, "database", "connected");
    proxy.cut();
    await health(page, "database", "disconnected");
    assert.equal(await page.locator("#link").innerText(), "Live", "the numbers that there are go on");
    proxy.mend();
    await health(page, "database", "connected");
    const id = `back-${Date.now()}`;
    await eventually("it can be published again", () => service.publish([event("outage", id)]).then(() => true, () => false), 20_000);
    await page.locator("#events tr").filter({ hasText: id }).waitFor();
    await page.context().close();
  } finally {
    await service.stop();
    proxy.close();
  }
});
