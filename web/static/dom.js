// Small helpers for the page. Texts are always set as text, never as HTML.

export const find = (selector, root = document) => root.querySelector(selector);

export const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export const fileName = (path) => path.slice(path.lastIndexOf("/") + 1);

export const number = (value) => value.toLocaleString("en");

export const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

export function clone(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

export function setText(root, field, text) {
  for (const node of findAll(`[data-field="${field}"]`, root)) {
    if (node.textContent !== text) node.textContent = text;
  }
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// Calls `tick` again and again while the page is visible; it returns the milliseconds until the next call.
export function poll(tick) {
  let timer = null;
  let running = false;
  let again = false;
  async function run() {
    again = running;
    if (running) return;
    clearTimeout(timer);
    running = true;
    const pause = await tick();
    running = false;
    if (again) run();
    else if (!document.hidden) timer = setTimeout(run, pause);
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : run()));
  run();
  return run;
}
