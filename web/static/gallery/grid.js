// A grid of pictures in rows that fill the width, and that goes on as one scrolls.

import { clone, element, fileName, find, findAll } from "../dom.js";
import { t } from "../texts.js";
import { justify, tileRatio } from "./layout.js";

// What a tile carries when it is dragged: its item as JSON.
export const DRAGGED = "application/x-imagesearch-image";

const LOAD_BEFORE_END = "900px";

export class Grid {
  // `list` is an `<ol class="gallery">`; tiles that the server sent in it are taken over by `append`.
  //
  // `onOpen(index)`: a tile was clicked. `loadMore()`: an async function, called when the end comes near; gives more
  // items, or null where there are none. `decorate(tile, item)`: adds to a tile what the page wants. `onAppended()`.
  // `wholeRows`: a last row that is not full is hidden.
  // An item has `image_id, path, width, height, thumbnail_url, image_url`.
  constructor(list, { onOpen, loadMore = null, decorate = null, onAppended = null, wholeRows = false } = {}) {
    this.list = list;
    this.items = [];
    this.tiles = [];
    this.shown = Infinity;
    this._options = { onOpen, loadMore, decorate, onAppended, wholeRows };
    this._ratios = [];
    this._rows = [];
    this._width = 0;
    this._sent = new Map(findAll(".tile", list).map((tile) => [tile.dataset.id, tile]));
    this._more = element("div", { className: "gallery-more" });
    this._more.setAttribute("role", "status");
    list.after(this._more);
    this._listen();
    this._ended = loadMore === null;
  }

  // Adds items at the end. `unfinished`: others follow at once; until then a last row that is not full is hidden, so
  // that nothing moves when they come. `atOnce`: their pictures are asked for now, and not only where a frame has
  // shown that they are on the screen.
  append(items, { unfinished = false, atOnce = false } = {}) {
    this._unfinished = unfinished;
    const tiles = items.map((item) => this._tile(item, atOnce));
    this.items.push(...items);
    this.tiles.push(...tiles);
    this._ratios.push(...items.map((item) => tileRatio(item.width, item.height)));
    for (const tile of this._sent.values()) tile.remove();
    this._sent.clear();
    this.list.append(...tiles.filter((tile) => !tile.isConnected));
    this._layOut(this._rows.length - 1);
    this._options.onAppended?.();
    this._lookAgain();
  }

  // Takes all items out. A load that is under way is forgotten.
  clear() {
    this.items = [];
    this.tiles = [];
    this._ratios = [];
    this._rows = [];
    this.shown = Infinity;
    this._sent.clear();
    this.list.replaceChildren();
    this._say("");
    this._loading = null;
    this._ended = this._options.loadMore === null;
  }

  // Shows only the first so many; while some are hidden nothing is loaded.
  showFirst(count) {
    if (count === this.shown) return;
    this.shown = count;
    this._layOut(0);
    this._lookAgain();
  }

  focus(index) {
    this.tiles[index]?.querySelector(".tile-open").focus();
  }

  // Loads the next items if there are more. Says whether some came.
  async loadMore() {
    if (this._ended || this.shown < this.items.length || !this.items.length) return false;
    this._loading ??= this._load();
    return this._loading;
  }

  async _load() {
    const items = this.items;
    const isCurrent = () => this.items === items;
    this._say(t("gallery.loading"));
    try {
      const more = await this._options.loadMore();
      if (!isCurrent()) return false;
      this._say("");
      this._loading = null;
      this._ended = more === null;
      if (more?.length) this.append(more);
      return Boolean(more?.length);
    } catch {
      if (isCurrent()) this._offerAgain();
      return false;
    }
  }

  _offerAgain() {
    const again = element("button", { type: "button", className: "button quiet", textContent: t("gallery.try_again") });
    again.addEventListener("click", () => {
      this._loading = null;
      this.loadMore();
    });
    this._more.replaceChildren(element("span", { textContent: t("gallery.load_failed") }), again);
  }

  _say(text) {
    this._more.textContent = text;
  }

  _tile(item, atOnce) {
    const tile = this._sent.get(item.image_id) ?? clone("tile");
    this._sent.delete(item.image_id);
    if (!tile.dataset.id) fillTile(tile, item, atOnce);
    const image = find("img", tile);
    // One that the server sent may have failed before; a lazy one that was not asked for yet has no `currentSrc`.
    if (image.complete && image.currentSrc && !image.naturalWidth) tile.classList.add("missing");
    image.addEventListener("error", () => tile.classList.add("missing"));
    this._options.decorate?.(tile, item);
    return tile;
  }

