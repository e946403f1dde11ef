// Pieces of the page made from what events say: as text, never as markup. Used by tail.js and lists.js.

// What a browser lays out in no time; a payload may be megabytes.
const LINE_CHARS_MAX = 400;
const WHOLE_CHARS_MAX = 20_000;

export function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

/** Text of somebody else: its writing direction must not spread to what stands beside it. */
export function foreign(text) {
  const made = element("bdi", "", text);
  made.title = text;
  return made;
}

export function time(timestamp) {
  const date = new Date(timestamp);
  const made = element("time", "", date.toLocaleTimeString([], { hour12: false }));
  made.dateTime = timestamp;
  made.title = date.toLocaleString();
  return made;
}

function cut(text, charsMax) {
  return text.length > charsMax ? `${text.slice(0, charsMax)} … and ${text.length - charsMax} characters more` : text;
}

/** One line, more of it when opened. */
export function opening(text) {
  return element("details", "", element("summary", "", foreign(text.slice(0, LINE_CHARS_MAX))), element("pre", "", cut(text, WHOLE_CHARS_MAX)));
}
