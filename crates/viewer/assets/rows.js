// Proponents and opponents as cards.

const LONG_TEXT = 1400;
/** Above this ‖a‖₂ / ‖a‖₁ a row hangs on one or two tokens (Grosse et al. 2023). */
const SPARSE = 2 / 3;

function chips(metadata, pick) {
  const entries = Object.entries(metadata || {});
  if (!entries.length) return null;
  return h("ul", { class: "chips" }, entries.map(([key, value]) => {
    const label = [h("span", null, key), " ", h("b", null, plainValue(value))];
    const title = `${key}: ${plainValue(value)}`;
    if (!pick) return h("li", { title }, label);
    return h("li", null, h("button", { type: "button", title: `${title} — show only these`, onclick: () => pick(key, value) }, label));
  }));
}

function tokenSpans(row) {
  const most = largest(row.tokens.map(([, score]) => score || 0)) || 1;
  const sum = row.tokens.reduce((all, [, score]) => all + Math.abs(score || 0), 0) || 1;
  return row.tokens.map(([text, score], i) => {
    const strength = Math.abs(score || 0) / most;
    const kind = (strength < 0.015 ? "" : score < 0 ? "n" : "p") + (/^\s*\n\s*$/.test(text) && strength >= 0.1 ? " nl" : "");
    // A blank before a word stays unshaded: at a line's end it would leave a sliver of colour.
    const blank = /^ (?=\S)/.test(text) ? " " : "";
    const span = h("span", { class: kind || null, "--a": kind ? strength.toFixed(3) : null }, text.slice(blank.length));
    const next = row.tokens[i + 1];
    const lines = () => score === null
      ? [visible(text), "nothing is predicted here, so no score"]
      : [
        next ? `${visible(text)} → ${visible(next[0])}` : visible(text),
        exact(score),
        `${percent(Math.abs(score) / sum)} of the row’s absolute influence`,
      ];
    return { blank, span: withTip(span, lines) };
  });
}

const isSparse = (row) => {
  const scores = row.tokens.map(([, score]) => score || 0);
  const absolute = scores.reduce((sum, s) => sum + Math.abs(s), 0);
  const squared = scores.reduce((sum, s) => sum + s * s, 0);
  return scores.length > 2 && absolute > 0 && Math.sqrt(squared) / absolute > SPARSE;
};

/** Plain text first, so that the page is quick and searchable; colours and strokes once a part comes near the window. */
const nearby = new IntersectionObserver((entries) => {
  finish(entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target));
}, { rootMargin: "800px" });
const unfinished = new Map();

function later(node, work) {
  unfinished.set(node, work);
  nearby.observe(node);
  return node;
}

/** Work may return a measurement, which may return a change: three rounds, so that the page is laid out once. */
function finish(nodes) {
  const work = nodes.map((node) => unfinished.get(node));
  for (const node of nodes) {
    unfinished.delete(node);
    nearby.unobserve(node);
  }
  const round = (steps) => steps.filter(Boolean).map((step) => step());
  round(round(round(work)));
}

function forgetUnfinished() {
  unfinished.clear();
  nearby.disconnect();
}

function shadeText(text, row) {
  if (row.tokens.length) {
    const tokens = tokenSpans(row);
    const spans = tokens.map(({ span }) => span);
    const shaded = document.createDocumentFragment();
    for (const { blank, span } of tokens) shaded.append(blank, span);
    text.replaceChildren(shaded);
    text.classList.add("tokens");
    stepping(text, () => spans);
  }
  return text.classList.contains("clipped") ? () => showStrongest(text, row) : null;
}

/** A clipped text opens where its strongest token is. Measures, and returns the change. */
function showStrongest(text, row) {
  if (text.scrollHeight <= text.clientHeight + 24) {
    return () => {
      text.classList.remove("clipped");
      text.nextElementSibling?.remove();
    };
  }
  const sizes = row.tokens.map(([, score]) => Math.abs(score || 0));
  const token = text.children[sizes.indexOf(largest(sizes))];
  const offset = token ? token.offsetTop - text.clientHeight / 2 : 0;
  const line = parseFloat(getComputedStyle(text).lineHeight) || 1;
  const end = text.scrollHeight - text.clientHeight;
  const top = Math.min(end, Math.max(0, Math.round(offset / line) * line));
  return () => {
    text.scrollTop = top;
    text.classList.toggle("from-start", top < line);
    text.classList.toggle("to-end", top > end - line);
  };
}

