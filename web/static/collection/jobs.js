// The cards of index jobs; collection.html draws the same ones on the server.

import { get } from "../api.js";
import { clone, duration, element, find, findAll, number, setMoment, setText } from "../dom.js";
import { t } from "../texts.js";

const FINAL = ["done", "cancelled", "failed"];
const ACTIONS = {
  pause: (job) => ["scanning", "running"].includes(job.state),
  resume: (job) => job.state === "paused",
  cancel: (job) => !isOver(job),
  retry: (job) => isOver(job) && job.failed > 0 && !isInterrupted(job),
  again: isOver,
};
const FIRST_FAILURES = 50;
const MORE_FAILURES = 500;

function isOver(job) {
  return FINAL.includes(job.state);
}

// Redis has lost the job: only its note on disk is left, and the counts in it are old.
function isInterrupted(job) {
  return job.state === "failed" && (job.error ?? "").startsWith("interrupted");
}

function hasNothingToCount(job) {
  return isInterrupted(job) || (job.state === "failed" && !job.total);
}

// What goes on comes first; both parts stay newest first.
export function ordered(jobs) {
  return [...jobs.filter((job) => !isOver(job)), ...jobs.filter(isOver)];
}

export function fillJob(card, job) {
  card.dataset.job = job.id;
  card.dataset.state = job.state;
  card.classList.toggle("over", isOver(job));
  setText(card, "folder", job.folder);
  setText(card, "state", t(`jobs.state_${isInterrupted(job) ? "interrupted" : job.state}`));
  fillProgress(card, job);
  setText(card, "work", work(job));
  setText(card, "rate", isOver(job) || job.rate === null ? "" : t("jobs.rate", { value: rate(job.rate) }));
  setText(card, "eta", isOver(job) || job.eta_seconds === null ? "" : t("jobs.eta", { time: duration(job.eta_seconds) }));
  fillFacts(card, job);
  fillTimes(card, job);
  setText(card, "error", job.error ?? "");
  find('[data-field="error"]', card).hidden = !job.error;
  for (const [action, isPossible] of Object.entries(ACTIONS)) {
    find(`[data-action="${action}"]`, card).hidden = !isPossible(job);
  }
  const browse = find('[data-field="browse"]', card);
  browse.hidden = !(job.done + job.unchanged);
  browse.href = browseAddress(job.folder);
  fillFailures(card, job);
}

export function browseAddress(folder) {
  return `/browse/${folder.split("/").map(encodeURIComponent).join("/")}`;
}

function fillProgress(card, job) {
  const through = job.done + job.failed;
  const bar = find("progress", card);
  find(".job-progress", card).hidden = hasNothingToCount(job);
  setText(card, "percent", job.total ? `${Math.floor((100 * through) / job.total)} %` : "");
  if (job.state === "scanning" && !job.total) {
    bar.removeAttribute("value");
  } else {
    bar.max = job.total || 1;
    bar.value = job.total ? through : Number(job.state === "done");
  }
}

function work(job) {
  if (hasNothingToCount(job)) return "";
  if (job.state === "scanning") return t("jobs.scanning", { count: job.found });
  if (job.state === "done" && !job.total) {
    return job.unchanged ? t("jobs.nothing_new", { count: job.unchanged }) : t("jobs.nothing");
  }
  return t("jobs.through", { done: job.done + job.failed, files: t("common.files", { count: job.total }) });
}

function rate(value) {
  return value < 10 ? value.toFixed(1) : number(Math.round(value));
}

function fillFacts(card, job) {
  const { found, unchanged, total, duplicates, removed, failed } = job;
  find(".job-facts", card).hidden = hasNothingToCount(job);
  for (const [name, value] of Object.entries({ found, unchanged, new: total, duplicates, removed, failed })) {
    const fact = find(`[data-fact="${name}"]`, card);
    fact.hidden = !value && name !== "found" && name !== "new";
    find("dd", fact).textContent = number(value);
  }
}

function fillTimes(card, job) {
  const seconds = job.finished_at && (new Date(job.finished_at) - new Date(job.started_at)) / 1000;
  setText(card, "took", job.finished_at ? t("jobs.took", { time: duration(seconds) }) : t("jobs.started"));
  setMoment(find("time", card), job.finished_at ?? job.started_at);
}

// --- failed files -------------------------------------------------------------------------------------------

function fillFailures(card, job) {
  const box = find(".job-failures", card);
  box.hidden = !job.failed || isInterrupted(job);
  setText(card, "failures", t("jobs.failures", { count: job.failed }));
  find('[data-field="csv"]', card).href = `/api/v1/index-jobs/${job.id}/errors?format=csv`;
  if (box.open && box.dataset.loaded !== String(job.failed)) loadFailures(box, job.id, job.failed);
}

// Loads the reasons when the list is opened, and anew when there are more of them.
export function watchFailures(list) {
  list.addEventListener(
    "toggle", // does not bubble
    ({ target }) => {
      const card = target.closest(".job");
      if (target.open && !target.dataset.loaded) loadFailures(target, card.dataset.job, "");
    },
    { capture: true },
  );
}

async function loadFailures(box, id, failed) {
  box.dataset.loaded = failed || "?";
  try {
    const failures = await get(`/index-jobs/${id}/errors`);
    box.dataset.loaded = String(failures.length);
    const list = find(".failures", box);
    const count = Math.max(FIRST_FAILURES, list.childElementCount);
    list.replaceChildren();
    showFailures(box, failures, count);
  } catch (error) {
    delete box.dataset.loaded;
    find(".failures", box).replaceChildren(element("li", { textContent: error.message }));
  }
}

function showFailures(box, failures, count) {
  const list = find(".failures", box);
  const items = failures.slice(list.childElementCount, list.childElementCount + count).map(({ path, error }) =>
    element("li", {}, element("code", { textContent: path }), element("span", { textContent: error })),
  );
  list.append(...items);
  const left = failures.length - list.childElementCount;
  const shown = left ? t("jobs.failures_shown", { shown: list.childElementCount, count: failures.length }) : "";
  setText(box, "failures-shown", shown);
  const more = find("[data-more]", box);
  more.hidden = !left;
  more.textContent = t("jobs.failures_more", { count: Math.min(left, MORE_FAILURES) });
  more.onclick = () => showFailures(box, failures, MORE_FAILURES);
}

// --- the list ----------------------------------------------------------------------------------------------

// Brings a list of cards up to date; cards stay where the reader has them, with what is open in them.
export function showJobs(list, jobs) {
  const known = new Map(findAll(".job", list).map((card) => [card.dataset.job, card]));
  jobs.forEach((job, position) => {
    const card = known.get(job.id) ?? clone("job");
    known.delete(job.id);
    fillJob(card, job);
    if (list.children[position] !== card) list.insertBefore(card, list.children[position] ?? null);
  });
  for (const gone of known.values()) gone.remove();
}
