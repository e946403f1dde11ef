// Calls to the service, with the token where one was given. Used by every other file of the page.
// Tokens live in this tab only. One that reads and one that does admin calls may be two: each is kept
// for what it is good for, so that giving the second does not lose the first.

/** Where the numbers come from. */
export const NUMBERS = "/dashboard/stream";

const field = document.getElementById("token");
const message = document.getElementById("token-message");

const kept = (use) => sessionStorage.getItem(`oncelog.${use}`) ?? "";
const keep = (use, token) => sessionStorage.setItem(`oncelog.${use}`, token);

// A number that JavaScript cannot hold stays the digits it was sent as.
const exactly = JSON.rawJSON
  ? (_, value, context) => (typeof value === "number" && String(value) !== context.source ? JSON.rawJSON(context.source) : value)
  : undefined;

function bearer(token) {
  return token ? { authorization: `Bearer ${token}` } : {};
}

/** Says something beside the field for the token. */
export function tellAboutToken(text, isError = false) {
  message.textContent = text;
  message.dataset.state = isError ? "error" : "";
  field.setAttribute("aria-invalid", String(isError));
}

/** Opens a stream, after the cursor where there is one. */
export function openStream(path, cursor, signal) {
  // Whoever may do admin calls is shown more of the numbers; of events it is reading that matters.
  const token = path === NUMBERS ? kept("admin") || kept("read") : kept("read") || kept("admin");
  const headers = { accept: "text/event-stream", ...(cursor && { "last-event-id": cursor }), ...bearer(token) };
  return fetch(path, { headers, signal, cache: "no-store" });
}

/** Parses JSON, with numbers as they were sent. */
export function parseExactly(text) {
  return JSON.parse(text, exactly);
}

/** Reads JSON; throws where the answer is no success. */
export async function read(path) {
  const answer = await fetch(path, { headers: bearer(kept("read") || kept("admin")), cache: "no-store" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return parseExactly(await answer.text());
}

/** Tells an actor to panic. Returns what to say about it. */
export async function crash(name) {
  const typed = field.value.trim();
  // What stands in the field is meant, unless it is known to be the token for reading.
  const token = typed && typed !== kept("read") ? typed : kept("admin") || typed;
  const answer = await fetch(`/admin/actors/${encodeURIComponent(name)}/crash`, {
    method: "POST",
    headers: { "content-type": "application/json", ...bearer(token) },
    body: JSON.stringify({ mode: "panic" }),
  });
  if (answer.status === 401 || answer.status === 403) {
    const { detail } = await answer.json().catch(() => ({}));
    const what = token ? "This token was refused" : "Crashing an actor needs the admin token";
    tellAboutToken(`${what}: ${detail ?? answer.status}.`, true);
    field.focus();
    return `${name} was not crashed.`;
  }
  if (answer.status === 409) return `${name} is being restarted already.`;
  return answer.ok ? `${name} was told to panic.` : `${name} was not crashed: ${answer.status}.`;
}

/** Finds out what a token is good for, and keeps it for that. Calls back where something changed. */
function tryToken(changed) {
  let last = field.value = kept("admin") || kept("read");
  return async () => {
    const token = field.value.trim();
    if (token === last) return;
    last = token;
    if (!token) {
      keep("read", "");
      keep("admin", "");
      tellAboutToken("Token forgotten.");
      return changed();
    }
    const status = async (path) => (await fetch(path, { headers: bearer(token), cache: "no-store" })).status;
    try {
      const [reading, admin] = await Promise.all([status("/stats"), status("/admin/actors")]);
      if (field.value.trim() !== token) return;
      // A token that is known, and not for this, is a 403; so a 401 says that it is not known.
      if (reading === 401 || admin === 401) return tellAboutToken("This token is not known.", true);
      if (reading !== 403) keep("read", token);
      if (admin !== 403) keep("admin", token);
      const uses = [reading !== 403 && "reading", admin !== 403 && "crashing actors"].filter(Boolean);
      tellAboutToken(uses.length ? `Good for ${uses.join(" and ")}.` : "This token only publishes.", !uses.length);
      changed();
    } catch {
      last = "";
      tellAboutToken("The service did not answer; try again.", true);
    }
  };
}

/** Watches the field for the token. */
export function watchToken(changed) {
  const attempt = tryToken(changed);
  document.getElementById("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt();
  });
  field.addEventListener("change", attempt);
}