function rowText(row) {
  const text = row.tokens.length ? row.tokens.map(([piece]) => piece).join("") : row.text;
  if (!text) return null;
  const node = h("div", { class: looksLikeCode(text) ? "text code" : "text", role: "group", "aria-label": `Text of ${row.train_id}`, dir: "auto" }, text);
  later(node, () => shadeText(node, row));
  if (text.length < LONG_TEXT && text.split("\n").length < 14) return node;
  node.classList.add("clipped");
  const size = row.tokens.length ? `${whole(row.tokens.length)} tokens` : `${whole(text.length)} characters`;
  const toggle = h("button", {
    type: "button", class: "more", "aria-expanded": "false",
    onclick: () => {
      const open = node.classList.toggle("clipped") === false;
      toggle.setAttribute("aria-expanded", String(open));
      toggle.textContent = open ? "Show less" : `Show all ${size}`;
      if (!open) showStrongest(node, row)();
    },
  }, `Show all ${size}`);
  return [node, toggle];
}

/** One stroke per layer, up for positive and down for negative; opens the bars. */
function layerStrip(row, names) {
  if (!row.layers.length) return null;
  const most = largest(row.layers) || 1;
  const width = row.layers.length * 4;
  const strongest = row.layers.map((score, i) => [Math.abs(score), i]).sort((a, b) => b[0] - a[0]).slice(0, 3);
  const label = "Strongest layers: " + strongest.map(([, i]) => `${names[i]} ${signed(row.layers[i], 3)}`).join(", ");
  const strip = svg("svg", {
    viewBox: `0 0 ${width} 24`, width: Math.min(width, 400), height: 24, preserveAspectRatio: "none", role: "img", "aria-label": label,
  });
  later(strip, () => strip.append(
    svg("line", { x1: 0, x2: width, y1: 12, y2: 12 }),
    ...row.layers.map((score, i) => {
      const height = Math.max(0.6, (Math.abs(score) / most) * 12);
      const stroke = svg("g", { class: signOf(score) },
        svg("rect", { x: i * 4, y: 0, width: 4, height: 24, class: "catch" }),
        svg("rect", { x: i * 4 + 0.5, y: score < 0 ? 12 : 12 - height, width: 3, height }));
      return withTip(stroke, () => [names[i], exact(score)]);
    })));
  const details = h("details", { class: "by-layer" }, h("summary", null, "Layers ", strip));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const layers = row.layers.map((score, i) => ({ name: names[i], up: Math.max(0, score), down: Math.max(0, -score) }));
    details.append(layerView(layers));
  });
  return details;
}

function card(row, query, most, pick) {
  const sign = signOf(row.score);
  return h(
    "li", { class: `card ${sign}` },
    h("header", null,
      h("span", { class: "rank" }, h("span", { class: "hidden" }, "Rank "), String(row.rank)),
      h("span", { class: `score ${sign}`, title: `I(q, m) = ${exact(row.score)}` }, signed(row.score)),
      h("span", { class: "effect", title: `one more copy: ${exact(row.one_more_copy)} nats` },
        `${signed(row.one_more_copy, 3)} nats `, h("small", null, "one more copy")),
      h("span", { class: "id", title: row.train_id }, row.train_id)),
    h("div", { class: "share", "--share": Math.abs(row.score) / most, "aria-hidden": "true" }),
    chips(row.metadata, pick),
    isSparse(row) && h("p", { class: "flag" }, "Nearly all of this score falls on one or two tokens. Such rows are often noise."),
    rowText(row),
    layerStrip(row, query.layers.map(({ name }) => name)),
  );
}

function column(name, rows, query, most, filter, pick) {
  const kept = filter ? rows.filter((row) => JSON.stringify(row.metadata[filter.key]) === JSON.stringify(filter.value)) : rows;
  const lower = name.toLowerCase();
  return h(
    "section", { class: `column ${lower}`, "aria-label": name },
    h("h3", null, name, " ",
      h("small", null, filter ? `${kept.length} of ${rows.length}` : String(rows.length))),
    kept.length
      ? h("ol", null, kept.map((row) => card(row, query, most, pick)))
      : h("p", { class: "empty" }, filter ? `No listed ${lower} with this value.` : `No ${lower} in this report.`),
  );
}
