// What the tests ask of the dashboard's page: figures, actors, and whether it can be read.

import { eventually } from "./service.js";

export const shows = (page, id, text, withinMs) =>
  eventually(`#${id} shows ${text}`, async () => (await page.locator(`#${id}`).innerText()) === String(text), withinMs);
export const crashButton = (page, name) => page.getByRole("button", { name: `Crash ${name}`, exact: true });
export const card = (page, name) => page.locator(`[data-actor="${name}"]`);
export const restarts = async (page, name) => Number(await card(page, name).locator("dd").nth(1).innerText());
export const isAsWideAsItsWindow = (page) => page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);

/** Texts whose contrast with what is behind them is below WCAG's 4.5. Runs in the page. */
export function lowContrast() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgb(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll("body *")]
    .filter((element) => hasText(element) && element.checkVisibility() && !element.closest("svg, .hidden, .skip, .stale, noscript"))
    .map((element) => {
      const pair = [luminance(rgb(getComputedStyle(element).color)), luminance(behind(element))].sort((a, b) => b - a);
      return { text: element.textContent.trim().slice(0, 30), ratio: (pair[0] + 0.05) / (pair[1] + 0.05) };
    })
    .filter(({ ratio }) => ratio < 4.5);
}
