// Building blocks: elements, numbers, the tooltip, stepping through parts by keyboard.
// Data enters the page through text nodes and attributes only, never as markup.

const byId = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const superscript = (text) => String(text).replace(/[-0-9]/g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));

/** Thin spaces between groups of three digits. */
const grouped = (digits) => digits.replace(/\B(?=(\d{3})+$)/g, "\u202f");

/** A count, or any other whole number. */
const whole = (n) => grouped(String(Math.round(n)));

/** Four significant digits (or as many as asked), powers of ten written as such, a true minus sign. */
function number(x, digits = 4) {
  if (x === 0) return "0";
  const size = Math.abs(x);
  let text;
  if (size >= 1e-3 && size < 1e6) {
    const rounded = Number(size.toPrecision(digits));
    const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(rounded)));
    const [units, fraction] = rounded.toFixed(decimals).split(".");
    text = grouped(units) + (fraction ? "." + fraction : "");
  } else {
    const [mantissa, exponent] = size.toExponential(digits - 1).split("e");
    text = mantissa + "\u202f×\u202f10" + superscript(Number(exponent));
  }
  return (x < 0 ? "−" : "") + text;
}

const signed = (x, digits) => (x > 0 ? "+" : "") + number(x, digits);
const exact = (x) => (x > 0 ? "+" : "") + String(x).replace("-", "−");
const percent = (share) => {
  const value = 100 * share;
  if (value === 0) return "0 %";
  if (value < 0.01) return number(value, 2) + " %";
  return value.toFixed(value < 1 ? 2 : value < 10 ? 1 : 0) + " %";
};
const signOf = (x) => (x < 0 ? "negative" : "positive");
const plainValue = (value) => (typeof value === "string" ? value : JSON.stringify(value));
const largest = (numbers) => numbers.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

/** Text of which indented lines hold a good part is read in a fixed pitch. */
function looksLikeCode(text) {
  const indented = text.match(/\n(?: {2,}|\t).*\S.*/g) || [];
  return indented.length >= 2 && indented.join("").length > 0.3 * text.length;
}

/** Whole numbers beyond 2⁵³, such as hashes in metadata, stay the digits they are. */
function parseData(id) {
  const text = byId(id).textContent;
  if (!/[:,[]-?\d{16,}[,\]}]/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_, value, context) =>
    Number.isInteger(value) && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "") ? context.source : value);
}

/** Token text on one line, its white space made visible. */
function visible(text) {
  const shown = text.replace(/\r?\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "·");
  return shown.length > 32 ? shown.slice(0, 31) + "…" : shown;
}

// --- tooltip: one for the page; an element with a `tipOf` entry shows it on hover, tap or keyboard step ---

const tipOf = new WeakMap();
const withTip = (node, lines) => (tipOf.set(node, lines), node);
const tip = byId("tip");
let tipped = null;

function showTip(node) {
  if (tipped === node) return;
  hideTip();
  tipped = node;
  node.classList.add("at");
  const lines = tipOf.get(node)();
  tip.replaceChildren(...lines.map((line, i) => h(i ? "small" : "strong", null, line)));
  tip.hidden = false;
  placeTip();
}

function placeTip() {
  const node = tipped;
  const box = node.getClientRects()[0] || node.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left + box.width / 2 - tip.offsetWidth / 2), innerWidth - tip.offsetWidth - 8);
  const above = box.top - tip.offsetHeight - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 8 ? above : box.bottom + 8}px`;
}

function hideTip() {
  if (tipped) tipped.classList.remove("at");
  tipped = null;
  tip.hidden = true;
}

function tipTarget(node) {
  for (; node && node !== document; node = node.parentNode) if (tipOf.has(node)) return node;
  return null;
}

for (const kind of ["pointerover", "click"]) {
  document.addEventListener(kind, (event) => {
    const node = tipTarget(event.target);
    if (node) showTip(node);
    else hideTip();
  });
}
document.addEventListener("pointerleave", hideTip);
addEventListener("scroll", () => {
  if (!tipped) return;
  const { top, bottom } = tipped.getBoundingClientRect();
  if (tipped.isConnected && bottom > 0 && top < innerHeight) placeTip();
  else hideTip();
}, { passive: true, capture: true });

/** Lets the left and right arrows step through `parts()`, each with a tooltip, while `node` has the focus. */
function stepping(node, parts) {
  let at = -1;
  node.tabIndex = 0;
  node.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hideTip();
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const all = step ? parts() : [];
    if (!all.length) return;
    event.preventDefault();
    at = Math.min(Math.max(0, at + step), all.length - 1);
    all[at].scrollIntoView({ block: "nearest" });
    showTip(all[at]);
  });
  node.addEventListener("blur", hideTip);
  return node;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "hidden" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
