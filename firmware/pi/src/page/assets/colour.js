// Two kinds of colour, both made in OKLab (Ottosson 2020), where equal steps look equal.

// Labels: hues at equal distances in the order of the package's labels. Lightness and
// chroma are the theme's (style.css). What is no music is grey.
let hues = new Map();

export function setLabels(labels) {
  const named = labels.filter((label) => label !== "unknown" && label !== "silence");
  // Neighbours in the list are far apart on the wheel, as they are side by side on the page.
  const stride = named.length > 4 ? coprime(named.length, Math.round(named.length * 0.38)) : 1;
  hues = new Map(named.map((label, at) => [label, 20 + (360 * ((at * stride) % named.length)) / named.length]));
}

function coprime(n, near) {
  const divisor = (a, b) => (b ? divisor(b, a % b) : a);
  for (let stride = Math.max(near, 1); ; stride++) if (divisor(n, stride) === 1) return stride;
}

/** Gives an element a label's colour: its --label. */
export function paint(element, label) {
  element.classList.add("label");
  element.classList.toggle("faint", label === "silence");
  element.classList.toggle("plain", label !== "silence" && !hues.has(label));
  element.style.setProperty("--hue", hues.get(label) ?? 0);
  return element;
}

// The spectrogram's map: lightness rises in equal steps from 8 % to 96 %, so that a
// decibel looks the same everywhere and black-and-white shows as much. Hue turns from
// violet over red to yellow on the way; chroma is highest in the middle, where screens
// have most of it.
export function spectrum() {
  const map = new Uint8ClampedArray(256 * 4);
  for (let i = 0; i < 256; i++) {
    const t = i / 255;
    const hue = ((285 + 165 * t) * Math.PI) / 180;
    const chroma = 0.035 + 0.155 * Math.sin(Math.PI * Math.min(1, t * 1.04)) ** 0.9;
    map.set([...rgb(0.08 + 0.88 * t, chroma * Math.cos(hue), chroma * Math.sin(hue)), 255], 4 * i);
  }
  return map;
}

function rgb(L, a, b) {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((x) => 255 * (x <= 0.0031308 ? 12.92 * Math.max(x, 0) : 1.055 * Math.min(x, 1) ** (1 / 2.4) - 0.055));
}
