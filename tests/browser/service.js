// The service as a process of its own, what it needs, and a browser to look at it. Used by the tests and
// for the screenshots; knows the API as an outsider does.

import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const BINARY = process.env.ONCELOG_BIN ?? new URL("../../target/debug/oncelog", import.meta.url).pathname;
const BROWSERS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const START_MS = 30_000;
const ATTEMPTS = 3;

// Whatever ends the tests: no process of theirs stays.
const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

function run(program, args, options) {
  const child = spawn(program, args, options);
  children.add(child);
  child.ended = new Promise((resolve) => {
    child.once("error", resolve);
    child.once("exit", resolve);
  }).then(() => {
    children.delete(child);
    child.hasEnded = true;
  });
  return child;
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Waits until the condition holds and returns what it returned. */
export async function eventually(what, condition, withinMs = 10_000) {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const held = await condition();
    if (held) return held;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Starts what listens on a port. Somebody else may take the port meanwhile: then on another one. */
async function onFreePort(what, start, isReady) {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = await freePort();
    const child = start(port);
    await eventually(`${what} is ready`, async () => child.hasEnded || (await isReady(port)), START_MS);
    if (!child.hasEnded) return { port, child };
  }
  throw new Error(`${what} does not start`);
}

/** A service on a free port, on a SQLite file of its own where the settings name no database. */
export class Service {
  static async start(settings = {}) {
    const service = new Service();
    service.directory = mkdtempSync(join(tmpdir(), "oncelog-browser-"));
    service.settings = { DATABASE_URL: `sqlite://${join(service.directory, "events.db")}`, RUST_LOG: "error", ...settings };
    try {
      const { port, child } = await onFreePort("the service", (port) => service.#spawn(port), isReadyAt);
      [service.port, service.process, service.url] = [port, child, `http://127.0.0.1:${port}`];
    } catch (error) {
      error.message += `: ${readFileSync(service.#log, "utf8").slice(-2000)}`;
      throw error;
    }
    return service;
  }

  get #log() {
    return join(this.directory, "log");
  }

  #spawn(port) {
    const log = openSync(this.#log, "a");
    const env = { PATH: process.env.PATH, BIND: `127.0.0.1:${port}`, ...this.settings };
    return run(BINARY, ["serve"], { env, stdio: ["ignore", log, log] });
  }

  /** Starts it again, where it was. */
  async restart() {
    this.process = this.#spawn(this.port);
    await eventually("the service is ready", () => isReadyAt(this.port), START_MS);
  }

  end() {
    this.process.kill("SIGTERM");
    return this.process.ended;
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

function isReadyAt(port) {
  return fetch(`http://127.0.0.1:${port}/readyz`).then((answer) => answer.ok, () => false);
}

/** A broker of our own. */
export class Redis {
  static isInstalled = spawnSync("redis-server", ["--version"]).status === 0;

  static async start() {
    const start = (port) => run("redis-server", ["--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"], { stdio: "ignore" });
    const redis = new Redis();
    const isReady = (port) => ask(port, "PING").then((answer) => answer.startsWith("+PONG"), () => false);
    const { port, child } = await onFreePort("redis", start, isReady);
    [redis.port, redis.process, redis.url] = [port, child, `redis://127.0.0.1:${port}/0`];
    return redis;
  }

  send(command) {
    return ask(this.port, command);
  }

  stop() {
    this.process.kill("SIGKILL");
    return this.process.ended;
  }
}

/** Sends a line and returns what comes back first. */
function ask(port, line) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(`${line}\r\n`));
    socket.once("data", (data) => {
      socket.destroy();
      resolve(data.toString());
    });
    socket.once("error", reject);
  });
}

/** A way to a server that can be cut. */
export class Proxy {
  #sockets = new Set();
  isCut = false;

  static async to(host, port) {
    const proxy = new Proxy();
    proxy.server = createServer((client) => {
      if (proxy.isCut) return client.destroy();
      const server = connect(port, host);
      for (const [socket, other] of [[client, server], [server, client]]) {
        proxy.#sockets.add(socket);
        socket.pipe(other);
        socket.on("error", () => other.destroy());
        socket.on("close", () => proxy.#sockets.delete(socket) && other.destroy());
      }
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => proxy.server.once("listening", resolve));
    proxy.port = proxy.server.address().port;
    return proxy;
  }

  cut() {
    this.isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend() {
    this.isCut = false;
  }

  close() {
    this.cut();
    this.server.close();
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
  page.asked = [];
  page.on("console", (line) => ["error", "warning"].includes(line.type()) && page.complaints.push(`${line.text()} ${line.location().url}`));
  page.on("pageerror", (error) => page.complaints.push(error.message));
  page.on("dialog", (dialog) => page.complaints.push(`dialog: ${dialog.message()}`) && dialog.dismiss());
  page.on("request", (request) => request.url().startsWith(`${service.url}/`) || page.complaints.push(`foreign: ${request.url()}`));
  page.on("request", (request) => page.asked.push(request));
  await page.goto(`${service.url}/`);
  return page;
}
