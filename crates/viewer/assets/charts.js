// The score histogram and the layer bars.

// --- histogram: every bin equally wide, whatever its scale; counts on a log axis ---

const PLOT = { left: 40, right: 8, top: 8, bottom: 34, height: 220 };

/** Place of `value` along the bins, in bins. */
function binPosition(edges, value) {
  let low = 0;
  let high = edges.length - 1;
  if (value <= edges[0]) return 0;
  if (value >= edges[high]) return high;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (edges[middle] <= value) low = middle;
    else high = middle;
  }
  return low + (value - edges[low]) / (edges[high] - edges[low]);
}

/** Round values for the score axis: powers of ten where bins grow with the score, else even steps. */
function tickValues(edges) {
  const [low, high] = [edges[0], edges[edges.length - 1]];
  const widths = edges.slice(1).map((edge, i) => edge - edges[i]);
  const even = Math.max(...widths) < 1.5 * Math.min(...widths);
  const ticks = [];
  if (even) {
    const power = 10 ** Math.floor(Math.log10((high - low) / 5));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => (high - low) / s <= 7) || high - low;
    for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(i * step);
    return ticks;
  }
  if (low <= 0 && high >= 0) ticks.push(0);
  const top = Math.floor(Math.log10(largest([low, high])));
  const bottom = Math.floor(Math.log10(Math.min(...widths)));
  for (let power = top; power >= bottom; power--) {
    for (const tick of [10 ** power, -(10 ** power)]) if (tick >= low && tick <= high) ticks.push(tick);
  }
  return ticks;
}

function tickLabel(value) {
  const size = Math.abs(value);
  if (size && (size >= 1e5 || size < 1e-2)) {
    const power = Math.log10(size);
    if (Math.abs(power - Math.round(power)) < 1e-9) {
      return (value < 0 ? "−" : "") + "10" + superscript(Math.round(power));
    }
  }
  return number(Number(value.toPrecision(6)), 6).replace(/(\.\d*?)0+(?=$|\u202f)/, "$1").replace(/\.$/, "");
}

function histogramAxes(width, edges, x, y, most) {
  const base = PLOT.height - PLOT.bottom;
  const axes = svg("g", { class: "axes", "aria-hidden": "true" });
  for (let count = 1; count <= most; count *= most > 1e4 ? 100 : 10) {
    axes.append(
      svg("line", { x1: PLOT.left, x2: width - PLOT.right, y1: y(count), y2: y(count) }),
      svg("text", { x: PLOT.left - 6, y: y(count) + 3.5, "text-anchor": "end" }, tickLabel(count)),
    );
  }
  const taken = [];
  for (const tick of tickValues(edges)) {
    const at = x(binPosition(edges, tick));
    if (taken.some((other) => Math.abs(other - at) < 46)) continue;
    taken.push(at);
    const label = tickLabel(tick);
    axes.append(
      svg("line", { x1: at, x2: at, y1: base, y2: base + 4, class: "tick" }),
      svg("text", { x: Math.min(at, width - 3.5 * label.length - 1), y: base + 27, "text-anchor": "middle" }, label),
    );
  }
  return axes;
}

function drawHistogram(box, { edges, counts }, rows) {
  const width = Math.max(240, box.clientWidth);
  const base = PLOT.height - PLOT.bottom;
  const most = Math.max(...counts, 1);
  const x = (position) => PLOT.left + (position / counts.length) * (width - PLOT.left - PLOT.right);
  // A bin of one count keeps a visible height: the axis starts at half a count.
  const y = (count) => base - (Math.log10(2 * count) / Math.log10(2 * most)) * (base - PLOT.top);
  const bins = counts.map((count, i) => {
    const [from, to] = [x(i), x(i + 1)];
    const bin = svg("g", { class: `bin ${edges[i] < 0 ? "negative" : "positive"}` });
    bin.append(svg("rect", { x: from, y: PLOT.top, width: to - from, height: base - PLOT.top, class: "catch" }));
    if (count) {
      const gap = Math.min(1, (to - from) / 4);
      bin.append(svg("rect", { x: from, y: y(count), width: to - from - gap, height: base - y(count), class: "count" }));
    }
    return withTip(bin, () => [
      `${whole(count)} train example${count === 1 ? "" : "s"}`,
      `score ${number(edges[i], 3)} to ${number(edges[i + 1], 3)}`,
    ]);
  });
  const rug = rows.map((row) => {
    const at = x(binPosition(edges, row.score));
    return svg("line", { x1: at, x2: at, y1: base + 6, y2: base + 13, class: `rug ${signOf(row.score)}` });
  });
  const total = counts.reduce((sum, count) => sum + count, 0);
  const picture = svg(
    "svg",
    {
      width, height: PLOT.height, role: "img",
      "aria-label": `Histogram of ${whole(total)} scores from ${number(edges[0], 3)} to ` +
        `${number(edges[edges.length - 1], 3)}, counts on a log axis. Left and right arrow step through the bins.`,
    },
    histogramAxes(width, edges, x, y, most),
    svg("line", { x1: PLOT.left, x2: width - PLOT.right, y1: base, y2: base, class: "base" }),
    ...bins,
    ...rug,
  );
  stepping(picture, () => bins);
  box.replaceChildren(picture);
}

