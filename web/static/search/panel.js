// Shows what is searched for: one picture with a box on it, or several small ones with their signs.

import { clone, find } from "../dom.js";
import { t } from "../texts.js";
import { Cropper } from "./crop.js";
import { isWanted } from "./query.js";

// The previews of uploads are made after the result.
const FRESH_MS = 400;
const TRY_AGAIN_MS = [800, 3000];

const narrow = window.matchMedia("(max-width: 760px)");

export class Panel {
  // `onCrop(crop)`, `onSign(picture)`, `onRemove(picture)`: what was changed.
  constructor(root, { onCrop, onSign, onRemove }) {
    this.root = root;
    this.options = { onSign, onRemove };
    this.frame = find(".cropper", root);
    this.image = find("img", this.frame);
    this.large = find("#crop-toggle");
    this.reset = find("#crop-reset");
    this.cropper = new Cropper(this.frame, {
      onChange: (crop) => {
        this.reset.hidden = crop === null;
        onCrop(crop);
      },
      isActive: () => !narrow.matches || this.isLarge,
      onClick: () => narrow.matches && !this.isLarge && this._enlarge(true),
    });
    this.image.addEventListener("load", () => this._measure());
    this.large.addEventListener("click", () => this._enlarge(!this.isLarge));
    this.reset.addEventListener("click", () => {
      this.cropper.reset();
      this.large.focus();
    });
  }

  get isLarge() {
    return this.large.ariaPressed === "true";
  }

  // Shows a query; null: none.
  show(query) {
    this.root.hidden = query === null;
    const pictures = query?.pictures ?? [];
    const single = pictures.length === 1;
    find(".preview", this.root).hidden = !single;
    find(".query-chips", this.root).hidden = single;
    this._showChips(single ? [] : pictures);
    if (single) this._showOne(pictures[0], query.crop);
    else this._showNone();
    document.title = single ? `${pictures[0].name} – ${t("common.product")}` : t("common.product");
  }

  // --- one picture ---------------------------------------------------------------------------------------------------

  _showOne(picture, crop) {
    find("figcaption", this.root).textContent = picture.name;
    this.cropper.show(crop);
    this.reset.hidden = crop === null;
    if (this.picture === picture) return;
    this.picture = picture;
    this._set(false);
    this.image.removeAttribute("src");
    load(this.image, picture, () => this.picture === picture);
    if (picture.fullSrc) this._loadFull(picture);
  }

  // The thumbnail is there at once; a region is chosen on the file itself.
  async _loadFull(picture) {
    const file = new Image();
    file.src = picture.fullSrc;
    await file.decode().catch(() => null);
    if (file.naturalWidth && this.picture === picture) this.image.src = picture.fullSrc;
  }

  // A picture that the browser cannot draw can be searched for, but no region of it chosen.
  _set(drawn) {
    this.frame.hidden = !drawn;
    find(".preview-empty", this.root).hidden = drawn;
    this.large.hidden = !drawn;
  }

  _measure() {
    this.frame.style.setProperty("--ratio", this.image.naturalWidth / this.image.naturalHeight);
    this._set(true);
  }

  _enlarge(on) {
    this.large.ariaPressed = String(on);
    document.body.classList.toggle("cropping", on);
    find("span", this.large).textContent = t(on ? "crop.done" : "crop.crop");
    if (on) find(".crop-box", this.frame).focus({ preventScroll: true });
  }

  shrink() {
    if (this.isLarge) this._enlarge(false);
  }

  _showNone() {
    this.picture = null;
    this.shrink();
  }

  // --- several pictures ----------------------------------------------------------------------------------------------

  _showChips(pictures) {
    const list = find(".query-chips", this.root);
    const at = [...list.children].findIndex((chip) => chip.contains(document.activeElement));
    list.replaceChildren(...pictures.map((picture) => this._chip(picture)));
    if (at >= 0) find(".chip-sign", list.children[Math.min(at, pictures.length - 1)] ?? this.root)?.focus();
  }

  _chip(picture) {
    const chip = clone("query-chip");
    const wanted = isWanted(picture);
    chip.classList.toggle("unwanted", !wanted);
    chip.title = picture.name;
    const image = find("img", chip);
    image.alt = picture.name;
    image.addEventListener("error", () => chip.classList.add("missing"));
    image.addEventListener("load", () => chip.classList.remove("missing"));
    load(image, picture, () => chip.isConnected);
    if (!picture.src) chip.classList.add("missing");
    const sign = find(".chip-sign", chip);
    sign.textContent = wanted ? "+" : "−";
    sign.setAttribute("aria-label", t(wanted ? "search.is_wanted" : "search.is_unwanted", { name: picture.name }));
    sign.title = sign.getAttribute("aria-label");
    sign.addEventListener("click", () => this.options.onSign(picture));
    const remove = find(".chip-remove", chip);
    remove.setAttribute("aria-label", t("search.remove", { name: picture.name }));
    remove.addEventListener("click", () => this.options.onRemove(picture));
    return chip;
  }
}

// Loads the picture into an image that still stands for it. One that the server keeps may be there a moment later.
function load(image, picture, isCurrent, attempt = 0) {
  image.onerror = () => {
    if (!picture.keptUrl || attempt >= TRY_AGAIN_MS.length) return;
    setTimeout(() => isCurrent() && load(image, picture, isCurrent, attempt + 1), TRY_AGAIN_MS[attempt]);
  };
  if (!picture.src) return;
  if (picture.fresh) setTimeout(() => isCurrent() && (image.src = picture.src), FRESH_MS);
  else image.src = picture.src;
  picture.fresh = false;
}
