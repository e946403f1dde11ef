// Pictures of a running service for the README: node screenshots.js URL DIRECTORY

import { launch } from "./service.js";

const [url, directory] = process.argv.slice(2);
const PICTURES = [
  { name: "dashboard-light", width: 1360, height: 1180, colorScheme: "light", crash: "persist-0" },
  { name: "dashboard-dark", width: 1360, height: 1180, colorScheme: "dark", crash: "persist-1" },
  { name: "dashboard-narrow-light", width: 390, height: 1180, colorScheme: "light" },
  { name: "dashboard-narrow-dark", width: 390, height: 1180, colorScheme: "dark" },
];

const browser = await launch();
for (const { name, width, height, colorScheme, crash } of PICTURES) {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme });
  await page.goto(url);
  await page.locator("#events tr").first().waitFor();
  await page.locator("#topics tr").first().waitFor();
  if (crash) {
    await page.getByRole("button", { name: `Crash ${crash}`, exact: true }).click();
    // The pointer would hide the button's own look.
    await page.mouse.move(0, 0);
    const card = page.locator(`[data-actor="${crash}"].restarted`);
    await card.waitFor();
    // Its colours fade in.
    await card.evaluate((card) => Promise.all(card.getAnimations().map((animation) => animation.finished)));
  }
  await page.screenshot({ path: `${directory}/${name}.png` });
  await page.close();
}
await browser.close();
