// What was heard, filtered, and as files.

import { paint } from "./colour.js";
import { $, api, count, day, duration, el, level, percent, second } from "./util.js";

const PAGE = 100;

let shown = null;

export function setLabels(labels) {
  const select = $("filter-verdict");
  const chosen = select.value;
  const all = [...new Set([...labels, "unknown", "silence"])];
  select.replaceChildren(el("option", { value: "" }, "anything"), ...all.map((label) => el("option", { value: label }, label)));
  select.value = chosen;
  // They may have other colours now.
  if (shown) draw();
}

export function start() {
  const form = $("filter");
  form.onsubmit = (event) => {
    event.preventDefault();
    load();
  };
  form.onreset = () => setTimeout(load);
  form.onchange = links;
  $("older").onclick = () => load(shown?.[0]?.started_ms);
  load();
}

function query(until) {
  const pairs = new URLSearchParams();
  const ms = (id) => new Date($(id).value).getTime();
  const verdict = $("filter-verdict").value;
  if (verdict) pairs.set("verdict", verdict);
  if ($("filter-from").value) pairs.set("from_ms", ms("filter-from"));
  if ($("filter-until").value) pairs.set("until_ms", ms("filter-until"));
  if (until !== undefined) pairs.set("until_ms", until);
  return pairs;
}

/** The files have what the filter says, all of it. */
function links() {
  for (const kind of ["csv", "json"]) $(`export-${kind}`).href = `/api/history.${kind}?${query()}`;
}

async function load(until) {
  links();
  const pairs = query(until);
  pairs.set("limit", PAGE);
  try {
    const { spans } = await api(`/api/history?${pairs}`);
    shown = until === undefined ? spans : [...spans, ...(shown ?? [])];
    $("older-row").hidden = spans.length < PAGE;
    $("history-note").textContent = shown.length ? `The ${count(shown.length, "most recent row")}.` : "";
    draw();
  } catch (error) {
    $("history-note").textContent = error.message;
  }
}

function draw() {
  let before = null;
  const rows = shown.toReversed().flatMap((span) => {
    const date = day(span.started_ms);
    const group = date === before ? [] : [el("tr", { className: "group" }, el("th", { scope: "colgroup", colSpan: 5 }, date))];
    before = date;
    return [...group, row(span)];
  });
  const nothing = el("tr", {}, el("td", { className: "nothing", colSpan: 5 }, "No matching entries."));
  $("rows").replaceChildren(...(rows.length ? rows : [nothing]));
}

function row(span) {
  return el(
    "tr",
    {},
    el("td", {}, second(span.started_ms)),
    el("td", {}, paint(el("span", { className: "swatch" }), span.verdict), span.verdict),
    el("td", { className: "number" }, duration(span.seconds)),
    el("td", { className: "number" }, percent(span.confidence)),
    el("td", { className: "number wide" }, level(span.level_dbfs)),
  );
}
