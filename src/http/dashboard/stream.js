// Server-Sent Events by fetch, because EventSource can send no token. Used by app.js for the numbers and
// by tail.js for the events; goes on after the last id when it has lost its connection.

import { openStream } from "/dashboard/api.js";

const PAUSE_MS_MIN = 500;
const PAUSE_MS_MAX = 10_000;

/** Hands over the fields of each block, until the body ends or the signal comes. */
async function eachBlock(body, signal, handle) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let fields = {};
  for (let rest = ""; ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    // Only what is new is searched for line ends: one event may be megabytes, in many pieces.
    const lines = value.split("\n");
    lines[0] = rest + lines[0];
    rest = lines.pop();
    for (const line of lines) {
      if (line) {
        const [name, text] = line.split(/: ?(.*)/s);
        fields[name] = text;
        continue;
      }
      handle(fields);
      fields = {};
      if (signal.aborted) return;
    }
  }
}

function pauseOf(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => resolve(clearTimeout(timer)));
  });
}

/** A stream that stays open from `start` to `stop`, except while nobody can see the page. */
export class EventStream {
  /** The id of the last event; empty where the stream is to begin at now. */
  cursor = "";
  #settings;
  #isWanted = false;
  #run = new AbortController();

  /**
   * `path()` is asked before each connection. `onEvent(name, data)` has the data as text. `onState` is
   * told "live", "hidden", "refused", or "lost" with the milliseconds until the next attempt. A
   * connection that says nothing for `silenceMs`, not even a heartbeat, is lost.
   */
  constructor(settings) {
    this.#settings = settings;
    // A browser has six connections to a host: tabs in the background must not hold them all.
    document.addEventListener("visibilitychange", () => {
      if (!this.#isWanted) return;
      if (!document.hidden) return this.start();
      this.#run.abort();
      settings.onState("hidden");
    });
  }

  /** Connects, also where there is a connection: with the token, path and cursor of now. */
  start() {
    this.stop();
    this.#isWanted = true;
    this.#run = new AbortController();
    if (!document.hidden) this.#stayConnected(this.#run.signal);
  }

  stop() {
    this.#isWanted = false;
    this.#run.abort();
  }

  async #stayConnected(signal) {
    for (let pauseMs = PAUSE_MS_MIN; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
      const end = await this.#connect(signal);
      if (signal.aborted) return;
      // Nothing to try again before there is another token.
      if (end === "refused") return this.#settings.onState("refused");
      if (end === "was live") pauseMs = PAUSE_MS_MIN;
      this.#settings.onState("lost", pauseMs);
      await pauseOf(pauseMs, signal);
      if (signal.aborted) return;
    }
  }

  /** One connection, to its end. */
  async #connect(signal) {
    const { path, silenceMs, onEvent, onState } = this.#settings;
    const silence = new AbortController();
    let timer;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), silenceMs);
    };
    let isLive = false;
    try {
      heard();
      const answer = await openStream(path(), this.cursor, AbortSignal.any([signal, silence.signal]));
      if (answer.status === 401 || answer.status === 403) return "refused";
      // A place in another log than the one that is there now.
      if (answer.status === 400) this.cursor = "";
      if (!answer.ok) return "failed";
      await eachBlock(answer.body, signal, ({ id, event, data }) => {
        heard();
        if (!isLive) onState("live");
        isLive = true;
        if (id) this.cursor = id;
        if (data) onEvent(event, data);
      });
    } catch {
      // Lost, silent or stopped: in each case whoever called looks what is next.
    } finally {
      clearTimeout(timer);
    }
    return isLive ? "was live" : "failed";
  }
}
