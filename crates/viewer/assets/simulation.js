// Simulated training runs: the losses of each watched example on the way.

const ROLES = {
  baseline: "simulated, as it was",
  edited: "simulated, edited",
  recorded: "recorded",
  trained: "really trained, edited",
};
const CHART = { left: 48, right: 14, top: 10, bottom: 34, height: 340 };

/** Round values from `low` to `high`. */
function roundTicks(low, high, most) {
  const span = high - low || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(span / most));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => span / s <= most);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * span; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

const shortNumber = (value) => String(value).replace("-", "−");

function axes(width, height, x, y, xTicks, yTicks) {
  const base = height - CHART.bottom;
  return svg("g", { class: "axes", "aria-hidden": "true" },
    yTicks.flatMap((tick) => [
      svg("line", { x1: CHART.left, x2: width - CHART.right, y1: y(tick), y2: y(tick) }),
      svg("text", { x: CHART.left - 6, y: y(tick) + 3.5, "text-anchor": "end" }, shortNumber(tick)),
    ]),
    xTicks.flatMap((tick) => [
      svg("line", { x1: x(tick), x2: x(tick), y1: base, y2: base + 4, class: "tick" }),
      svg("text", { x: x(tick), y: base + 17, "text-anchor": "middle" }, shortNumber(tick)),
    ]));
}

/** The loss of a line at a step, or nothing beyond its ends. */
function lossAt(line, step) {
  const after = line.steps.findIndex((s) => s >= step);
  if (after < 0) return null;
  if (line.steps[after] === step || after === 0) return line.steps[after] === step ? line.losses[after] : null;
  const part = (step - line.steps[after - 1]) / (line.steps[after] - line.steps[after - 1]);
  return line.losses[after - 1] + part * (line.losses[after] - line.losses[after - 1]);
}

function drawLines(box, lines) {
  const width = Math.max(240, box.clientWidth);
  const base = CHART.height - CHART.bottom;
  const lastStep = Math.max(1, ...lines.map((line) => line.steps[line.steps.length - 1] || 0));
  // Bands that are far wider than the losses are cut at the edge of the picture.
  const losses = lines.flatMap((line) => line.losses);
  const [least, most] = [Math.min(...losses), Math.max(...losses)];
  const room = (most - least) * 0.5 || 1;
  const edges = losses.concat(lines.flatMap((line) => line.band.flat().filter((v) => v > least - room && v < most + room)));
  const [low, high] = [Math.min(...edges), Math.max(...edges)];
  const pad = (high - low || 1) * 0.04;
  const x = (step) => CHART.left + (step / lastStep) * (width - CHART.left - CHART.right);
  const y = (loss) => base - ((loss - low + pad) / (high - low + 2 * pad)) * (base - CHART.top);
  const clamp = (v) => Math.min(base, Math.max(CHART.top, y(v))).toFixed(1);
  const path = (line) => line.losses.map((loss, i) => `${i ? "L" : "M"}${x(line.steps[i]).toFixed(1)} ${y(loss).toFixed(1)}`).join("");
  const band = (line) => {
    const up = line.band.map(([, v], i) => `${i ? "L" : "M"}${x(line.steps[i]).toFixed(1)} ${clamp(v)}`);
    const down = line.band.map(([v], i) => `L${x(line.steps[i]).toFixed(1)} ${clamp(v)}`).reverse();
    return up.concat(down).join("") + "Z";
  };
  const slots = Math.min(120, Math.max(2, Math.floor(width / 9)));
  const stops = Array.from({ length: slots }, (_, i) => Math.round((i * lastStep) / (slots - 1)))
    .filter((step, i, all) => !i || step !== all[i - 1]);
  const catchers = stops.map((step, i) => {
    const from = i ? (x(stops[i - 1]) + x(step)) / 2 : CHART.left;
    const to = i + 1 < stops.length ? (x(step) + x(stops[i + 1])) / 2 : width - CHART.right;
    return withTip(
      svg("g", { class: "stop" },
        svg("rect", { class: "catch", x: from, y: CHART.top, width: Math.max(0.1, to - from), height: base - CHART.top }),
        svg("line", { x1: x(step), x2: x(step), y1: CHART.top, y2: base })),
      () => [`before step ${whole(step)}`, ...lines.map((line) => [line, lossAt(line, step)])
        .filter(([, loss]) => loss !== null)
        .map(([line, loss]) => `${ROLES[line.role]}: ${number(loss)}`)]);
  });
  const picture = svg("svg",
    {
      width, height: CHART.height, role: "img",
      "aria-label": `Losses over ${whole(lastStep)} steps. Left and right arrow step through them.`,
    },
    axes(width, CHART.height, x, y, roundTicks(0, lastStep, Math.max(2, width / 90)), roundTicks(low, high, 7)),
    svg("line", { x1: CHART.left, x2: width - CHART.right, y1: base, y2: base, class: "base" }),
    svg("text", { x: width - CHART.right, y: CHART.height - 3, "text-anchor": "end" }, "step"),
    catchers,
    lines.filter((line) => line.band.length).map((line) => svg("path", { class: `band ${line.role}`, d: band(line) })),
    lines.map((line) => svg("path", { class: `line ${line.role}`, d: path(line) })),
  );
  stepping(picture, () => catchers);
  box.replaceChildren(picture);
}

