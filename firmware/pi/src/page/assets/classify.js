// A file in place of the microphone.

import { paint } from "./colour.js";
import { $, api, duration, el, percent } from "./util.js";

const MOST_BYTES = 32 << 20;

export function start() {
  $("try").onsubmit = (event) => {
    event.preventDefault();
    hear($("try-file").files[0]);
  };
}

async function hear(file) {
  const note = $("try-note");
  $("try-answer").replaceChildren();
  if (!file) return;
  if (file.size > MOST_BYTES) {
    note.textContent = "The file is larger than 32 MB: use a part of it, or one channel.";
    return;
  }
  note.textContent = `Listening to ${file.name}…`;
  try {
    const answer = await api("/classify", { method: "POST", headers: { "Content-Type": "audio/wav" }, body: file });
    note.textContent = [`${file.name}, ${duration(answer.duration_s)}`, ...answer.warnings].join(". ");
    draw(answer);
  } catch (error) {
    note.textContent = error.message;
  }
}

function draw({ verdict, confidence, best, probabilities, seconds }) {
  const sure = confidence == null ? "" : `, ${percent(confidence)} sure`;
  const guess = verdict === "unknown" && best ? `, ${best} at best (${percent(probabilities[best])})` : sure;
  const strip = el("div", { className: "strip", role: "img", "aria-label": words(seconds) });
  strip.append(...seconds.map((second) => {
    const part = paint(el("span"), second.verdict);
    part.title = `${Math.ceil(second.time_s)} s: ${second.verdict}`;
    return part;
  }));
  $("try-answer").replaceChildren(
    el("p", { className: "first-up heard" }, verdict, el("span", { className: "note" }, guess)),
    strip,
  );
}

/** Second by second, with runs of one verdict as one. */
function words(seconds) {
  const runs = [];
  for (const { time_s, verdict } of seconds) {
    if (runs.at(-1)?.verdict !== verdict) runs.push({ verdict, from: Math.floor(time_s) });
  }
  return runs.map(({ verdict, from }) => `from ${from} s ${verdict}`).join(", ");
}
