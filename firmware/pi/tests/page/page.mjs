// The page in headless Chromium, on the example server:
//
//     apt-get install chromium
//     cargo build -p sori-pi --example page
//     cd firmware/pi/tests/page && npm ci && npm test
//
// CHROMIUM and PAGE name another browser and another server; SHOTS is a folder for
// screenshots. Every wait is for a condition.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const PATIENCE_MS = 30_000;
const TOKEN = "0123456789abcdef";
const root = fileURLToPath(new URL("../../../../", import.meta.url));
const PAGE = process.env.PAGE ?? `${root}target/debug/examples/page`;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const DESKTOP = { viewport: { width: 1280, height: 900 }, colorScheme: "light" };
const DARK = { ...DESKTOP, colorScheme: "dark" };
const PHONE = {
  viewport: { width: 375, height: 812 },
  colorScheme: "dark",
  isMobile: true,
  hasTouch: true,
  deviceScaleFactor: 2,
};

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** A server that answers. */
async function serve(port, ...more) {
  const child = spawn(PAGE, [String(port), ...more], { stdio: ["ignore", "pipe", "inherit"] });
  const url = `http://127.0.0.1:${port}/`;
  await once(child.stdout, "data");
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await fetch(`${url}healthz`).catch(() => null))?.ok) {
    assert(Date.now() < deadline, "the server does not answer");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    url,
    async stop() {
      const start = Date.now();
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      await ended;
      return Date.now() - start;
    },
  };
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
});

/** Whatever the browser complains of, by page: the policy of contents included. */
const complaints = [];

async function open(url, options) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    // A server that is gone is part of a test.
    if (message.type() === "error" && !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE|ERR_EMPTY|ERR_CONNECTION_RESET|status of 4/.test(message.text())) {
      complaints.push(message.text());
    }
  });
  const foreign = [];
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) foreign.push(request.url());
  });
  await page.goto(url);
  return { page, foreign, close: () => context.close() };
}

const hearing = (page) =>
  page.waitForFunction(() => {
    const box = document.querySelector(".verdict");
    return !box.classList.contains("words") && /sure|quiet|recognizes/.test(box.textContent);
  });

/** How many kinds of colour the spectrogram shows. */
const colours = (page) =>
  page.evaluate(() => {
    const canvas = document.getElementById("spectrogram");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
  });

