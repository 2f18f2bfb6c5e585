// How microphone, processor and everything else are doing, in words.

import { $, count, duration, el, percent, sentence } from "./util.js";

const STATES = {
  starting: "Opening the microphone",
  listening: "Listening",
  muted: "Muted",
  "no-microphone": "No microphone",
  ended: "Ended",
};
/** A Pi slows down at 80 °C. */
const HOT_C = 78;

let recent = [];

export function show(status) {
  const { capture, recognizer, latency, history, broker } = status;
  const state = status.muted ? "muted" : capture.state;
  $("state").dataset.state = state;
  $("state-words").textContent = STATES[state] ?? state;
  $("mute").disabled = false;
  $("mute").textContent = status.muted ? "Unmute" : "Mute";
  $("mute").setAttribute("aria-pressed", status.muted);
  $("version").textContent = `sori-pi ${status.version}`;
  $("health-note").textContent = `up for ${duration(status.uptime_s)}`;

  const form = capture.rate_hz ? `${capture.rate_hz / 1000} kHz, ${count(capture.channels, "channel")}` : "not open";
  const dropped = capture.rate_hz ? capture.dropped_frames / capture.rate_hz : 0;
  const load = latency.sound_s > 0 ? latency.sum_s / latency.sound_s : null;
  const rows = [
    ["Device", capture.device || "none"],
    ["Format", form],
    ["Overruns", capture.overruns, capture.overruns > 0],
    ["Sound dropped", dropped ? duration(dropped) : "none", dropped > 0],
    ["Reopened", count(capture.reopened, "time")],
    ["Clipped", count(status.clipped_samples, "sample"), status.clipped_samples > 0],
    ["Recognition takes", latency.count ? `${ms(latency.p50_s)}, at most ${ms(latency.p99_s)}` : "not measured yet"],
    ["Of one core", load === null ? "not measured yet" : `${(100 * load).toFixed(1)} %`],
    status.temperature_c == null ? null : ["Processor", `${status.temperature_c.toFixed(0)} °C`, status.temperature_c >= HOT_C],
    ["History", `${count(history.written, "row")}, ${history.waiting.toLocaleString()} waiting`, history.dropped > 0],
    broker == null ? null : ["MQTT", broker.connected ? "connected" : "not connected", !broker.connected],
    ["Runs on", recognizer.backend],
  ];
  // Only what changed is written: a screen reader's place is kept.
  const list = $("health");
  rows.filter(Boolean).forEach(([name, value, off], at) => {
    const term = list.children[2 * at] ?? list.appendChild(el("dt"));
    const text = list.children[2 * at + 1] ?? list.appendChild(el("dd"));
    if (term.textContent !== name) term.textContent = name;
    if (text.textContent !== String(value)) text.textContent = value;
    text.className = off ? "off" : "";
  });
  while (list.children.length > 2 * rows.filter(Boolean).length) list.lastChild.remove();

  problems(status);
}

const ms = (seconds) => `${(1000 * seconds).toFixed(1)} ms`;

function problems(status) {
  const said = [
    status.capture.problem,
    status.recognizer.problem && `The new package was rejected: ${status.recognizer.problem}`,
    status.history_problem && `The history is kept in memory: ${status.history_problem}`,
    status.broker?.problem && `MQTT: ${status.broker.problem}`,
    status.configuration_problem && `The configuration was not reloaded: ${status.configuration_problem}`,
    ...status.hardware_problems,
    ...ofSound(status),
    status.temperature_c >= HOT_C &&
      `The processor is at ${status.temperature_c.toFixed(0)} °C and will slow down: give it airflow or a heat sink.`,
  ].filter(Boolean);
  $("problems").hidden = said.length === 0;
  if (said.join("\n") === recent.join("\n")) return;
  recent = said;
  $("problem-list").replaceChildren(...said.map((text) => el("li", {}, sentence(text))));
  if (status.capture.problem) {
    $("problem-list").firstChild.append(" ", el("a", { href: "#doctor-section" }, "Ask the microphone doctor"));
  }
}

function ofSound({ channels, capture, muted }) {
  const reading = channels?.readings[channels.chosen];
  if (!reading || muted || capture.state !== "listening") return [];
  if (reading.constant) return ["The microphone only sends a constant value: check its wires, L/R included. Ask the microphone doctor below."];
  const clipped = reading.clipped / Math.max(reading.samples, 1);
  return [
    clipped > 0.001 && `The sound is too loud, with ${percent(clipped)} of it clipped: move the microphone away from the loudspeaker.`,
    reading.hum > 0.5 && reading.rms_dbfs > -60 &&
      `${percent(reading.hum)} of the sound is mains hum: keep the microphone's wires short and away from power supplies.`,
  ];
}
