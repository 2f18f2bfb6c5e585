// What all parts of the page need.

export const $ = (id) => document.getElementById(id);

/** An element. Text is always set as text, never as HTML. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name === "role" || name === "scope") {
      element.setAttribute(name, value);
    } else {
      element[name] = value;
    }
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** JSON of the API; what is refused is thrown in the server's words. */
export async function api(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The Pi does not respond. Is it on and connected to this network?");
  }
  if (answer.status === 401) {
    location.assign("/login");
    throw new Error("Sign in first.");
  }
  const json = await answer.json().catch(() => null);
  if (!answer.ok) {
    throw new Error(sentence(json?.error?.message ?? `The Pi responded with status ${answer.status}.`));
  }
  return json;
}

export const post = (path, body) =>
  api(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body ?? {}),
  });

export const sentence = (text) => {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
};

export const percent = (p) => (p == null ? "" : `${Math.round(100 * p)} %`);

/** With a true minus, which screen readers and eyes both take for one. */
export const level = (dbfs) =>
  dbfs == null ? "nothing" : `${Math.round(dbfs)} dBFS`.replace("-", "−");

export function duration(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  const minutes = Math.round(s / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) {
    const rest = minutes % 60;
    return `${Math.floor(minutes / 60)} h${rest ? ` ${rest} min` : ""}`;
  }
  return `${Math.floor(minutes / 1440)} days`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const exact = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const hours = new Intl.DateTimeFormat(undefined, { hour: "numeric" });
export const time = (ms) => clock.format(ms);
export const day = (ms) => date.format(ms);
export const second = (ms) => exact.format(ms);
export const hour = (ms) => hours.format(ms);

export const count = (n, one, many = `${one}s`) =>
  `${n.toLocaleString()} ${n === 1 ? one : many}`;
