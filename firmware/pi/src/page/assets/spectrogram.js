// The live spectrogram: feature rows as the network is given them, a column each.

import { spectrum } from "./colour.js";
import { $ } from "./util.js";

/** Columns that are kept: what the server gives to begin with. */
const COLUMNS = 1024;
/** Columns that are held back so that the picture runs evenly: a batch and a little. */
const AHEAD = 14;

const map = spectrum();
const canvas = $("spectrogram");
const store = document.createElement("canvas");
const still = matchMedia("(prefers-reduced-motion: reduce)");

let bands = 0;
let column = null;
/** Number of the next row, and of the one at the right edge. */
let next = 0;
let edge = 0;
let rowsPerSecond = 62.5;
let before = 0;

/** Draws the legend's ramp with the same colours. */
export function start() {
  const ramp = $("ramp").getContext("2d");
  const line = ramp.createImageData(64, 1);
  for (let x = 0; x < 64; x++) line.data.set(map.subarray(16 * x, 16 * x + 4), 4 * x);
  ramp.putImageData(line, 0, 0);
  new ResizeObserver(resize).observe(canvas);
  requestAnimationFrame(draw);
}

export function setRate(rate) {
  if (rate > 0 && rate !== rowsPerSecond) {
    rowsPerSecond = rate;
    resize();
  }
}

/** Takes the rows of an event. */
export function push({ first, bands: height, rows }) {
  const bytes = Uint8Array.from(atob(rows), (c) => c.charCodeAt(0));
  if (!bytes.length) return;
  const count = bytes.length / height;
  if (height !== bands || first + count < next || first > next + COLUMNS) {
    bands = height;
    store.width = COLUMNS;
    store.height = height;
    column = new ImageData(1, height);
    edge = Math.max(first + count - AHEAD, 0);
    next = first;
  }
  const context = store.getContext("2d");
  // Rows that were lost are a gap, not a jump.
  for (; next < first; next++) context.clearRect(next % COLUMNS, 0, 1, bands);
  for (let row = Math.max(next - first, 0); row < count; row++, next++) {
    for (let band = 0; band < bands; band++) {
      // Two's complement to 0 … 255; low bands are drawn at the bottom.
      const value = bytes[row * bands + band] ^ 0x80;
      column.data.set(map.subarray(4 * value, 4 * value + 4), 4 * (bands - 1 - band));
    }
    context.putImageData(column, next % COLUMNS, 0);
  }
  $("spectrogram-empty").hidden = true;
}

/** Columns that fit: about one a pixel, and never more than there are. */
const visible = () => Math.min(COLUMNS - 64, Math.max(320, Math.round(canvas.clientWidth * 1.1)));

function resize() {
  const scale = Math.min(devicePixelRatio, 2);
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale));
  $("axis-from").textContent = `${Math.round(visible() / rowsPerSecond)} s ago`;
}

function draw(now) {
  requestAnimationFrame(draw);
  const seconds = Math.min((now - before) / 1000, 0.25);
  if (still.matches && now - before < 1000) return;
  before = now;
  if (!bands) return;
  // The edge runs at the sound's speed and is led to stay just behind the newest row.
  const behind = next - AHEAD - edge;
  edge = still.matches || behind > 4 * AHEAD || behind < -AHEAD
    ? next - AHEAD
    : Math.min(edge + seconds * (rowsPerSecond + 0.8 * behind), next);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  const width = canvas.width / visible();
  const last = Math.floor(edge);
  let from = Math.max(last - visible() - 1, 0, next - COLUMNS);
  while (from < last) {
    const at = from % COLUMNS;
    const run = Math.min(COLUMNS - at, last - from);
    const x = canvas.width - (edge - from) * width;
    context.drawImage(store, at, 0, run, bands, x, 0, run * width + 0.5, canvas.height);
    from += run;
  }
}
