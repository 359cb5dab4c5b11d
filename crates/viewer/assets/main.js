// The list of queries, the address of the selected one, the keys.

const run = parseData("report");
const list = byId("list");
const search = byId("search");
let selected = -1;
let shownItems = [];

const haystacks = run.queries.map((q) =>
  [q.id, q.prompt, q.completion, ...Object.entries(q.metadata).map(([key, value]) => `${key}:${plainValue(value)}`)]
    .join("\n").toLowerCase());

const items = run.queries.map((q, i) => {
  const text = (q.prompt.length > 160 ? "…" + q.prompt.slice(-120) : q.prompt).trim();
  const { title, text: figure } = listFigure(q);
  const values = Object.values(q.metadata).map(plainValue).join(" · ");
  return h(
    "li", { id: `item-${i}`, role: "option", "aria-selected": "false", onclick: () => { select(i); closeList(); } },
    h("span", { class: "top" }, h("b", null, q.id), h("span", { title }, figure)),
    text || q.completion
      ? h("span", { class: "line", dir: "auto" }, text + (text ? " " : ""), h("em", null, q.completion.trim()))
      : h("span", { class: "line" }, values),
  );
});

function select(index, fromAddress) {
  if (index === selected || !run.queries[index]) return;
  items[selected]?.setAttribute("aria-selected", "false");
  selected = index;
  items[index].setAttribute("aria-selected", "true");
  items[index].scrollIntoView({ block: "nearest" });
  list.setAttribute("aria-activedescendant", `item-${index}`);
  byId("bar-title").textContent = run.queries[index].id;
  document.title = `${run.queries[index].id} · ${run.title}`;
  const article = byId("query");
  const isBelow = article.getBoundingClientRect().top < 0;
  renderQuery(index);
  if (isBelow) article.scrollIntoView();
  if (!fromAddress) {
    history.replaceState(null, "", "#q=" + encodeURIComponent(run.queries[index].id));
  }
}

/** Moves by `step` among the queries that the filter shows. */
function move(step) {
  const at = shownItems.indexOf(selected);
  const next = at < 0 ? (step > 0 ? 0 : shownItems.length - 1) : at + step;
  if (shownItems[next] !== undefined) select(shownItems[next]);
}

function filterList() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  shownItems = [];
  items.forEach((item, i) => {
    item.hidden = !words.every((word) => haystacks[i].includes(word));
    if (!item.hidden) shownItems.push(i);
  });
  const all = `${whole(items.length)} quer${items.length === 1 ? "y" : "ies"}`;
  byId("found").textContent = words.length ? `${whole(shownItems.length)} of ${all}` : all;
}

function fromAddress() {
  const match = /^#q=(.*)$/.exec(location.hash);
  let id = null;
  try {
    id = match && decodeURIComponent(match[1]);
  } catch {
    id = null;
  }
  const index = run.queries.findIndex((q) => q.id === id);
  select(index < 0 ? Math.max(0, selected) : index, true);
}

function closeList() {
  document.body.classList.remove("list-open");
  byId("open-list").setAttribute("aria-expanded", "false");
}

const keys = {
  j: () => move(1),
  k: () => move(-1),
  "/": () => { openList(); search.focus(); search.select(); },
  ...viewKeys,
  Escape: () => { hideTip(); closeList(); },
};

function openList() {
  document.body.classList.add("list-open");
  byId("open-list").setAttribute("aria-expanded", "true");
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, textarea")) return;
  const action = keys[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

/** In the list and in the filter the arrows move, as in any list box; elsewhere they scroll. */
function listKeys(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    event.preventDefault();
    move(step);
  } else if (event.currentTarget === list && (event.key === "Home" || event.key === "End") && shownItems.length) {
    event.preventDefault();
    select(event.key === "Home" ? shownItems[0] : shownItems[shownItems.length - 1]);
  } else if (event.key === "Enter") {
    closeList();
    byId("page").focus({ preventScroll: true });
  } else if (event.key === "Escape" && event.currentTarget === search) {
    search.value = "";
    filterList();
    list.focus();
  }
}

list.addEventListener("keydown", listKeys);
search.addEventListener("keydown", listKeys);
search.addEventListener("input", filterList);
byId("previous").addEventListener("click", () => move(-1));
byId("next").addEventListener("click", () => move(1));
byId("open-list").addEventListener("click", () => (document.body.classList.contains("list-open") ? closeList() : openList()));
addEventListener("hashchange", fromAddress);

byId("title").textContent = run.title;
byId("subtitle").textContent = run.subtitle;
byId("facts").append(...run.facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
list.append(...items);
startView();
filterList();
if (run.queries.length) fromAddress();
else byId("query").append(h("p", { class: "empty" }, "This report has no queries."));
