// Small helpers for the page. Texts are always set as text, never as HTML.

import { t } from "./texts.js";

export const find = (selector, root = document) => root.querySelector(selector);

export const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export const fileName = (path) => path.slice(path.lastIndexOf("/") + 1);

export const number = (value) => value.toLocaleString("en");

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

// A text as nodes, with what stands in backquotes as code; for `replaceChildren`.
export function codeSpans(text) {
  return text.split("`").map((part, place) => (place % 2 ? element("code", { textContent: part }) : part));
}

export function duration(seconds) {
  if (seconds < 60) return t("common.seconds", { value: Math.max(1, Math.round(seconds)) });
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return t("common.minutes", { value: minutes });
  return t("common.hours", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
}

const MOMENT = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" });

// Shows a moment in the reader's time zone.
export function setMoment(node, moment) {
  node.dateTime = moment;
  node.textContent = MOMENT.format(new Date(moment));
}

// The same for those that the server sent.
export function localTimes(root = document) {
  for (const node of findAll("time", root)) if (node.dateTime) setMoment(node, node.dateTime);
}

// Calls `tick` again and again while the page is visible; it returns the milliseconds until the next call, or null:
// then it rests until the function that is returned here is called.
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
    else if (pause !== null && !document.hidden) timer = setTimeout(run, pause);
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : run()));
  run();
  return run;
}
