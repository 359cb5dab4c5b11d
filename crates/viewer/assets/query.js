// The main pane: one query, its figures, its two lists.

const SIDES = { both: "Both", proponents: "Proponents", opponents: "Opponents" };
let side = matchMedia("(min-width: 1200px)").matches ? "both" : "proponents";
let mono = false;

function figures(query) {
  const { summary } = query;
  const isText = Boolean(query.prompt || query.completion);
  const figure = (name, value, note, title) =>
    h("div", { title }, h("dt", null, name), h("dd", null, value, note && h("small", null, " " + note)));
  const likely = Math.exp(query.measurement);
  const chance = isText && likely > 0 && likely <= 1 ? `p = ${percent(likely)}` : null;
  return h("dl", { class: "figures" },
    figure(isText ? "log p, nats" : "measurement f", number(query.measurement), chance, exact(query.measurement)),
    figure("mean score", signed(summary.mean, 3), `± ${number(summary.std, 3)}`, `mean ${exact(summary.mean)}, standard deviation ${exact(summary.std)}`),
    figure("largest", signed(summary.max), null, exact(summary.max)),
    figure("smallest", signed(summary.min), null, exact(summary.min)),
    figure("held by the top 1 %", percent(summary.top_percent_share), "of positive influence",
      "Share of the total positive influence that the top 1 % of the train examples hold"));
}

function copyButton(index) {
  const button = h("button", { type: "button", onclick: async () => {
    await copyText(byId(`query-${index}`).textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy as JSON"; }, 1600);
  } }, "Copy as JSON");
  return button;
}

function reading(query) {
  const what = query.prompt || query.completion ? "log p" : "f";
  const rows = query.proponents.concat(query.opponents);
  const hasTokens = rows.some((row) => row.tokens.length);
  return h("div", { class: "note" },
    h("p", null,
      "Scores are ", h("i", null, "I"), "(", h("i", null, "q"), ", ", h("i", null, "m"), "). A positive score marks a proponent: training more on it raises " + what + ". ",
      `One more copy of an example changes ${what} by about I/N nats, here N = ${whole(run.n_train)}; taking it away, by −I/N.`),
    hasTokens && h("p", null,
      "Colour falls on the position that predicts the next token, so look one token to the right for what was learned. ",
      "It is scaled to the strongest token of each text, and depends on all tokens before."),
    hasTokens && h("p", { class: "scale", "aria-hidden": "true" }, h("span", null, "opposes"), h("i"), h("span", null, "supports")));
}

function lists(query) {
  const rows = query.proponents.concat(query.opponents);
  const most = largest(rows.map((row) => row.score)) || 1;
  const hasText = rows.some((row) => row.text || row.tokens.length);
  const box = h("div", { class: "lists" });
  const draw = (filter) => {
    forgetUnfinished();
    const pick = (key, value) => {
      draw({ key, value });
      box.querySelector(".filter button").focus();
    };
    const choice = (name) => h("button", { type: "button", "aria-pressed": String(name === side), "data-side": name, onclick: () => setSide(name) }, SIDES[name]);
    box.replaceChildren(
      h("div", { class: "tools" },
        h("div", { class: "choices", role: "group", "aria-label": "Lists to show" }, Object.keys(SIDES).map(choice)),
        hasText && h("button", { type: "button", class: "quiet", id: "mono", "aria-pressed": String(mono), onclick: () => setMono(!mono) }, "Monospace"),
        filter && h("span", { class: "filter", role: "status" }, "Only ", h("b", null, `${filter.key}: ${plainValue(filter.value)}`), " ",
          h("button", { type: "button", class: "quiet", onclick: () => draw(null) }, "show all"))),
      h("div", { class: "columns" },
        column("Proponents", query.proponents, query, most, filter, pick),
        column("Opponents", query.opponents, query, most, filter, pick)),
    );
  };
  draw(null);
  return box;
}

function setSide(name) {
  side = name;
  document.body.dataset.side = name;
  for (const button of document.querySelectorAll("[data-side]")) {
    if (button !== document.body) button.setAttribute("aria-pressed", String(button.dataset.side === name));
  }
}

function setMono(on) {
  mono = on;
  document.body.classList.toggle("mono", on);
  byId("mono")?.setAttribute("aria-pressed", String(on));
}

/** Only the selected query is parsed and laid out. */
function renderQuery(index) {
  const query = parseData(`query-${index}`);
  hideTip();
  const panels = [histogramPanel(query), layerPanel(query)].filter(Boolean);
  byId("query").replaceChildren(
    h("div", { class: "overline" },
      h("h2", null, query.id),
      h("span", null, `${index + 1} of ${run.queries.length}`),
      copyButton(index)),
    ...[
      passage(query),
      chips(query.metadata),
      figures(query),
      panels.length && h("div", { class: `panels of-${panels.length}` }, panels),
      reading(query),
      lists(query),
    ].filter(Boolean),
  );
}

addEventListener("beforeprint", () => finish([...unfinished.keys()]));

/// What the list, the keys and the start of the page need to know of this view.
const listFigure = (query) => ({ title: "measurement", text: number(query.measurement, 3) });
const viewKeys = {
  p: () => setSide("proponents"),
  o: () => setSide("opponents"),
  b: () => setSide("both"),
  m: () => setMono(!mono),
};
const startView = () => setSide(side);
