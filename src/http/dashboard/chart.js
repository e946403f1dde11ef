// The chart of events a second: three lines over the last one or ten minutes, drawn as SVG.

const SECONDS_MAX = 600;
const SERIES = ["stored", "duplicates", "rejected"];
const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { top: 10, right: 12, bottom: 24, left: 56 };

const box = document.getElementById("chart");
const legend = Object.fromEntries(SERIES.map((name) => [name, document.getElementById(`legend-${name}`)]));
const when = document.getElementById("legend-when");
const now = document.getElementById("now");

// A point a second, the newest last: [stored, duplicates, rejected], or null for a gap.
let points = [];
let newest = 0;
let seconds = SECONDS_MAX;
let hovered = null;

const make = (name, attributes, parent) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return parent.appendChild(element);
};

const svg = make("svg", { role: "img", "aria-label": "Stored, duplicate and rejected events a second" }, box);
const grid = make("g", { class: "grid" }, svg);
const area = make("path", { class: "area" }, svg);
const lines = SERIES.map((name) => make("path", { class: `line ${name}` }, svg));
const cursor = make("line", { class: "cursor", visibility: "hidden" }, svg);

/** The last ten minutes, at the beginning of a connection. */
export function setHistory(history) {
  points = history.points;
  newest = history.newest;
  draw();
}

/** The newest points of a frame; those that are here already are left out. */
export function addPoints(frame) {
  const missed = Math.min(frame.newest - newest, SECONDS_MAX);
  if (missed <= 0) return;
  const added = frame.points.slice(-missed);
  const gap = Array(Math.max(missed - added.length, 0)).fill(null);
  points = [...points, ...gap, ...added].slice(-SECONDS_MAX);
  newest = frame.newest;
  draw();
}

/** A round number at or above the largest value, that four steps divide well. */
function ceiling(largest) {
  if (largest <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(largest));
  return [1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10].map((step) => step * power).find((top) => top >= largest);
}

function frameOf(shown) {
  const { width, height } = box.getBoundingClientRect();
  const largest = Math.max(0, ...shown.flatMap((point) => point ?? []));
  const top = ceiling(largest);
  return {
    width,
    height,
    top,
    bottom: height - MARGIN.bottom,
    x: (age) => width - MARGIN.right - (age / (seconds - 1)) * (width - MARGIN.left - MARGIN.right),
    y: (value) => height - MARGIN.bottom - (value / top) * (height - MARGIN.top - MARGIN.bottom),
  };
}

function path(shown, which, { x, y }) {
  let isDrawing = false;
  return shown
    .map((point, index) => {
      if (!point) {
        isDrawing = false;
        return "";
      }
      const command = isDrawing ? "L" : "M";
      isDrawing = true;
      return `${command}${x(shown.length - 1 - index).toFixed(1)} ${y(point[which]).toFixed(1)}`;
    })
    .join("");
}

function drawGrid(frame) {
  grid.replaceChildren();
  for (let step = 0; step <= 4; step++) {
    const value = (frame.top / 4) * step;
    const y = frame.y(value);
    make("line", { x1: MARGIN.left, x2: frame.width - MARGIN.right, y1: y, y2: y }, grid);
    make("text", { x: MARGIN.left - 10, y: y + 4, "text-anchor": "end" }, grid).textContent = String(Math.round(value));
  }
  const steps = frame.width < 520 ? 2 : 5;
  for (let step = 0; step <= steps; step++) {
    const age = (seconds / steps) * step;
    const text = step === 0 ? "now" : seconds > 60 ? `−${age / 60} min` : `−${age} s`;
    const anchor = step === 0 ? "end" : step === steps ? "start" : "middle";
    const x = frame.x(Math.min(age, seconds - 1));
    make("text", { x, y: frame.height - 6, "text-anchor": anchor }, grid).textContent = text;
  }
}

function draw() {
  const shown = points.slice(-seconds);
  const frame = frameOf(shown);
  if (!frame.width) return;
  svg.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
  drawGrid(frame);
  lines.forEach((line, which) => line.setAttribute("d", path(shown, which, frame)));
  drawArea(shown, frame);
  showValues(shown, frame);
}

/** Below the stored events, between each two gaps. */
function drawArea(shown, frame) {
  const pieces = [];
  for (let start = 0; start < shown.length; start++) {
    let end = start;
    while (shown[end]) end++;
    if (end > start) {
      const part = shown.slice(start, end);
      const x = (index) => frame.x(shown.length - 1 - index).toFixed(1);
      const top = part.map((point, index) => `L${x(start + index)} ${frame.y(point[0]).toFixed(1)}`).join("");
      pieces.push(`M${x(start)} ${frame.bottom}${top}L${x(end - 1)} ${frame.bottom}Z`);
    }
    start = end;
  }
  area.setAttribute("d", pieces.join(""));
}

/** The values under the pointer, or the newest ones. */
function showValues(shown, frame) {
  const last = shown.at(-1);
  now.textContent = last ? String(last[0] + last[1]) : "–";
  const age = hovered === null ? 0 : Math.round(((frame.width - MARGIN.right - hovered) / (frame.width - MARGIN.left - MARGIN.right)) * (seconds - 1));
  const isInside = hovered !== null && age >= 0 && age < shown.length;
  const point = shown.at(-1 - (isInside ? age : 0));
  SERIES.forEach((name, which) => (legend[name].textContent = point ? String(point[which]) : "–"));
  when.textContent = isInside ? `${age} s ago` : "";
  cursor.setAttribute("visibility", isInside ? "visible" : "hidden");
  for (const [key, value] of Object.entries({ x1: frame.x(age), x2: frame.x(age), y1: MARGIN.top, y2: frame.bottom })) {
    cursor.setAttribute(key, value);
  }
}

for (const input of document.querySelectorAll("input[name=range]")) {
  input.addEventListener("change", () => {
    seconds = Number(input.value);
    draw();
  });
}
box.addEventListener("pointermove", (event) => {
  hovered = event.clientX - box.getBoundingClientRect().left;
  draw();
});
box.addEventListener("pointerleave", () => {
  hovered = null;
  draw();
});
new ResizeObserver(draw).observe(box);
