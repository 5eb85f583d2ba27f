// The folders page: starts index jobs, and shows them live.

import { get, postJson, setToken } from "./api.js";
import { clone, duration, element, find, findAll, number, plural, poll, setText } from "./dom.js";
import { refreshStatus, showNotice } from "./notices.js";

const FINAL = ["done", "cancelled", "failed"];
const ACTIONS = {
  pause: (job) => ["scanning", "running"].includes(job.state),
  resume: (job) => job.state === "paused",
  cancel: (job) => !FINAL.includes(job.state),
  retry: (job) => FINAL.includes(job.state) && job.failed > 0 && !isInterrupted(job),
  again: (job) => job.state === "failed",
};
const MOST_FAILURES = 200;

const form = find(".index-form");
const problem = find("#folder-problem");

// --- jobs -------------------------------------------------------------------------------------------------

// Redis has lost the job: only its note on disk is left, and the counts in it are old.
function isInterrupted(job) {
  return job.state === "failed" && (job.error ?? "").startsWith("interrupted");
}

function hasNothingToCount(job) {
  return isInterrupted(job) || (job.state === "failed" && !job.total);
}

function fillJob(card, job) {
  const through = job.done + job.failed;
  card.dataset.job = job.id;
  card.dataset.state = job.state;
  setText(card, "folder", job.folder);
  setText(card, "state", isInterrupted(job) ? "interrupted" : job.state);
  setText(card, "numbers", numbers(job, through));
  setText(card, "details", details(job));
  setText(card, "error", job.error ?? "");
  find(".job-error", card).hidden = !job.error;
  const bar = find("progress", card);
  bar.hidden = hasNothingToCount(job);
  if (job.state === "scanning" && !job.total) bar.removeAttribute("value");
  else {
    bar.max = job.total || 1;
    bar.value = job.total ? through : Number(job.state === "done");
  }
  for (const [action, isPossible] of Object.entries(ACTIONS)) {
    find(`[data-action="${action}"]`, card).hidden = !isPossible(job);
  }
  fillFailures(card, job);
}

function numbers(job, through) {
  if (hasNothingToCount(job)) return "";
  if (job.state === "scanning") return `Looking for pictures: ${number(job.found)} found so far`;
  if (!job.total && job.state === "done") {
    return job.unchanged ? `Nothing new: ${plural(job.unchanged, "picture")} already indexed` : "Nothing new";
  }
  const parts = [`${number(through)} of ${plural(job.total, "file")}`];
  if (job.rate !== null) parts.push(`${job.rate < 10 ? job.rate.toFixed(1) : number(Math.round(job.rate))} a second`);
  if (job.eta_seconds !== null) parts.push(`about ${duration(job.eta_seconds)} left`);
  return parts.join(" · ");
}

function details(job) {
  const parts = [];
  if (job.unchanged && job.total) parts.push(`${number(job.unchanged)} unchanged`);
  if (job.duplicates) parts.push(plural(job.duplicates, "duplicate"));
  if (job.removed) parts.push(`${number(job.removed)} removed`);
  const started = new Date(job.started_at);
  if (job.finished_at) {
    const finished = new Date(job.finished_at);
    parts.push(`took ${duration((finished - started) / 1000)}`, finished.toLocaleString());
  } else if (isInterrupted(job)) parts.push(`started ${started.toLocaleString()}`);
  else parts.push(`started ${started.toLocaleTimeString()}`);
  return parts.join(" · ");
}

function fillFailures(card, job) {
  const box = find(".job-failures", card);
  box.hidden = !job.failed;
  setText(card, "failures", `${plural(job.failed, "file")} failed`);
  find('[data-field="csv"]', card).href = `/api/v1/index-jobs/${job.id}/errors?format=csv`;
  const stale = box.dataset.loaded !== String(job.failed);
  if (box.open && stale) loadFailures(box, job);
}

