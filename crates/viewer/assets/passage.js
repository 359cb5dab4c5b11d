// The text of a query.

function passage(query) {
  const { prompt, completion } = query;
  if (!prompt && !completion) return null;
  const long = prompt.length > 900;
  const shown = long ? "…" + prompt.slice(-700) : prompt;
  const given = h("span", { class: "prompt" }, shown);
  const kind = looksLikeCode(prompt + completion) ? " code" : prompt.length + completion.length > 260 ? " long" : "";
  return h("div", { class: "passage" + kind, dir: "auto" },
    long && h("button", {
      type: "button", class: "more",
      onclick: (event) => { given.textContent = prompt; event.target.remove(); },
    }, `Show the whole prompt, ${whole(prompt.length)} characters`),
    h("p", null,
      h("span", { class: "hidden" }, "Prompt: "), given,
      completion && h("span", { class: "hidden" }, " Completion: "),
      completion && /^\s*/.exec(completion)[0],
      completion && h("mark", null, completion.trimStart())));
}
