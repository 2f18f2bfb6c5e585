// Looks at the microphone, and says what to type.

import { $, api, count, el } from "./util.js";

export function start() {
  $("examine").onclick = examine;
}

async function examine() {
  const button = $("examine");
  // It stays where the keyboard is: a button that is disabled loses the focus.
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  $("doctor-note").textContent = "Listening to the microphone…";
  try {
    const { findings } = await api("/api/doctor");
    $("findings").replaceChildren(...findings.map(finding));
    const troubles = findings.filter(({ severity }) => kind(severity) === "error" || kind(severity) === "warning");
    $("doctor-note").textContent = troubles.length ? `${count(troubles.length, "finding")} to look at.` : "All is well.";
  } catch (error) {
    $("doctor-note").textContent = error.message;
  }
  button.removeAttribute("aria-disabled");
}

function kind(severity) {
  const word = String(severity).toLowerCase();
  if (["error", "fault", "bad", "critical"].includes(word)) return "error";
  if (["warning", "warn"].includes(word)) return "warning";
  return ["ok", "good"].includes(word) ? "ok" : "note";
}

function finding({ severity, what, why, type }) {
  const item = el(
    "li",
    { className: kind(severity) },
    el("p", { className: "severity" }, kind(severity) === "ok" ? "good" : String(severity)),
    el("p", { className: "what" }, String(what)),
    why ? el("p", { className: "why" }, String(why)) : null,
  );
  if (type) item.append(line(String(type)));
  return item;
}

function line(text) {
  const code = el("code", {}, text);
  const row = el("div", { className: "type" }, code);
  // Browsers let pages copy over HTTPS or on localhost only.
  if (navigator.clipboard) {
    const copy = el("button", { type: "button", "aria-label": `Copy: ${text}` }, "Copy");
    copy.onclick = async () => {
      const copied = await navigator.clipboard.writeText(text).then(() => true, () => false);
      copy.textContent = copied ? "Copied" : "Not copied";
      setTimeout(() => (copy.textContent = "Copy"), 2000);
    };
    row.append(copy);
  }
  return row;
}
