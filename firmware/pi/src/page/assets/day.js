// A day of verdicts, midnight to midnight where the reader is.

import { paint } from "./colour.js";
import { $, api, day as dayName, duration, el, hour as hourName, percent, time } from "./util.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 1440;
const MOST = 20000;
/** Spans this close are one in the picture. */
const JOINED_MS = 5000;

let back = 0;
let spans = [];
/** Those that came since the page was opened: the database has them a little later. */
const fresh = [];

/** Midnight, so many days ago. Days with a change of the clock have 23 or 25 hours. */
function midnight(ago) {
  const now = new Date();
  return new Date(now.getFullYear(), now.getMonth(), now.getDate() - ago).getTime();
}

export function start() {
  $("day-before").onclick = () => show(back + 1);
  $("day-after").onclick = () => show(back - 1);
  const ribbon = $("ribbon");
  ribbon.onpointermove = (event) => {
    const box = ribbon.getBoundingClientRect();
    const [from, until] = [midnight(back), midnight(back - 1)];
    point(from + ((event.clientX - box.left) / box.width) * (until - from));
  };
  ribbon.onpointerleave = () => ($("day-at").textContent = "");
  show(0);
  // The present moves on, and at midnight the day changes.
  setInterval(() => draw(), 30000);
}

export function push(span) {
  fresh.push(span);
  if (fresh.length > MOST) fresh.shift();
  draw();
}

export async function show(days = back) {
  back = Math.max(0, days);
  try {
    const query = `from_ms=${midnight(back)}&until_ms=${midnight(back - 1)}&limit=${MOST}`;
    const shown = back;
    const answer = await api(`/api/history?${query}`);
    if (shown !== back) return;
    spans = answer.spans;
    draw();
  } catch (error) {
    spans = [];
    draw();
    $("day-words").textContent = error.message;
  }
}

/** Those of the day in the order of time, the fresh ones that are not in the database yet. */
function all() {
  const [from, until] = [midnight(back), midnight(back - 1)];
  const newest = spans.at(-1)?.started_ms ?? -Infinity;
  const more = fresh.filter((span) => span.started_ms > newest && span.started_ms >= from && span.started_ms < until);
  return [...spans.filter((span) => span.started_ms >= from), ...more];
}

function point(at) {
  const span = all().findLast((span) => span.started_ms <= at);
  const within = span && at < span.started_ms + 1000 * span.seconds + JOINED_MS;
  const sure = span?.confidence == null ? "" : `, ${percent(span.confidence)}`;
  $("day-at").textContent = `${time(at)}  ${within ? `${span.verdict}${sure}` : "nothing"}`;
}

function draw() {
  const [from, until] = [midnight(back), midnight(back - 1)];
  const x = (ms) => ((ms - from) / (until - from)) * WIDTH;
  $("day-title").textContent = back === 0 ? "Today" : back === 1 ? "Yesterday" : dayName(from);
  $("day-after").disabled = back === 0;

  const totals = new Map();
  const stretches = [];
  for (const { started_ms, seconds, verdict } of all()) {
    totals.set(verdict, (totals.get(verdict) ?? 0) + seconds);
    const last = stretches.at(-1);
    const end = started_ms + 1000 * seconds;
    if (last?.verdict === verdict && started_ms <= last.end + JOINED_MS) last.end = end;
    else stretches.push({ verdict, start: started_ms, end });
  }
  const box = (left, right, name) => {
    const rect = document.createElementNS(SVG, "rect");
    rect.setAttribute("x", left);
    rect.setAttribute("width", Math.max(right - left, 0.6));
    rect.setAttribute("height", 100);
    rect.classList.add(name);
    return rect;
  };
  const rects = stretches.map(({ verdict, start, end }) =>
    paint(box(x(start), Math.min(x(end), WIDTH), "span"), verdict),
  );
  if (back === 0) {
    const now = x(Date.now());
    rects.push(box(now, WIDTH, "later"), box(now - 1, now + 1, "present"));
  }
  $("ribbon").replaceChildren(...rects);

  const hours = [0, 3, 6, 9, 12, 15, 18, 21, 24].map((hour) => {
    const at = new Date(from);
    at.setHours(hour);
    const mark = el("span", { className: hour % 6 ? "half" : "" }, hourName(hour === 24 ? until : at));
    mark.style.left = `${(100 * x(at)) / WIDTH}%`;
    return mark;
  });
  $("hours").replaceChildren(...hours);

  const rank = (label) => (label === "silence" ? 2 : label === "unknown" ? 1 : 0);
  const sorted = [...totals].sort(([a, s], [b, t]) => rank(a) - rank(b) || t - s);
  $("legend").replaceChildren(
    ...sorted.map(([label, seconds]) =>
      el(
        "li",
        {},
        paint(el("span", { className: "swatch" }), label),
        el("span", { className: "first-up" }, label),
        el("span", { className: "time" }, duration(seconds)),
      ),
    ),
  );
  const music = sorted.filter(([label]) => rank(label) === 0);
  const sum = music.reduce((sum, [, seconds]) => sum + seconds, 0);
  $("day-words").textContent = !sorted.length
    ? "Nothing was heard on this day yet. New entries are written about every half minute."
    : !music.length
      ? "No music yet."
      : `${duration(sum)} of music, most of it ${music[0][0]}.`;
}
