// The box on the query's picture: drawn, moved and resized with a mouse, a finger or the keyboard.

import { find, findAll } from "../dom.js";
import { t } from "../texts.js";
import { WHOLE, contains, drawn, isWhole, moved, resized, rounded } from "./region.js";

const SETTLE_MS = 150;
const SETTLE_KEYS_MS = 400;
const CLICK_PIXELS = 5;
const LEAST_PIXELS = 20;
const LEAST_FRACTION = 0.04;
const KEY_STEP = 0.02;

export class Cropper {
  // `root`: the element that lies exactly over the picture. `onChange(crop)`: a region was chosen; null for the whole
  // picture. `isActive()`: whether the picture is large enough to draw on now; `onClick()`: it was clicked.
  constructor(root, { onChange, isActive, onClick }) {
    this.root = root;
    this.box = find(".crop-box", root);
    this.hole = find(".crop-hole", root);
    this.says = find(".crop-says", root);
    this.options = { onChange, isActive, onClick };
    this.region = WHOLE;
    this.told = WHOLE;
    root.addEventListener("pointerdown", (event) => this._press(event));
    root.addEventListener("pointermove", (event) => this._drag(event));
    root.addEventListener("pointerup", (event) => this._release(event));
    root.addEventListener("pointercancel", () => this._giveUp());
    this.box.addEventListener("keydown", (event) => this._key(event));
    for (const image of findAll("img", root)) image.draggable = false;
  }

  // Shows a region without telling anybody.
  show(crop) {
    clearTimeout(this._timer);
    this._held = null;
    this.told = crop ?? WHOLE;
    this._set(this.told);
  }

  reset() {
    this._set(WHOLE);
    this._settle(0);
  }

  _set(region) {
    this.region = region;
    const [left, top, right, bottom] = region;
    for (const { style } of [this.box, this.hole]) {
      style.left = `${left * 100}%`;
      style.top = `${top * 100}%`;
      style.width = `${(right - left) * 100}%`;
      style.height = `${(bottom - top) * 100}%`;
    }
    this.root.classList.toggle("cropped", !isWhole(region));
    this.box.setAttribute("aria-label", this._described());
  }

  _described() {
    if (isWhole(this.region)) return t("crop.whole");
    const [left, top, right, bottom] = this.region.map((value) => Math.round(value * 100));
    return t("crop.region", { width: right - left, height: bottom - top, left, top });
  }

  _settle(milliseconds) {
    clearTimeout(this._timer);
    this._timer = setTimeout(() => {
      const region = isWhole(this.region) ? WHOLE : rounded(this.region);
      if (region.every((value, side) => value === this.told[side])) return;
      this.told = region;
      this.says.textContent = this._described();
      this.options.onChange(region === WHOLE ? null : region);
    }, milliseconds);
  }

  // --- pointers ----------------------------------------------------------------------------------------------------

  _press(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    const point = this._point(event);
    const edges = event.target.dataset.edges;
    const inside = !isWhole(this.region) && contains(this.region, point);
    this._held = { point, event, region: this.region, kind: edges ? "resize" : inside ? "move" : "draw", edges };
    if (!this.options.isActive()) return;
    clearTimeout(this._timer);
    event.preventDefault(); // no text is selected, no picture dragged
    this.box.focus({ preventScroll: true, focusVisible: false });
    this.root.setPointerCapture(event.pointerId);
  }

  _drag(event) {
    const held = this._held;
    if (!held || !this.root.hasPointerCapture(event.pointerId)) return;
    if (!held.dragged && this._distance(event) < CLICK_PIXELS) return;
    held.dragged = true;
    const point = this._point(event);
    const [dx, dy] = [point[0] - held.point[0], point[1] - held.point[1]];
    const least = this._least();
    if (held.kind === "resize") this._set(resized(held.region, held.edges, dx, dy, least));
    else if (held.kind === "move") this._set(moved(held.region, dx, dy));
    else this._set(drawn(held.point, point, least));
  }

  _release(event) {
    const held = this._held;
    this._held = null;
    if (held?.dragged) this._settle(SETTLE_MS);
    else if (held && this._distanceFrom(held.event, event) < CLICK_PIXELS) this.options.onClick();
  }

  // The browser took the gesture for itself, to scroll for example.
  _giveUp() {
    if (this._held?.dragged) this._set(this._held.region);
    this._held = null;
  }

  _distance(event) {
    return this._distanceFrom(this._held.event, event);
  }

  _distanceFrom(first, second) {
    return Math.hypot(second.clientX - first.clientX, second.clientY - first.clientY);
  }

  _point(event) {
    const { left, top, width, height } = this.root.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height];
  }

  // The smallest region, in fractions of the sides.
  _least() {
    const { width, height } = this.root.getBoundingClientRect();
    return [width, height].map((side) => Math.min(0.5, Math.max(LEAST_FRACTION, LEAST_PIXELS / side)));
  }

  // --- the keyboard: arrows move, with Shift they resize, Escape takes the whole picture again -----------------------

  _key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape" && !isWhole(this.region)) {
      event.stopPropagation();
      this.reset();
    } else if (step && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const [dx, dy] = step.map((direction) => direction * KEY_STEP);
      const change = event.shiftKey ? resized(this.region, "se", dx, dy, this._least()) : moved(this.region, dx, dy);
      this._set(change);
      this._settle(SETTLE_KEYS_MS);
    } else return;
    event.preventDefault();
  }
}
