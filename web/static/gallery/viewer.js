// The dialog with one picture at full size.

import { get } from "../api.js";
import { element, fileName, find, number } from "../dom.js";
import { t } from "../texts.js";
import { copyText } from "./clipboard.js";
import { explained, fileSize, percent } from "./figures.js";

const SWIPE_PIXELS = 48;
const FEEDBACK_MS = 2500;

let viewer = null;

// Shows one of the items. `items` may grow while it is open.
//
// `onSimilar(item)`: what "More like this" does; by default it opens the search page with this picture.
// `onAdd(item, weight)`: shows the buttons that add the picture to a query, with 1 or -1.
// `onClose(index)`: the item that was shown last. `loadMore()`: gives whether more items came.
// `total`: how many there are, where not all are among the items yet.
export function openViewer(items, index, options = {}) {
  viewer ??= new Viewer(find("dialog.viewer"));
  viewer.open(items, index, options);
}

export function closeViewer() {
  viewer?.dialog.close();
}

// The search page with the search for an indexed picture.
export function similarAddress(item) {
  return `/?image=${encodeURIComponent(item.image_id)}`;
}

class Viewer {
  constructor(dialog) {
    this.dialog = dialog;
    this.stage = find(".viewer-stage", dialog);
    this.image = find(".viewer-image", dialog);
    this._listen();
  }

  open(items, index, options) {
    this.items = items;
    this.options = options;
    for (const button of this._all(".viewer-add")) button.hidden = !options.onAdd;
    if (!this.dialog.open) this.dialog.showModal();
    this._show(index);
  }

  get item() {
    return this.items[this.index];
  }

  _find(selector) {
    return find(selector, this.dialog);
  }

  _all(selector) {
    return this.dialog.querySelectorAll(selector);
  }

  _set(field, text) {
    const node = this._find(`[data-fact="${field}"]`);
    node.textContent = text ?? "";
    if (node.parentElement.matches("dl > div")) node.parentElement.hidden = text === null;
  }

  async _step(step) {
    const position = this.index + step;
    if (position >= this.items.length && this.options.loadMore) await this.options.loadMore();
    if (this.dialog.open && position >= 0 && position < this.items.length) this._show(position);
  }

  _show(index) {
    this.index = index;
    const { item } = this;
    const scored = item.score !== undefined;
    this._set("position", t("gallery.position", { position: index + 1, count: this.options.total ?? this.items.length }));
    this._set("name", fileName(item.path));
    this._set("path", item.path);
    this._set("percentile", item.percentile == null ? null : percent(item.percentile, item.score));
    this._set("explained", scored && item.percentile != null ? explained(item) : "");
    this._set("score", scored ? item.score.toFixed(3) : null);
    this._set("distance", scored ? item.distance.toFixed(3) : null);
    this._set("pixels", `${number(item.width)} × ${number(item.height)}`);
    this._find(".viewer-similar").href = similarAddress(item);
    const download = this._find(".viewer-download");
    download.href = item.image_url;
    download.download = fileName(item.path);
    this._find(".copied").textContent = "";
    this._showCopies(item);
    this._showSize(item);
    this._showPicture(item);
    // Not `disabled`: a button that loses the focus takes the arrow keys with it.
    this._find(".previous").ariaDisabled = String(index === 0);
    this._find(".next").ariaDisabled = String(index === this.items.length - 1 && !this.options.loadMore);
  }

  _showCopies(item) {
    const copies = item.copies ?? [];
    const box = this._find(".viewer-copies");
    box.hidden = copies.length < 2;
    find("summary", box).textContent = t("gallery.copies", { count: copies.length });
    find("ul", box).replaceChildren(...copies.map((copy) => element("li", {}, element("span", { textContent: copy.path }))));
  }

  async _showSize(item) {
    this._set("size", item.size === undefined ? "…" : fileSize(item.size));
    if (item.size !== undefined) return;
    const size = await get(`/images/${item.image_id}`).then((info) => info.size, () => null);
    if (size !== null) item.size = size;
    if (this._isShown(item)) this._set("size", size === null ? "–" : fileSize(size));
  }

  // --- the picture ---------------------------------------------------------------------------------------