function histogramPanel(query) {
  if (!query.histogram.counts.length) return null;
  const box = h("div", { class: "plot" });
  const rows = query.proponents.concat(query.opponents);
  let width = 0;
  new ResizeObserver(() => {
    if (box.clientWidth === width) return;
    width = box.clientWidth;
    drawHistogram(box, query.histogram, rows);
  }).observe(box);
  return h(
    "section", { class: "panel" },
    h("h3", null, "Scores of the train set"),
    box,
    h("p", { class: "caption" }, "Counts on a log axis. Ticks below the axis: the examples listed on this page."),
  );
}

// --- layers: signed bars, by layer, by block or by kind of layer ---

/** `h.3.mlp.c_fc` is of block `h.3` and kind `mlp.c_fc`: the first whole number in a name counts the blocks. */
function layerParts(name) {
  const parts = name.split(".");
  const at = parts.findIndex((part) => /^\d+$/.test(part));
  if (at < 0) return { block: name, kind: name };
  return { block: parts.slice(Math.max(0, at - 1), at + 1).join("."), kind: parts.slice(at + 1).join(".") || name };
}

function groupLayers(layers, part) {
  const groups = new Map();
  for (const layer of layers) {
    const name = part === "layer" ? layer.name : layerParts(layer.name)[part];
    const group = groups.get(name) || { name, up: 0, down: 0, members: 0 };
    group.up += layer.up;
    group.down += layer.down;
    group.members += 1;
    groups.set(name, group);
  }
  return [...groups.values()];
}

function layerBars(groups) {
  const up = groups.reduce((most, g) => Math.max(most, g.up), 0);
  const down = groups.reduce((most, g) => Math.max(most, g.down), 0);
  const span = up + down || 1;
  const bars = groups.map((group) => {
    const sum = group.up - group.down;
    const bar = h(
      "li", { "--zero": down / span, "--up": group.up / span, "--down": group.down / span },
      h("span", { class: "name" }, group.name),
      h("span", { class: "track", "aria-hidden": "true" }, h("i", { class: "down" }), h("i", { class: "up" }), h("b")),
      h("span", { class: `sum ${signOf(sum)}` }, signed(sum, 3)),
    );
    return withTip(bar, () => [
      group.name + (group.members > 1 ? ` (${group.members} layers)` : ""),
      `positive ${signed(group.up)}, negative ${signed(-group.down)}`,
      `sum ${signed(sum)}`,
    ]);
  });
  return h("ul", { class: "layers", tabindex: "0", "aria-label": "Influence by layer" }, bars);
}

/** `layers`: { name, up, down } with `down` as a size. */
function layerView(layers) {
  const choices = { layer: "each layer" };
  for (const [part, label] of Object.entries({ block: "by block", kind: "by kind" })) {
    const count = groupLayers(layers, part).length;
    if (count > 1 && count < layers.length) choices[part] = label;
  }
  const view = h("div", { class: "layer-view" });
  const draw = (part) => {
    const buttons = Object.entries(choices).map(([other, label]) =>
      h("button", { type: "button", "aria-pressed": String(other === part), onclick: () => draw(other) }, label));
    const focused = view.contains(document.activeElement);
    view.replaceChildren(
      ...(buttons.length > 1 ? [h("div", { class: "choices", role: "group", "aria-label": "Group layers" }, buttons)] : []),
      layerBars(groupLayers(layers, part)),
    );
    if (focused) view.querySelector("[aria-pressed=true]")?.focus();
  };
  draw(layers.length > 12 && choices.block ? "block" : "layer");
  return view;
}

function layerPanel(query) {
  if (!query.layers.length) return null;
  const layers = query.layers.map(({ name, signed: sum, absolute }) => {
    const size = Math.max(absolute, Math.abs(sum));
    return { name, up: (size + sum) / 2, down: (size - sum) / 2 };
  });
  return h(
    "section", { class: "panel" },
    h("h3", null, "Where in the model"),
    layerView(layers),
    h("p", { class: "caption" }, "Influence of the listed examples, summed per layer; at right the signed sum."),
  );
}
