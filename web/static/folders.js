// The page of index jobs, workers and queues: starts jobs, and shows everything live.

import { postJson } from "./api.js";
import { attempt } from "./collection/attempt.js";
import { fillJob, ordered, showJobs, watchFailures } from "./collection/jobs.js";
import { suggestFolders } from "./collection/suggest.js";
import { showSeen, showSystem } from "./collection/workers.js";
import { find, findAll, localTimes } from "./dom.js";
import { onJobs, onStatus, refresh } from "./live.js";
import "./notices.js";
import { t } from "./texts.js";

const FIRST_JOBS = 12;

const form = find(".index-form");
const list = find("#jobs");
const older = find("#older-jobs");

let jobs = [];
let shown = FIRST_JOBS;

function show() {
  const hidden = Math.max(0, jobs.length - shown);
  find("#no-jobs").hidden = jobs.length > 0;
  showJobs(list, ordered(jobs).slice(0, shown));
  older.hidden = !hidden;
  older.textContent = t("jobs.older", { count: hidden });
}

// --- what people do ------------------------------------------------------------------------------------------

function control(card, action) {
  const { job } = card.dataset;
  return attempt(async () => {
    if (action === "again") await postJson("/index-jobs", { folder: find(".job-folder", card).textContent });
    else if (action === "retry") await postJson(`/index-jobs/${job}/retry`);
    else fillJob(card, await postJson(`/index-jobs/${job}/${action}`));
    refresh();
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const folder = form.folder.value.trim();
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
list.addEventListener("click", (event) => {
  const action = event.target.closest("[data-action]")?.dataset.action;
  if (action) control(event.target.closest(".job"), action);
});
older.addEventListener("click", () => {
  shown = Infinity;
  show();
});

watchFailures(list);
suggestFolders(form.folder);
localTimes();
onStatus(showSystem);
onJobs((latest) => {
  jobs = latest;
  show();
});
setInterval(showSeen, 1000);
