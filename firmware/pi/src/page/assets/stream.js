// The server's events, for as long as the page is looked at.

const NAMES = ["status", "rows", "heard", "channels", "span", "confirmed", "muted", "lagged"];
/** The status comes once a second: silence for so long is a broken connection. */
const SILENCE_MS = 8000;
const SHORTEST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15000;
/** A page that nobody sees gives its place up. */
const UNSEEN_MS = 60000;

/** Calls `on.NAME(data)` for each event, and `on.connected(true or false)`. */
export function listen(on) {
  let source = null;
  let wait = SHORTEST_WAIT_MS;
  let timer = 0;
  let unseen = 0;

  function close() {
    source?.close();
    source = null;
    clearTimeout(timer);
  }

  function open() {
    close();
    source = new EventSource("/api/events");
    for (const name of NAMES) {
      source.addEventListener(name, (event) => {
        alive();
        on[name]?.(JSON.parse(event.data));
      });
    }
    source.onerror = lost;
    alive();
  }

  function alive() {
    clearTimeout(timer);
    timer = setTimeout(lost, SILENCE_MS);
    if (source?.readyState === EventSource.OPEN) {
      wait = SHORTEST_WAIT_MS;
      on.connected(true);
    }
  }

  async function lost() {
    close();
    on.connected(false);
    // An event stream does not say why it was refused.
    const answer = await fetch("/api/status").catch(() => null);
    if (answer?.status === 401) {
      location.assign("/login");
      return;
    }
    if (document.hidden && unseen === -1) return;
    // Not all at once when the Pi is back.
    timer = setTimeout(open, wait * (0.75 + 0.5 * Math.random()));
    wait = Math.min(2 * wait, LONGEST_WAIT_MS);
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(unseen);
    if (document.hidden) {
      unseen = setTimeout(() => {
        unseen = -1;
        close();
      }, UNSEEN_MS);
    } else if (!source) {
      wait = SHORTEST_WAIT_MS;
      open();
    }
  });
  addEventListener("online", () => source || open());
  open();
}
