// What happens on the server, as it happens: the state of the system and the index jobs, by server-sent events.
// Where no events come the same is asked for every few seconds. While the page is hidden nothing is asked at all.

import { get } from "./api.js";
import { t } from "./texts.js";

const POLL_MS = 3000;
// Without workers and jobs nothing changes, and no event comes; so long a silence is looked into.
const SILENCE_MS = 12_000;
// A server that cannot serve events, or a proxy in between, is given another try from time to time.
const RECONNECT_MS = 30_000;

const listeners = { status: new Set(), jobs: new Set(), problem: new Set() };
const latest = {};

let source = null;
let timer = null;
let polling = null; // the answer that is waited for
let broken = false; // no event has come since the connection failed
let closedSince = 0;

// Each of these calls `listener` at once with what is known, if anything is, and with each newer document.

// The document of `GET /status`.
export const onStatus = (listener) => subscribe("status", listener);

// The list of `GET /index-jobs`.
export const onJobs = (listener) => subscribe("jobs", listener);

// Why nothing is known at present, in words; null when all is well.
export const onProblem = (listener) => subscribe("problem", listener);

// The latest status, without asking; undefined before the first.
export const known = () => latest.status;

// Asks at once, for a page that has just changed something. Gives the status, or null where it cannot be had.
export async function refresh() {
  await polling;
  return poll();
}

function subscribe(kind, listener) {
  listeners[kind].add(listener);
  if (kind in latest) listener(latest[kind]);
}

function tell(kind, value) {
  latest[kind] = value;
  for (const listener of listeners[kind]) listener(value);
}

function schedule(pause) {
  clearTimeout(timer);
  timer = document.hidden ? null : setTimeout(poll, pause);
}

// --- events -----------------------------------------------------------------------------------------------

function open() {
  if (source || document.hidden) return;
  source = new EventSource("/api/v1/events");
  for (const kind of ["status", "jobs", "problem"]) source.addEventListener(kind, (event) => take(kind, event));
  source.addEventListener("error", failed);
  schedule(POLL_MS);
}

function take(kind, event) {
  const value = JSON.parse(event.data);
  broken = false;
  schedule(SILENCE_MS);
  if (kind === "problem") {
    tell("problem", value.detail);
  } else {
    tell("problem", null);
    tell(kind, value);
  }
}

function failed() {
  if (source.readyState === EventSource.CLOSED) closedSince ||= Date.now();
  // The browser tries again every two seconds; only the first failure is looked into at once.
  if (!broken && !polling) schedule(0);
  broken = true;
}

function close() {
  source?.close();
  source = null;
  broken = false;
  closedSince = 0;
  clearTimeout(timer);
}

// --- polling ----------------------------------------------------------------------------------------------

function poll() {
  polling ??= ask().finally(() => {
    polling = null;
    schedule(source?.readyState === EventSource.OPEN ? SILENCE_MS : POLL_MS);
    if (closedSince && Date.now() - closedSince > RECONNECT_MS) {
      close();
      open();
    }
  });
  return polling;
}

async function ask() {
  try {
    const asked = [get("/status"), listeners.jobs.size ? get("/index-jobs") : null];
    const [status, jobs] = await Promise.all(asked);
    tell("problem", null);
    tell("status", status);
    if (jobs) tell("jobs", jobs);
    return status;
  } catch (error) {
    tell("problem", error.unreachable ? t("common.server_away") : error.message);
    return null;
  }
}

// --- the page ---------------------------------------------------------------------------------------------

document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
window.addEventListener("pagehide", close);
window.addEventListener("pageshow", open);
window.addEventListener("offline", () => poll());
window.addEventListener("online", () => poll());
open();
