// Shows ranked results, or a message in their place.

import { codeSpans, element, fileName, find, number } from "../dom.js";
import { cosineAndDistance, explained, figure } from "../gallery/figures.js";
import { Grid } from "../gallery/grid.js";
import { openViewer } from "../gallery/viewer.js";
import { t } from "../texts.js";
import { Cutoff } from "./cutoff.js";

// So many tiles are drawn before the others: more than the first screen of most people holds.
const FIRST = 12;
// The others wait until one of these is drawn, or for so long: else they would be in its way.
const LATER_MS = 300;
// A search takes some hundred milliseconds: what comes and goes at once would only flicker.
const SLOW_MS = 250;

export class Results {
  // `onSimilar(item)`, `onAdd(item, weight)`: what a tile's buttons do. `loadPage(cursor)`: gives the next result.
  // `onCutoff(score)`: results below it are hidden now.
  constructor({ onSimilar, onAdd, loadPage, onCutoff }) {
    this.root = find(".results");
    this.head = find(".results-head");
    this.box = find("#message");
    this.list = find("#grid");
    this.entry = null;
    this.options = { onSimilar, onAdd, loadPage };
    this.grid = new Grid(this.list, {
      onOpen: (index) => this._open(index),
      loadMore: () => this._loadMore(),
      decorate: (tile, item) => this._decorate(tile, item),
      onAppended: () => this._applyCutoff(),
    });
    this.cutoff = new Cutoff((score) => {
      this._applyCutoff();
      onCutoff(score);
    });
    this.list.addEventListener("click", (event) => this._act(event));
  }

  clear() {
    this.entry = null;
    this._setState("empty");
    this.grid.clear();
  }

  get isPending() {
    return this.root.dataset.state === "pending";
  }

  // Whether results are shown or on their way.
  get isInUse() {
    return this.isPending || this.root.dataset.state === "results";
  }

  // Says that a search is under way. What was found before stays until then, faded.
  showPending() {
    this._setState("pending");
    this._slow = setTimeout(() => this.root.classList.add("slow"), SLOW_MS);
    this._title(t("search.searching"), "");
  }

  // `actions`: links and buttons.
  showMessage(title, text, actions = []) {
    this.clear();
    this._setState("message");
    const parts = [element("h2", { textContent: title }), element("p", {}, ...codeSpans(text))];
    if (actions.length) parts.push(element("p", { className: "actions" }, ...actions));
    this.box.replaceChildren(...parts);
  }

  setNote(text) {
    find("#results-note").textContent = text;
  }

  // Shows an entry: `{ result, hits, cursor }`, which grows as more pages are loaded. `atOnce`: all of it, because
  // somebody comes back to a place in it.
  show(entry, cutoff = 0, { atOnce = false } = {}) {
    const focused = this.list.contains(document.activeElement);
    this.grid.clear();
    this._fill(entry, cutoff, atOnce ? Infinity : FIRST);
    // Who came here with the keyboard goes on from the new results.
    if (focused) find("#results-title").focus({ preventScroll: true });
  }

  // The same with the tiles that the server sent.
  adopt(entry, cutoff = 0) {
    this._fill(entry, cutoff, Infinity);
  }

  _fill(entry, cutoff, first) {
    this._setState("results");
    this.entry = entry;
    this.groups = new Map();
    this.cutoff.value = cutoff;
    this._describe(entry.result);
    this.later = entry.hits.slice(first);
    this.grid.append(this._grouped(entry.hits.slice(0, first)), { unfinished: this.later.length > 0, atOnce: first === FIRST });
    if (this.later.length) this._afterFirstPicture(() => this.entry === entry && this._appendLater());
  }

  _afterFirstPicture(then) {
    const done = () => {
      this.list.removeEventListener("load", loaded, true);
      clearTimeout(timer);
      then();
    };
    // Behind the frame that shows it.
    const loaded = () => requestAnimationFrame(() => setTimeout(done));
    const timer = setTimeout(done, LATER_MS);
    this.list.addEventListener("load", loaded, { capture: true, once: true });
  }

  _appendLater() {
    if (!this.later.length) return;
    const items = this._grouped(this.later);
    this.later = [];
    this.grid.append(items);
  }

