// A short text at the bottom of the page that goes by itself.

import { find } from "../dom.js";

const SHOWN_MS = 5000;

let timer = null;

export function say(text) {
  const toast = find(".toast");
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(timer);
  timer = setTimeout(() => toast.classList.remove("shown"), SHOWN_MS);
}
