// What is heard now, and how loud.

import { paint } from "./colour.js";
import { $, count, duration, el, level, percent } from "./util.js";

const LOWEST_DBFS = -90;
/** A screen reader is told of a new verdict no more often. */
const SPEAK_EVERY_MS = 5000;

const bars = new Map();
let verdict = null;
/** When it began; unknown for the one that was there when the page was opened. */
let since = null;
let spoken = 0;
let waiting = 0;
let latest = null;

export function setLabels(labels) {
  bars.clear();
  $("bars").replaceChildren(
    ...labels.map((label) => {
      const bar = el("div", { className: "bar" });
      const value = el("span", { className: "value" }, "0 %");
      const item = paint(
        el(
          "li",
          {},
          el("span", { className: "name first-up" }, label),
          el("div", { className: "track" }, bar),
          value,
        ),
        label,
      );
      bar.style.transform = "scaleX(0)";
      bars.set(label, { bar, value, item });
      return item;
    }),
  );
}

const WORDS = {
  starting: ["Starting", "Opening the microphone."],
  muted: ["Muted", "Sound is discarded until you unmute."],
  "no-microphone": ["No microphone", "Sori keeps looking for one. The microphone doctor below says what to do."],
  ended: ["Finished", "The file has ended."],
  listening: ["Listening", "The first result comes after a few seconds of sound."],
};

/** Shows the state of the microphone, or what is heard if there is something. */
export function show(status) {
  const state = status.muted ? "muted" : status.capture.state;
  const hears = (state === "listening" || state === "ended") && status.heard;
  $("confirm").disabled = !hears;
  $("bars").hidden = !hears;
  if (hears) {
    hear(status.heard);
    return;
  }
  const [title, note] = WORDS[state] ?? WORDS.starting;
  verdict = latest = since = null;
  headline(title, note, null);
}

export function hear(heard) {
  latest = heard;
  if (heard.verdict !== verdict) {
    since = verdict === null ? null : Date.now();
    verdict = heard.verdict;
    speak();
  }
  const most = Math.max(0, ...Object.values(heard.probabilities));
  for (const [label, { bar, value, item }] of bars) {
    const p = heard.probabilities[label] ?? 0;
    bar.style.transform = `scaleX(${p})`;
    value.textContent = percent(p);
    item.classList.toggle("most", p > 0 && p === most && verdict !== "silence");
  }
  $("bars").hidden = false;
  const lasts = since === null ? null : Date.now() - since;
  const notes = {
    silence: ["It is quiet here", level(heard.level_dbfs)],
    unknown: ["Sound, but no genre it recognizes", level(heard.level_dbfs)],
  }[verdict] ?? [heard.confidence == null ? null : `${percent(heard.confidence)} sure`, level(heard.level_dbfs)];
  if (lasts > 3000) notes.push(`for ${duration(lasts / 1000)}`);
  headline(verdict, notes.filter(Boolean).join(" · "), verdict);
}

function headline(title, note, label) {
  const box = $("verdict").parentElement;
  box.classList.toggle("words", label === null);
  if (label === null) {
    box.classList.remove("label");
  } else {
    paint(box, label);
  }
  if ($("verdict").textContent !== title) $("verdict").textContent = title;
  $("verdict-note").textContent = note;
}

/** The newest verdict, once there was time to listen to the one before. */
function speak() {
  clearTimeout(waiting);
  const say = () => {
    if (!latest) return;
    spoken = Date.now();
    const sure = latest.confidence == null ? "" : `, ${percent(latest.confidence)} sure`;
    $("spoken").textContent = `${latest.verdict}${sure}`;
  };
  waiting = setTimeout(say, Math.max(500, spoken + SPEAK_EVERY_MS - Date.now()));
}

/** Levels of all channels. */
export function measure(channels) {
  const readings = channels?.readings ?? [];
  const rows = $("meters");
  while (rows.children.length > readings.length) rows.lastChild.remove();
  readings.forEach((reading, at) => {
    const row = rows.children[at] ?? rows.appendChild(meter());
    const name = readings.length === 1 ? "Level" : (["Left", "Right"][at] ?? `Channel ${at}`);
    const isChosen = at === channels.chosen;
    row.classList.toggle("chosen", isChosen);
    const [label, track, value] = row.children;
    const dead = reading.constant ? (reading.offset === 0 ? "all zeros" : "stuck") : null;
    const clipped = reading.clipped ? `${count(reading.clipped, "sample")} clipped` : null;
    const words = dead ?? clipped ?? level(reading.rms_dbfs);
    label.textContent = name;
    value.textContent = words;
    track.setAttribute("aria-label", `${name}${isChosen && readings.length > 1 ? ", listened to" : ""}`);
    track.setAttribute("aria-valuenow", Math.round(Math.max(reading.rms_dbfs ?? LOWEST_DBFS, LOWEST_DBFS)));
    track.setAttribute("aria-valuetext", words);
    const share = (dbfs) => Math.min(1, Math.max(0, 1 - (dbfs ?? LOWEST_DBFS) / LOWEST_DBFS));
    const [fill, peak] = track.children;
    fill.style.setProperty("--level", share(reading.rms_dbfs));
    fill.style.transform = `scaleX(${share(reading.rms_dbfs)})`;
    peak.style.left = `${100 * share(reading.peak_dbfs)}%`;
    peak.hidden = dead !== null;
  });
}

function meter() {
  const track = el(
    "div",
    { className: "meter", role: "meter", "aria-valuemin": LOWEST_DBFS, "aria-valuemax": 0, "aria-label": "Level" },
    el("div", { className: "fill" }),
    el("div", { className: "peak" }),
  );
  return el("div", { className: "meter-row" }, el("span", { className: "name" }), track, el("span", { className: "value" }));
}