  _setState(state) {
    clearTimeout(this._slow);
    this.root.classList.remove("slow");
    this.root.dataset.state = state;
    this.head.hidden = state === "empty" || state === "message";
    this.box.hidden = state !== "message";
    this.root.setAttribute("aria-busy", String(state === "pending"));
  }

  _title(title, note) {
    find("#results-title").textContent = title;
    this.setNote(note);
  }

  _describe(result) {
    const folder = result.query?.folder;
    const total = result.took_ms.total;
    const took = total < 1000 ? `${Math.round(total)} ms` : `${(total / 1000).toFixed(1)} s`;
    const isKnown = total !== undefined && result.indexed !== null;
    this.note = isKnown ? t("search.searched", { count: result.indexed, took }) : "";
    this._title(folder ? t("search.similar_in", { folder }) : t("search.similar"), this.note);
  }

  // --- tiles ---------------------------------------------------------------------------------------------------------

  // Files of the same content are one tile. Gives the new tiles' items; copies of known ones are added to those.
  _grouped(hits) {
    const items = [];
    for (const hit of hits) {
      const known = hit.content_hash && this.groups.get(hit.content_hash);
      if (known) {
        known.copies.push(hit);
        const tile = this.grid.tiles[this.grid.items.indexOf(known)];
        if (tile) showCopies(tile, known);
        continue;
      }
      const item = { ...hit, copies: [hit] };
      if (hit.content_hash) this.groups.set(hit.content_hash, item);
      items.push(item);
    }
    return items;
  }

  _decorate(tile, item) {
    const shown = find(".tile-figure", tile);
    shown.textContent = figure(item);
    shown.title = explained(item);
    const frame = find(".tile-frame", tile);
    frame.append(
      element("span", { className: "tile-figures", textContent: cosineAndDistance(item), ariaHidden: "true" }),
      element("span", { className: "tile-badge" }),
    );
    tile.append(actions(item));
    showCopies(tile, item);
  }

  _act(event) {
    const button = event.target.closest("[data-act]");
    if (!button) return;
    const item = this.grid.items[this.grid.tiles.indexOf(button.closest(".tile"))];
    if (button.dataset.act === "similar") this.options.onSimilar(item);
    else this.options.onAdd(item, button.dataset.act === "add" ? 1 : -1);
  }

  _open(index) {
    openViewer(this.grid.items, index, {
      onSimilar: this.options.onSimilar,
      onAdd: this.options.onAdd,
      onClose: (last) => this.grid.focus(last),
      loadMore: () => this.grid.loadMore(),
    });
  }

  // --- more pages ----------------------------------------------------------------------------------------------------

  async _loadMore() {
    const { entry } = this;
    if (!entry || this.isPending || this.later.length) return [];
    if (!entry.cursor) return null;
    const result = await this.options.loadPage(entry.cursor);
    if (this.entry !== entry) return null;
    entry.cursor = result.next_cursor;
    entry.hits.push(...result.results);
    return this._grouped(result.results);
  }

  // --- the cut-off ---------------------------------------------------------------------------------------------------

  _applyCutoff() {
    const { items } = this.grid;
    const score = this.cutoff.value;
    const below = score > 0 ? items.findIndex((item) => item.score < score) : -1;
    const count = below < 0 ? items.length : below;
    this.grid.showFirst(score > 0 ? count : Infinity);
    // As long as all that is loaded is above it, there may be more.
    const more = below < 0 && Boolean(this.entry?.cursor);
    const text = this.cutoff.describe(`${number(count)}${more ? "+" : ""}`, items[count - 1]);
    this.setNote(text || this.note);
  }
}

function showCopies(tile, item) {
  const count = item.copies.length;
  const badge = find(".tile-badge", tile);
  badge.hidden = count < 2;
  badge.textContent = `×${count}`;
  badge.title = t("gallery.copies", { count });
}

function actions(item) {
  const box = document.getElementById("tile-actions").content.firstElementChild.cloneNode(true);
  for (const button of box.children) {
    const label = t(`search.tile_${button.dataset.act}`, { name: fileName(item.path) });
    button.setAttribute("aria-label", label);
  }
  return box;
}
