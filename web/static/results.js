// Shows ranked results, or a message in their place.

import { clone, element, fileName, find, number, plural } from "./dom.js";

const grid = find("#grid");
const head = find(".results-head");
const message = find("#message");

export function clearResults() {
  head.hidden = true;
  message.hidden = true;
  grid.replaceChildren();
  grid.classList.remove("pending");
}

export function showMessage(title, text, { command, actions = [] } = {}) {
  clearResults();
  message.replaceChildren(element("h2", { textContent: title }), element("p", { textContent: text }));
  if (command) message.append(element("p", {}, element("code", { textContent: command })));
  if (actions.length) message.append(element("p", { className: "actions" }, ...actions));
  message.hidden = false;
}

export function showPending(count) {
  clearResults();
  head.hidden = false;
  find("#results-title").textContent = "Searching…";
  find("#results-note").textContent = "";
  grid.classList.add("pending");
  for (let i = 0; i < Math.min(count, 12); i += 1) {
    const tile = element("li", { className: "tile" }, element("span", { className: "tile-frame" }));
    tile.style.setProperty("--ratio", [1.5, 0.75, 1, 1.5][i % 4]);
    grid.append(tile);
  }
}

export function setNote(text) {
  find("#results-note").textContent = text;
}

export function showResults(result, onOpen) {
  clearResults();
  head.hidden = false;
  find("#results-title").textContent = plural(result.results.length, "similar picture");
  const total = result.took_ms.total;
  const searched = result.indexed === null ? "" : `out of ${number(result.indexed)}`;
  const took = total === undefined ? "" : `in ${total < 1000 ? `${Math.round(total)} ms` : `${(total / 1000).toFixed(1)} s`}`;
  setNote([searched, took].filter(Boolean).join(" "));
  grid.append(...result.results.map((hit, index) => makeTile(hit, () => onOpen(index))));
}

function makeTile(hit, open) {
  const tile = clone("tile");
  const name = fileName(hit.path);
  // Very long pictures would leave no room for their neighbours.
  tile.style.setProperty("--ratio", Math.min(2.4, Math.max(0.6, hit.width / hit.height || 1)));
  const image = find("img", tile);
  image.src = hit.thumbnail_url;
  image.addEventListener("error", () => image.classList.add("missing"));
  find(".rank", tile).textContent = hit.rank;
  find(".name", tile).textContent = name;
  find(".name", tile).title = hit.path;
  find(".score", tile).textContent = hit.score.toFixed(3);
  const button = find("button", tile);
  button.setAttribute("aria-label", `${name}, rank ${hit.rank}, score ${hit.score.toFixed(3)}`);
  button.addEventListener("click", open);
  return tile;
}
