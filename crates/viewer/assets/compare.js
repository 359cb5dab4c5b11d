// Several score tables: a column each, and how they agree.

const decimals = (x) => (x < 0 ? "−" : "") + Math.abs(x).toFixed(2);

/** With so many tables the texts come first: matrices and ranks are folded. */
const MANY = 6;
const isMany = () => run.tables.length > MANY;

/** A matrix [M, M]; one of shares is never negative. */
function matrix(caption, values) {
  const names = run.tables.map(({ name }) => name);
  const cell = (value, a, b) => {
    if (value === null) return h("td", { class: "self", title: "not defined: the scores of one are constant" }, "–");
    if (a === b) return h("td", { class: "self" }, decimals(value));
    return h("td", { class: signOf(value), "--a": Math.abs(value).toFixed(3), title: `${names[a]}, ${names[b]}: ${exact(value)}` }, decimals(value));
  };
  return h("div", { class: "wide" }, h("table", { class: isMany() ? "matrix small" : "matrix" },
    h("caption", null, caption),
    h("thead", null, h("tr", null, h("td", { class: "self" }), names.map((name) => h("th", { scope: "col", title: name }, name)))),
    h("tbody", null, values.map((row, a) =>
      h("tr", null, h("th", { scope: "row", title: names[a] }, names[a]), row.map((value, b) => cell(value, a, b)))))));
}

function agreement(heading, { spearman, pearson, overlap }) {
  const title = h("h2", null, isMany() ? `Agreement: ${heading[0].toLowerCase()}${heading.slice(1)}` : heading);
  const matrices = h("div", { class: "matrices" },
    matrix("Spearman", spearman),
    matrix("Pearson", pearson),
    matrix(`Overlap of the top ${whole(run.top)}`, overlap));
  return h("section", { class: "agreement" },
    isMany() ? h("details", null, h("summary", null, title), matrices) : [title, matrices]);
}

/** Ranks of a row in the other tables; with many tables how often it is at their top. */
function elsewhere(row, own) {
  const ranks = h("p", { class: "elsewhere" }, row.ranks.map((rank, i) =>
    i !== own && h("span", { class: rank <= run.top && "shared", title: `rank ${whole(rank)} of ${run.tables[i].name}` },
      `#${whole(rank)} ${run.tables[i].name}`)));
  if (!isMany()) return ranks;
  const shared = row.ranks.filter((rank, i) => i !== own && rank <= run.top).length;
  return h("details", { class: "ranks" },
    h("summary", null, `at the top of ${shared} of ${run.tables.length - 1} others`), ranks);
}

function comparedText(row) {
  if (!row.text) return null;
  const text = h("div", { class: looksLikeCode(row.text) ? "text code" : "text", dir: "auto" }, row.text);
  if (row.text.length < 420 && row.text.split("\n").length < 8) return text;
  text.classList.add("folded");
  const toggle = h("button", {
    type: "button", class: "more", "aria-expanded": "false",
    onclick: () => {
      const open = text.classList.toggle("folded") === false;
      toggle.setAttribute("aria-expanded", String(open));
      toggle.textContent = open ? "Show less" : "Show all";
    },
  }, "Show all");
  return [text, toggle];
}

/** Hovering a text marks it in the other columns too. */
function mark(row, on) {
  for (const card of document.querySelectorAll(`[data-row="${row.row}"]`)) card.classList.toggle("same", on);
}

const comparedCard = (row, rank, own) => h(
  "li", {
    class: `card ${signOf(row.score)}`, "data-row": String(row.row),
    onpointerenter: () => mark(row, true), onpointerleave: () => mark(row, false),
  },
  h("header", null,
    h("span", { class: "rank" }, h("span", { class: "hidden" }, "Rank "), String(rank + 1)),
    h("span", { class: `score ${signOf(row.score)}`, title: exact(row.score) }, signed(row.score)),
    h("span", { class: "id", title: row.train_id }, row.train_id)),
  elsewhere(row, own),
  comparedText(row));

const tableColumn = (table, rows, own) => h(
  "section", { class: "column", "aria-label": table.name },
  h("h3", null, table.name, h("small", null, table.detail)),
  rows.length ? h("ol", null, rows.map((row, rank) => comparedCard(row, rank, own))) : h("p", { class: "empty" }, "No texts."));

function renderQuery(index) {
  const query = parseData(`query-${index}`);
  hideTip();
  byId("query").replaceChildren(
    h("div", { class: "overline" }, h("h2", null, query.id), h("span", null, `${index + 1} of ${run.queries.length}`)),
    ...[
      passage(query),
      h("p", { class: "caption" }, `Under each text its ranks in the other tables, bold within their top ${whole(run.top)}. Scores of different methods have different units.`),
      h("div", { class: isMany() ? "beside narrow" : "beside", "--tables": run.tables.length }, run.tables.map((table, i) => tableColumn(table, query.lists[i], i))),
      run.queries.length > 1 && agreement("On this query", query.agreement),
    ].filter(Boolean),
  );
}

const listFigure = ({ spearman }) => ({
  title: "mean Spearman correlation of the tables",
  text: spearman === null ? "" : "ρ " + decimals(spearman),
});
const viewKeys = {};
const startView = () =>
  byId("query").before(agreement(run.queries.length > 1 ? `Mean over ${whole(run.queries.length)} queries` : "How the tables agree", run.mean));