async function violations(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" | ")}`);
}

const tests = {
  async "a live decision appears, and the sound runs"() {
    const { page, foreign, close } = await open(server.url, DESKTOP);
    await hearing(page);
    const first = await page.textContent("#verdict");
    await page.waitForFunction((first) => document.getElementById("verdict").textContent !== first, first);
    await page.waitForFunction(() => document.querySelectorAll("#bars li").length === 11);
    assert((await colours(page)) > 100, "the spectrogram is drawn");
    const picture = () => page.evaluate(() => document.getElementById("spectrogram").toDataURL());
    const before = await picture();
    await page.waitForFunction((before) => document.getElementById("spectrogram").toDataURL() !== before, before);
    // Of yesterday: shortly after midnight there is little of today.
    await page.click("#day-before");
    await page.waitForFunction(() => document.querySelectorAll("#ribbon .span").length > 5);
    await page.click("#day-after");
    await page.waitForFunction(() => document.querySelectorAll("#rows tr").length >= 100);
    assert.equal(await page.textContent("#state-words"), "Listening");
    // A screen reader is told of the verdict.
    await page.waitForFunction(() => document.getElementById("spoken").textContent.length > 3);
    assert.deepEqual(foreign, [], "nothing is fetched from elsewhere");
    await close();
  },

  async "after a restart of the server the page goes on by itself"() {
    const port = await freePort();
    let other = await serve(port);
    const { page, close } = await open(other.url, DESKTOP);
    await hearing(page);
    const took = await other.stop();
    assert(took < 2000, `stopped in ${took} ms with the page open`);
    await page.waitForSelector("#connection:not([hidden])");
    assert.match(await page.textContent("#connection"), /Connection lost, trying again/);
    other = await serve(port);
    await page.waitForSelector("#connection", { state: "hidden" });
    await page.waitForFunction(() => document.getElementById("state-words").textContent === "Listening");
    await page.waitForFunction(() => parseInt(document.getElementById("health-note").textContent.slice(7)) < 30);
    await close();
    await other.stop();
  },

  async "mute and confirm do what they say"() {
    const { page, close } = await open(server.url, DESKTOP);
    await hearing(page);
    await page.click("#confirm");
    await page.waitForFunction(() => /^Noted: /.test(document.getElementById("confirm-note").textContent));
    await page.click("#mute");
    await page.waitForSelector('#mute[aria-pressed="true"]');
    assert.equal(await page.textContent("#verdict"), "Muted");
    assert(await page.isDisabled("#confirm"));
    await page.click("#mute");
    await page.waitForSelector('#mute[aria-pressed="false"]');
    await hearing(page);
    await close();
  },

  async "the history is filtered and exported as filtered"() {
    const { page, close } = await open(server.url, DESKTOP);
    await page.waitForFunction(() => document.querySelectorAll("#rows tr").length >= 100);
    await page.selectOption("#filter-verdict", "jazz");
    await page.click('#filter button[type="submit"]');
    await page.waitForFunction(() => {
      const rows = [...document.querySelectorAll("#rows tr:not(.group)")];
      return rows.length > 0 && rows.every((row) => row.cells[1].textContent === "jazz");
    });
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("#export-csv")]);
    assert.equal(download.suggestedFilename(), "sori-history.csv");
    const lines = readFileSync(await download.path(), "utf8").trim().split("\n");
    assert(lines.length > 100 && lines.slice(1).every((line) => line.includes(",jazz,")));
    await page.click("#day-before");
    await page.waitForFunction(() => document.getElementById("day-title").textContent === "Yesterday");
    await page.waitForFunction(() => document.querySelectorAll("#legend li").length > 3);
    await close();
  },

  async "the doctor's findings, the model card and a file's verdict are shown"() {
    const { page, close } = await open(server.url, DESKTOP);
    await page.click("#examine");
    await page.waitForFunction(() => document.querySelectorAll("#findings li").length === 3);
    assert.match(await page.textContent("#findings"), /sori-pi mic test/);
    await page.click("#card-details summary");
    assert((await page.locator("#card table").count()) >= 2);
    await page.setInputFiles("#try-file", { name: "tone.wav", mimeType: "audio/wav", buffer: tone() });
    await page.click('#try button[type="submit"]');
    await page.waitForSelector("#try-answer .strip");
    await page.setInputFiles("#try-file", { name: "x.wav", mimeType: "audio/wav", buffer: Buffer.from("no sound") });
    await page.click('#try button[type="submit"]');
    await page.waitForFunction(() => /not a WAV file/.test(document.getElementById("try-note").textContent));
    assert.deepEqual(await violations(page), []);
    await close();
  },

  async "a phone shows all of it without scrolling sideways"() {
    for (const width of [320, 375]) {
      const { page, close } = await open(server.url, { ...PHONE, viewport: { width, height: 812 } });
      await hearing(page);
      await page.click("#examine");
      await page.waitForSelector("#findings li");
      await page.click("#card-details summary");
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert(wide <= width, `${wide} pixels in ${width}`);
      await close();
    }
  },

  async "axe finds nothing wrong: light, dark, phone, without a microphone, signing in"() {
    const port = await freePort();
    const silent = await serve(port, "no-microphone");
    const closed = await serve(await freePort(), "token", TOKEN);
    for (const [name, url, options, ready] of [
      ["light", server.url, DESKTOP, hearing],
      ["dark", server.url, DARK, hearing],
      ["phone", server.url, PHONE, hearing],
      ["no microphone", silent.url, DESKTOP, (page) => page.waitForSelector("#problem-list li")],
      ["no microphone, dark", silent.url, DARK, (page) => page.waitForSelector("#problem-list li")],
      ["sign in", closed.url, DESKTOP, (page) => page.waitForSelector("#token")],
      ["sign in, dark", closed.url, DARK, (page) => page.waitForSelector("#token")],
    ]) {
      const { page, close } = await open(url, options);
      await ready(page);
      assert.deepEqual(await violations(page), [], name);
      await close();
    }
    await closed.stop();
    await silent.stop();
  },

  async "dark is dark and light is light"() {
    for (const [options, isDark] of [[DESKTOP, false], [DARK, true]]) {
      const { page, close } = await open(server.url, options);
      const sum = await page.evaluate(() =>
        getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0),
      );
      assert.equal(sum < 382, isDark, `${sum}`);
      await close();
    }
  },

  async "without a microphone the page says so and what to do"() {
    const silent = await serve(await freePort(), "no-microphone");
    const { page, close } = await open(silent.url, DESKTOP);
    await page.waitForFunction(() => document.getElementById("verdict").textContent === "No microphone");
    assert.match(await page.textContent("#problem-list"), /dtoverlay=googlevoicehat-soundcard/);
    assert.match(await page.textContent("#spectrogram-empty"), /No sound yet/);
    assert.match(await page.textContent("#rows"), /No matching entries/);
    await shot(page, "no-microphone");
    await close();
    await silent.stop();
  },

  async "the keyboard reaches every control, and the focus is seen"() {
    const { page, close } = await open(server.url, DESKTOP);
    await hearing(page);
    await page.waitForSelector("#older-row:not([hidden])");
    await page.waitForSelector("#card-details:not([hidden])");
    const wanted = await page.evaluate(() => {
      const all = document.querySelectorAll("a[href], button, input, select, summary");
      return [...all]
        .filter((control) => !control.disabled && control.checkVisibility())
        .map((control, at) => (control.dataset.at = String(at)));
    });
    const reached = new Set();
    for (let presses = 0; presses < 3 * wanted.length + 20 && reached.size < wanted.length; presses++) {
      await page.keyboard.press("Tab");
      const { at, seen } = await page.evaluate(() => {
        const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
        return {
          at: document.activeElement.dataset.at,
          seen: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2,
        };
      });
      if (at === undefined) continue;
      assert(seen, `the focus on control ${at} is not seen`);
      reached.add(at);
    }
    assert.equal(reached.size, wanted.length, "controls that Tab reaches");
    // And it works them.
    await page.focus("#mute");
    await page.keyboard.press("Space");
    await page.waitForSelector('#mute[aria-pressed="true"]');
    await page.keyboard.press("Enter");
    await page.waitForSelector('#mute[aria-pressed="false"]');
    await close();
  },

  async "with a token the page asks for it, and then works"() {
    const closed = await serve(await freePort(), "token", TOKEN);
    const { page, close } = await open(closed.url, DESKTOP);
    await page.waitForURL(/\/login$/);
    await page.fill("#token", "fedcba9876543210");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => /Wrong token/.test(document.body.textContent));
    await page.fill("#token", TOKEN);
    await page.keyboard.press("Enter");
    await page.waitForURL(closed.url);
    await hearing(page);
    await page.click("#mute");
    await page.waitForSelector('#mute[aria-pressed="true"]');
    await close();
    await closed.stop();
  },

  async "who wants less motion gets less"() {
    const { page, close } = await open(server.url, { ...DESKTOP, reducedMotion: "reduce" });
    await hearing(page);
    await page.waitForFunction(() => document.getElementById("spectrogram-empty").hidden);
    assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector(".dot")).animationName), "none");
    const pictures = await page.evaluate(async () => {
      const seen = new Set();
      const start = performance.now();
      while (performance.now() - start < 2500) {
        await new Promise(requestAnimationFrame);
        seen.add(document.getElementById("spectrogram").toDataURL());
      }
      return seen.size;
    });
    assert(pictures >= 2 && pictures <= 5, `${pictures} pictures in 2.5 s`);
    await close();
  },
};

/** Two seconds of a tone: 16 kHz, mono, 16 bits. */
function tone() {
  const samples = 32_000;
  const file = Buffer.alloc(44 + 2 * samples);
  file.write("RIFF", 0);
  file.writeUInt32LE(36 + 2 * samples, 4);
  file.write("WAVEfmt ", 8);
  file.writeUInt32LE(16, 16);
  file.writeUInt16LE(1, 20);
  file.writeUInt16LE(1, 22);
  file.writeUInt32LE(16_000, 24);
  file.writeUInt32LE(32_000, 28);
  file.writeUInt16LE(2, 32);
  file.writeUInt16LE(16, 34);
  file.write("data", 36);
  file.writeUInt32LE(2 * samples, 40);
  for (let n = 0; n < samples; n++) file.writeInt16LE(Math.round(8000 * Math.sin(0.17 * n)), 44 + 2 * n);
  return file;
}

async function shot(page, name) {
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${name}.png`, fullPage: true });
}

/** Of the top of the page, when the spectrogram is full. */
async function shots() {
  for (const [name, options] of [
    ["desktop-light", { ...DESKTOP, viewport: { width: 1280, height: 1040 } }],
    ["phone-dark", { ...PHONE, viewport: { width: 375, height: 1010 } }],
  ]) {
    const { page, close } = await open(server.url, options);
    const says = (words) =>
      page.waitForFunction(
        (words) => document.getElementById("verdict").parentElement.textContent.includes(words),
        words,
        { timeout: 120_000 },
      );
    for (const words of ["unknown", "jazz", "for 8 s"]) await says(words);
    await page.screenshot({ path: `${process.env.SHOTS}/${name}.png` });
    await close();
  }
}

const server = await serve(await freePort());
let failed = 0;
const only = process.argv[2];
for (const [name, test] of Object.entries(tests)) {
  if (only && !name.includes(only)) continue;
  const start = Date.now();
  try {
    complaints.length = 0;
    await test();
    assert.deepEqual(complaints, [], "what the browser complains of");
    console.log(`ok    ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}\n      ${error.stack}`);
  }
}
if (process.env.SHOTS) await shots();
await browser.close();
await server.stop();
process.exitCode = failed ? 1 : 0;