  // Places the rows from the given one on: what comes before it has not changed.
  _layOut(row) {
    const width = this._available();
    if (!width) return;
    const style = getComputedStyle(this.list);
    const target = parseFloat(style.getPropertyValue("--row-height"));
    const gap = parseFloat(style.columnGap) || 0;
    const from = this._width === width ? Math.max(0, row) : 0;
    this._width = width;
    const start = this._rows[from]?.start ?? 0;
    const count = Math.min(this.shown, this.tiles.length);
    this._rows.splice(from, Infinity, ...justify(this._ratios.slice(0, count), width, { target, gap, start }));
    for (const { start: first, end, height, widths } of this._rows.slice(from)) {
      for (let index = first; index < end; index += 1) {
        this.tiles[index].style.width = `${widths[index - first]}px`;
        this.tiles[index].style.setProperty("--height", `${height}px`);
      }
    }
    const last = this._rows.at(-1);
    const whole = this._options.wholeRows || this._unfinished;
    const end = whole && this._rows.length > 1 && !last.filled ? last.start : count;
    this.tiles.forEach((tile, index) => (tile.hidden = index >= end));
    this.list.classList.add("laid-out");
  }

  // The width of the list in whole pixels. `clientWidth` is rounded, and may say half a pixel more than there is.
  _available() {
    return Math.floor(this.list.getBoundingClientRect().width);
  }

  _listen() {
    new ResizeObserver(() => {
      if (this._available() !== this._width) this._layOut(0);
    }).observe(this.list);
    this._watcher = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && this.loadMore(), {
      rootMargin: LOAD_BEFORE_END,
    });
    this._watcher.observe(this._more);
    this.list.addEventListener("click", (event) => this._open(event));
    this.list.addEventListener("keydown", (event) => this._move(event));
    this.list.addEventListener("dragstart", (event) => this._drag(event));
  }

  // The watcher tells only of changes; it is asked anew where the end may still be near.
  _lookAgain() {
    this._watcher.unobserve(this._more);
    this._watcher.observe(this._more);
  }

  _indexOf(target) {
    return this.tiles.indexOf(target.closest?.(".tile"));
  }

  _open(event) {
    const ownWay = event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0;
    const index = event.target.closest(".tile-open") ? this._indexOf(event.target) : -1;
    if (index < 0 || ownWay || !this._options.onOpen) return;
    event.preventDefault();
    this._options.onOpen(index);
  }

  _drag(event) {
    const item = this.items[this._indexOf(event.target)];
    if (item) event.dataTransfer.setData(DRAGGED, JSON.stringify(item));
  }

  // Arrow keys go from picture to picture, so that nobody has to tab through all of them.
  _move(event) {
    if (!event.target.matches(".tile-open") || event.ctrlKey || event.metaKey || event.altKey) return;
    const index = this._indexOf(event.target);
    const last = Math.min(this.shown, this.tiles.length) - 1;
    const steps = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: last };
    const to = steps[event.key] ?? this._across(index, { ArrowUp: -1, ArrowDown: 1 }[event.key]);
    if (to === undefined || to < 0 || to > last) return;
    event.preventDefault();
    this.focus(to);
  }

  // The tile of the next row that lies best below (or above) the middle of this one.
  _across(index, step) {
    const row = step && this._rows[this._rows.findIndex(({ end }) => index < end) + step];
    if (!row) return undefined;
    const middle = (tile) => tile.offsetLeft + tile.offsetWidth / 2;
    const from = middle(this.tiles[index]);
    const distance = (other) => Math.abs(middle(this.tiles[other]) - from);
    const candidates = Array.from({ length: row.end - row.start }, (_, position) => row.start + position);
    return candidates.reduce((best, other) => (distance(other) < distance(best) ? other : best));
  }
}

function fillTile(tile, item, atOnce) {
  tile.dataset.id = item.image_id;
  find(".tile-open", tile).href = item.image_url;
  const image = find("img", tile);
  image.width = item.width;
  image.height = item.height;
  if (atOnce) image.loading = "eager";
  image.src = item.thumbnail_url;
  const name = find(".tile-name", tile);
  name.textContent = fileName(item.path);
  name.title = item.path;
}

// The items of tiles that the server sent in a list.
export function sentItems(list) {
  return findAll(".tile", list).map((tile) => {
    const image = find("img", tile);
    return {
      image_id: tile.dataset.id,
      path: find(".tile-name", tile).title,
      width: Number(image.getAttribute("width")),
      height: Number(image.getAttribute("height")),
      thumbnail_url: image.getAttribute("src"),
      image_url: find(".tile-open", tile).getAttribute("href"),
    };
  });
}