/** Draws now and whenever the width of the box changes. */
function resizing(box, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (box.clientWidth === width) return;
    width = box.clientWidth;
    draw();
  }).observe(box);
  return box;
}

const legend = (lines) => h("ul", { class: "legend" }, lines.map((line) =>
  h("li", null,
    svg("svg", { width: 26, height: 10, "aria-hidden": "true" }, svg("path", { class: `line ${line.role}`, d: "M1 5L25 5" })),
    ROLES[line.role] + (line.band.length ? ", with 90 % band" : ""))));

const bandText = ([low, high]) => `90 %: ${signed(low, 3)} to ${signed(high, 3)}`;

function finals(query) {
  const figure = (name, value, note) => h("div", null, h("dt", null, name), h("dd", { title: exact(value) }, number(value), note && h("small", null, " " + note)));
  const change = (name, value, note) => h("div", null, h("dt", null, name), h("dd", { title: exact(value) }, signed(value), note && h("small", null, " " + note)));
  const last = (line) => line.losses[line.losses.length - 1];
  return h("dl", { class: "figures" },
    query.lines.map((line) => figure(ROLES[line.role], last(line), "nats")),
    query.change !== null && change("change by the edit", query.change, query.change_band && bandText(query.change_band)),
    query.trained_change !== null && change("change, really trained", query.trained_change));
}

function renderQuery(index) {
  const query = parseData(`query-${index}`);
  hideTip();
  const box = h("div", { class: "plot lines" });
  byId("query").replaceChildren(
    h("div", { class: "overline" }, h("h2", null, query.id), h("span", null, `${index + 1} of ${run.queries.length}`)),
    ...[
      passage(query),
      finals(query),
      h("section", { class: "panel" }, h("h3", null, "Loss on the way, nats"), legend(query.lines), resizing(box, () => drawLines(box, query.lines))),
    ].filter(Boolean),
  );
}

/** Simulated against real changes, a point for each watched example. */
function drawChanges(box, entries) {
  const width = Math.min(520, Math.max(240, box.clientWidth));
  const height = 300;
  const base = height - CHART.bottom;
  const values = entries.flatMap(({ q }) => [q.change, q.trained_change]);
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  const pad = (high - low || 1) * 0.05;
  const place = (from, to) => (value) => from + ((value - low + pad) / (high - low + 2 * pad)) * (to - from);
  const [x, y] = [place(CHART.left, width - CHART.right), place(base, CHART.top)];
  const ticks = roundTicks(low, high, 5);
  const points = entries.map(({ q, index }) => withTip(
    svg("g", { class: "point", onclick: () => select(index) },
      q.change_band && svg("line", { class: "whisker", x1: x(q.trained_change), x2: x(q.trained_change), y1: Math.min(base, y(q.change_band[0])), y2: Math.max(CHART.top, y(q.change_band[1])) }),
      svg("circle", { cx: x(q.trained_change), cy: y(q.change), r: 4 })),
    () => [q.id, `simulated ${signed(q.change)}`, `really ${signed(q.trained_change)}`]));
  const picture = svg("svg", { width, height, role: "img", "aria-label": "Simulated against real changes. Left and right arrow step through the watched examples." },
    axes(width, height, x, y, ticks, ticks),
    svg("line", { class: "diagonal", x1: x(low), y1: y(low), x2: x(high), y2: y(high) }),
    svg("text", { x: width - CHART.right, y: height - 3, "text-anchor": "end" }, "change, really trained"),
    points);
  stepping(picture, () => points);
  box.replaceChildren(picture);
}

const listFigure = ({ change, last }) =>
  change === null
    ? { title: "simulated loss at the end, nats", text: last === null ? "" : number(last, 3) }
    : { title: "simulated change of the final loss, nats", text: signed(change, 3) };
const viewKeys = {};

function startView() {
  const entries = run.queries.map((q, index) => ({ q, index })).filter(({ q }) => q.change !== null && q.trained_change !== null);
  if (entries.length < 2) return;
  const box = h("div", { class: "plot changes" });
  byId("query").before(h("section", { class: "panel overview" },
    h("h3", null, "Change of the final loss: simulated (up) against really trained (across), nats"),
    resizing(box, () => drawChanges(box, entries)),
    h("p", { class: "caption" }, "A point for each watched example, with the 90 % band of the simulation; on the diagonal both are equal.")));
}
