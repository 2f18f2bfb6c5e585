// The package, and its model card: as much Markdown as such a card has.

import { $, api, el } from "./util.js";

export async function show() {
  try {
    const { name, path, labels, rows_per_second, bands, backend, card } = await api("/api/model");
    const from = path ? `from ${path}` : "built in";
    $("model-words").textContent =
      `“${name}”, ${from}, knows ${labels.join(", ")}. It processes ${Math.round(rows_per_second)} rows of ` +
      `${bands} mel bands per second, on ${backend}.`;
    $("card-details").hidden = !card;
    $("card").replaceChildren(...(card ? markdown(card) : []));
  } catch (error) {
    $("model-words").textContent = error.message;
  }
}

/** Blocks are parted by empty lines. */
function markdown(text) {
  const blocks = [];
  const fences = text.split(/^```.*$/m);
  fences.forEach((part, at) => {
    if (at % 2) {
      blocks.push(el("pre", { tabIndex: 0 }, el("code", {}, part.trim())));
      return;
    }
    for (const block of part.split(/\n\s*\n/)) {
      const trimmed = block.trim();
      if (trimmed) blocks.push(...blockOf(trimmed));
    }
  });
  return blocks;
}

function blockOf(block) {
  const heading = block.match(/^(#+)\s+(.*)/);
  if (heading) {
    const rest = block.slice(heading[0].length).trim();
    // The page has the first two levels.
    const level = Math.min(heading[1].length + 2, 6);
    return [el(`h${level}`, {}, ...inline(heading[2])), ...(rest ? blockOf(rest) : [])];
  }
  if (block.startsWith("|")) return [table(block.split("\n"))];
  if (/^[-*] /.test(block)) {
    const items = block.split(/\n(?=[-*] )/).map((item) => el("li", {}, ...inline(item.slice(2))));
    return [el("ul", {}, ...items)];
  }
  return [el("p", {}, ...inline(block))];
}

function table(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const [head, , ...rows] = lines.map(cells);
  const row = (tag) => (texts) => el("tr", {}, ...texts.map((text) => el(tag, {}, ...inline(text))));
  const body = el("tbody", {}, ...rows.map(row("td")));
  const titled = head.some(Boolean) ? el("thead", {}, row("td")(head)) : null;
  return el("div", { className: "table", tabIndex: 0, role: "region", "aria-label": head.find(Boolean) ?? "Facts" }, el("table", {}, titled, body));
}

/** Code, bold, and links, whose targets are not on this Pi: their text stays. */
function inline(text) {
  return text
    .replace(/\s*\n\s*/g, " ")
    .split(/(`[^`]+`|\*\*[^*]+\*\*|!?\[[^\]]*\]\([^)]*\))/)
    .map((part) => {
      if (part.startsWith("`")) return el("code", {}, part.slice(1, -1));
      if (part.startsWith("**")) return el("strong", {}, part.slice(2, -2));
      const link = part.match(/^!?\[([^\]]*)\]\(/);
      return link ? link[1].replaceAll("`", "") : part;
    });
}