async function loadFailures(box, job) {
  box.dataset.loaded = String(job.failed);
  const list = find(".failures", box);
  try {
    const failures = await get(`/index-jobs/${job.id}/errors`);
    const items = failures.slice(0, MOST_FAILURES).map(({ path, error }) =>
      element("li", {}, element("code", { textContent: path }), element("span", { textContent: error })),
    );
    if (failures.length > MOST_FAILURES) items.push(element("li", { textContent: `and ${number(failures.length - MOST_FAILURES)} more` }));
    list.replaceChildren(...items);
  } catch (error) {
    list.replaceChildren(element("li", { textContent: error.message }));
  }
}

function showJobs(jobs) {
  const list = find("#jobs");
  const known = new Map([...list.children].map((card) => [card.dataset.job, card]));
  find("#no-jobs").hidden = jobs.length > 0;
  jobs.forEach((job, position) => {
    const card = known.get(job.id) ?? clone("job");
    known.delete(job.id);
    fillJob(card, job);
    if (list.children[position] !== card) list.insertBefore(card, list.children[position] ?? null);
  });
  for (const gone of known.values()) gone.remove();
}

async function control(card, action) {
  await attempt(async () => {
    if (action === "again") await postJson("/index-jobs", { folder: find(".job-folder", card).textContent });
    else if (action === "retry") await postJson(`/index-jobs/${card.dataset.job}/retry`);
    else fillJob(card, await postJson(`/index-jobs/${card.dataset.job}/${action}`));
  });
  refresh();
}

// --- the system -------------------------------------------------------------------------------------------

function showSystem(status) {
  setText(document, "segments", number(status.segments));
  setText(document, "model", status.model ?? "not loaded yet");
  setText(document, "weights", status.model ? (status.trained ? "trained" : "untrained") : "–");
  setText(document, "precision", status.precision ?? "–");
  setText(document, "queue-query", number(status.queues.query));
  setText(document, "queue-bulk", number(status.queues.bulk));
  find("#no-workers").hidden = status.workers.length > 0;
  find("#workers").replaceChildren(...status.workers.map(makeWorker));
}

function makeWorker(worker) {
  const item = clone("worker");
  find(".worker-name", item).textContent = worker.queues.join(", ");
  find(".chip", item).textContent = worker.state;
  find(".chip", item).dataset.state = worker.state;
  const speed = worker.images_per_second ? `, ${worker.images_per_second.toFixed(1)} pictures a second` : "";
  find(".worker-detail", item).textContent = worker.detail ?? `${worker.host}, process ${worker.pid}${speed}`;
  return item;
}

// --- the form ---------------------------------------------------------------------------------------------

async function attempt(work) {
  problem.hidden = true;
  try {
    await work();
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
    if (error.status === 401) {
      find(".token").hidden = false;
      find("#token").focus();
    }
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const folder = form.folder.value.trim();
  if (find("#token").value) setToken(find("#token").value);
  attempt(async () => {
    await postJson("/index-jobs", { folder });
    form.folder.value = "";
    refresh();
  });
});
for (const button of findAll("[data-root]")) {
  button.addEventListener("click", () => {
    form.folder.value = button.dataset.root;
    form.folder.focus();
  });
}

find("#jobs").addEventListener("click", (event) => {
  const action = event.target.closest("[data-action]")?.dataset.action;
  if (action) control(event.target.closest(".job"), action);
});
find("#jobs").addEventListener("toggle", () => refresh(), { capture: true }); // this event does not bubble
const refresh = poll(async () => {
  const status = await refreshStatus();
  if (status) showSystem(status);
  let active = false;
  try {
    const jobs = await get("/index-jobs");
    showJobs(jobs);
    active = jobs.some((job) => !FINAL.includes(job.state) && job.state !== "paused");
  } catch (error) {
    showNotice("offline", true, error.message);
  }
  return active ? 1000 : 4000;
});