  _showPicture(item) {
    this._find(".viewer-note").hidden = true;
    this._zoom(false);
    const { image } = this;
    image.alt = fileName(item.path);
    image.style.setProperty("--width", item.width);
    image.style.setProperty("--height", item.height);
    // The stored thumbnail is always there, and at once; the file takes its place when it has arrived.
    image.src = item.thumbnail_url;
    const file = new Image();
    file.src = item.image_url;
    file.decode().then(
      () => this._isShown(item) && this._showFile(item),
      () => this._isShown(item) && this._explainThumbnail(item),
    );
  }

  _showFile(item) {
    this.image.src = item.image_url;
    // The next one is probably looked at next.
    const next = this.items[this.index + 1];
    if (next) new Image().src = next.image_url;
  }

  async _explainThumbnail(item) {
    const response = await fetch(item.image_url, { method: "HEAD" }).catch(() => null);
    if (!this._isShown(item)) return;
    const note = this._find(".viewer-note");
    note.textContent = t(response?.ok ? "gallery.format_not_shown" : "gallery.file_is_gone");
    note.hidden = false;
  }

  _isShown(item) {
    return this.dialog.open && this.item === item;
  }

  // One pixel of the file on one of the screen; scrolled where it is larger.
  _zoom(on = !this.stage.classList.contains("zoomed")) {
    this.stage.classList.toggle("zoomed", on);
    this._find(".zoom").ariaPressed = String(on);
    if (!on) return;
    this.stage.scrollTo({
      left: (this.stage.scrollWidth - this.stage.clientWidth) / 2,
      top: (this.stage.scrollHeight - this.stage.clientHeight) / 2,
    });
  }

  // --- what people do ------------------------------------------------------------------------------------

  _listen() {
    const on = (selector, act) => this._all(selector).forEach((node) => node.addEventListener("click", act));
    on(".close", () => this.dialog.close());
    on(".previous", () => this._step(-1));
    on(".next", () => this._step(1));
    on(".zoom", () => this._zoom());
    on(".viewer-image", () => this._zoom());
    on(".copy-path", () => this._copyPath());
    on(".viewer-similar", (event) => this._similar(event));
    on(".viewer-add", (event) => this._add(Number(event.currentTarget.dataset.weight)));
    this.dialog.addEventListener("keydown", (event) => this._key(event));
    // A click beside the picture, or beside the dialog, closes, as people expect.
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog || event.target === this.stage) this.dialog.close();
    });
    this.dialog.addEventListener("close", () => {
      this.image.removeAttribute("src");
      this.options.onClose?.(this.index);
    });
    this._swipe();
  }

  _key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft") this._step(-1);
    else if (event.key === "ArrowRight") this._step(1);
    else return;
    event.preventDefault();
  }

  _swipe() {
    let from = null;
    this.stage.addEventListener("pointerdown", (event) => {
      const zoomed = this.stage.classList.contains("zoomed") || (window.visualViewport?.scale ?? 1) > 1;
      from = event.pointerType === "touch" && event.isPrimary && !zoomed ? event : null;
    });
    this.stage.addEventListener("pointerup", (event) => {
      const across = from ? event.clientX - from.clientX : 0;
      const down = from ? event.clientY - from.clientY : 0;
      from = null;
      if (Math.abs(across) > SWIPE_PIXELS && Math.abs(across) > 2 * Math.abs(down)) this._step(across < 0 ? 1 : -1);
    });
    this.stage.addEventListener("pointercancel", () => (from = null));
  }

  async _copyPath() {
    const copied = await copyText(this.item.path, this.dialog);
    const feedback = this._find(".copied");
    feedback.textContent = t(copied ? "gallery.copied" : "gallery.not_copied");
    clearTimeout(this._feedback);
    this._feedback = setTimeout(() => (feedback.textContent = ""), FEEDBACK_MS);
  }

  _similar(event) {
    if (!this.options.onSimilar || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const { item } = this;
    this.dialog.close();
    this.options.onSimilar(item);
  }

  _add(weight) {
    const { item } = this;
    this.dialog.close();
    this.options.onAdd(item, weight);
  }
}
