// The dashboard's live tail in a real browser: one stream of events, at a speed that people can read.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Service, event, eventually, launch, open } from "./service.js";

const ROWS_MAX = 25;

const row = (page, id) => page.locator("#events tr").filter({ hasText: id });
const isShown = (page, id) => eventually(`${id} is shown`, async () => (await row(page, id).count()) === 1);
const state = (page, text) => eventually(`the tail is ${text}`, async () => (await page.locator("#tail-state").innerText()) === text);
const asked = (page, path) => page.asked.filter((request) => new URL(request.url()).pathname === path);
const unique = (name) => `${name}-${Date.now()}`;

let browser;
let service;
before(async () => {
  browser = await launch();
  service = await Service.start();
});
after(async () => {
  await browser?.close();
  await service?.stop();
});

describe("the live tail", () => {
  test("events come by one stream, newest first, and none is asked for", async () => {
    await service.publish([event("before", unique("before"))]);
    const page = await open(browser, service);
    await page.locator("#events tr").first().waitFor();
    await state(page, "Live");
    const ids = ["first", "second", "third"].map(unique);
    for (const id of ids) {
      await service.publish([event("tail", id)]);
      await isShown(page, id);
    }
    const shown = await page.locator("#events td.id").allInnerTexts();
    assert.deepEqual(shown.slice(0, 3), ids.toReversed());
    assert.equal(asked(page, "/events/stream").length, 1);
    assert.equal(asked(page, "/events").length, 1);
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });

  test("a paused tail stands still, and goes on after its last event", async () => {
    const page = await open(browser, service);
    await state(page, "Live");
    const before = unique("before-the-pause");
    await service.publish([event("tail", before)]);
    await isShown(page, before);
    await page.getByRole("button", { name: "Pause" }).click();
    await state(page, "Paused");
    const ids = Array.from({ length: 5 }, (_, n) => unique(`paused-${n}`));
    await service.publish(ids.map((id) => event("tail", id)));
    const stored = String((await service.stats()).unique_processed_count);
    await eventually("the numbers go on", async () => (await page.locator("#unique").innerText()) === stored);
    assert.equal(await row(page, "paused-").count(), 0);
    await page.getByRole("button", { name: "Resume" }).click();
    for (const id of ids) await isShown(page, id);
    const last = asked(page, "/events/stream").at(-1);
    assert.ok((await last.allHeaders())["last-event-id"], "it goes on after a cursor");
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });

  test("the filter finds a topic by its name, and anything else by a part of it", async () => {
    const page = await open(browser, service);
    const [topic, other] = [unique("wanted"), unique("other")];
    await service.publish([event(topic, "w-1"), event(other, "o-1")]);
    await isShown(page, "w-1");
    await page.locator("#filter").fill(topic);
    await eventually("the stream of the topic", () => asked(page, "/events/stream").some((request) => request.url().includes(`topic=${topic}`)));
    await service.publish([event(other, "o-2"), event(topic, "w-2")]);
    await isShown(page, "w-2");
    assert.deepEqual(await page.locator("#events td.id").allInnerTexts(), ["w-2", "w-1"]);

    await page.locator("#filter").fill("O-");
    await isShown(page, "o-1");
    await service.publish([event(topic, "w-3"), event(other, "o-3")]);
    await isShown(page, "o-3");
    assert.equal(await row(page, "w-").count(), 0);

    await page.locator("#filter").fill("nothing has this name");
    await page.getByText("None of the newest events matches “nothing has this name”.").waitFor();
    await page.locator("#filter").fill("");
    await isShown(page, "w-3");
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });

  test("more than can be read becomes a sample that says what it left out, and the page stays usable", async () => {
    const page = await open(browser, service);
    await state(page, "Live");
    const name = unique("flood");
    let isOver = false;
    const flood = async () => {
      for (let batch = 0; !isOver; batch++) {
        await service.publish(Array.from({ length: 500 }, (_, n) => event("flood", `${name}-${batch}-${n}`)));
      }
    };
    const flooding = flood();
    try {
      await state(page, "More than can be read: a sample");
      await eventually("it is told", async () => /^about \d+ skipped$/.test(await page.locator("#tail-skipped").innerText()));
      await eventually("it moves", async () => (await row(page, name).count()) === ROWS_MAX);
      await page.getByRole("button", { name: "Pause" }).click();
      await state(page, "Paused");
      const still = await page.locator("#events").innerText();
      const before = (await service.stats()).unique_processed_count;
      await eventually("the numbers go on", async () => Number(await page.locator("#unique").innerText()) > before);
      assert.equal(await page.locator("#events").innerText(), still);
      await page.getByRole("button", { name: "Resume" }).click();
      await state(page, "More than can be read: a sample");
    } finally {
      isOver = true;
      await flooding;
    }
    await state(page, "Live");
    const id = unique("after-the-flood");
    await service.publish([event("tail", id)]);
    await isShown(page, id);
    assert.ok((await page.locator("#events tr").count()) <= ROWS_MAX);
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });

  test("a page that nobody sees holds no connection, and shows what it missed", async () => {
    const page = await open(browser, service);
    await state(page, "Live");
    const streams = () => [...asked(page, "/events/stream"), ...asked(page, "/dashboard/stream")];
    const see = (isSeen) =>
      page.evaluate((isSeen) => {
        Object.defineProperty(document, "hidden", { configurable: true, value: !isSeen });
        document.dispatchEvent(new Event("visibilitychange"));
      }, isSeen);
    await see(false);
    await eventually("both streams end", () => streams().length === 2 && streams().every((request) => request.failure()));
    assert.equal(await page.locator("#token-message").innerText(), "", "and that is no question of tokens");
    const id = unique("unseen");
    await service.publish([event("tail", id)]);
    await see(true);
    await isShown(page, id);
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });
});
