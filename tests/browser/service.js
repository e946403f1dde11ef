// The service as a process of its own, and a browser to look at it. Used by the tests and for the
// screenshots; knows the API as an outsider does.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const BINARY = process.env.ONCELOG_BIN ?? new URL("../../target/debug/oncelog", import.meta.url).pathname;
const BROWSERS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const START_MS = 20_000;

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Waits until the condition holds and returns what it returned. */
export async function eventually(what, condition, withinMs = 5000) {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const held = await condition();
    if (held) return held;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A service on a free port; on a SQLite file of its own where TEST_BROWSER_DATABASE_URL names none. */
export class Service {
  static async start(settings = {}) {
    const service = new Service();
    service.directory = mkdtempSync(join(tmpdir(), "oncelog-browser-"));
    const port = await freePort();
    service.url = `http://127.0.0.1:${port}`;
    service.settings = {
      BIND: `127.0.0.1:${port}`,
      DATABASE_URL: process.env.TEST_BROWSER_DATABASE_URL ?? `sqlite://${join(service.directory, "events.db")}`,
      RUST_LOG: "error",
      ...settings,
    };
    await service.run();
    return service;
  }

  async run() {
    this.process = spawn(BINARY, ["serve"], { env: { PATH: process.env.PATH, ...this.settings }, stdio: "inherit" });
    const isReady = () => fetch(`${this.url}/readyz`).then((answer) => answer.ok, () => false);
    await eventually("the service is ready", isReady, START_MS);
  }

  async end() {
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.kill("SIGTERM");
    return ended;
  }

  async stop() {
    await this.end();
    rmSync(this.directory, { recursive: true, force: true });
  }

  async publish(events, token) {
    const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
    const answer = await fetch(`${this.url}/publish/batch`, { method: "POST", headers, body: JSON.stringify({ events }) });
    if (!answer.ok) throw new Error(`publish: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  async stats() {
    return (await fetch(`${this.url}/stats`)).json();
  }
}

export function event(topic, id, payload = { n: 1 }) {
  return { topic, event_id: id, timestamp: "2026-01-02T03:04:05Z", source: "browser-test", payload };
}

export function launch() {
  const executablePath = process.env.CHROMIUM ?? BROWSERS.find(existsSync);
  // Chromium's sandbox needs rights that neither root nor a container has; the page is our own.
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/** A page whose every complaint is collected: errors, refused loads, broken policy, foreign hosts. */
export async function open(browser, service, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.complaints = [];
  page.on("console", (line) => ["error", "warning"].includes(line.type()) && page.complaints.push(`${line.text()} ${line.location().url}`));
  page.on("pageerror", (error) => page.complaints.push(error.message));
  page.on("dialog", (dialog) => page.complaints.push(`dialog: ${dialog.message()}`) && dialog.dismiss());
  page.on("request", (request) => request.url().startsWith(`${service.url}/`) || page.complaints.push(`foreign: ${request.url()}`));
  await page.goto(`${service.url}/`);
  return page;
}
