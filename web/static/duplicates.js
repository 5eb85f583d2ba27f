// The page of near-duplicates: starts the search for them, follows it, and shows what it found.

import { get, postJson } from "./api.js";
import { attempt } from "./collection/attempt.js";
import { Groups } from "./collection/groups.js";
import { suggestFolders } from "./collection/suggest.js";
import { element, find, localTimes, poll, setMoment, setText } from "./dom.js";
import { onStatus } from "./live.js";
import "./notices.js";
import { t } from "./texts.js";

const POLL_MS = 1000;
const PAGE = 20;

const form = find(".find-form");
const comparing = find("#comparing");
const more = find("#more");
const groups = new Groups(find("#groups"));
const sent = JSON.parse(find("#duplicates").textContent);

let shown = sent.shown; // the job whose groups are shown, with the cursor of the next ones
let active = sent.active; // the id of the job that is followed

// --- the search for them ------------------------------------------------------------------------------------

const follow = poll(async () => {
  if (active === null) return null;
  try {
    const job = await get(`/duplicate-jobs/${active}?limit=${PAGE}`);
    if (job.state === "queued" || job.state === "running") showProgress(job);
    else end(job);
  } catch (error) {
    if (error.status === 404) fail(error.message);
    // Else the server is away for a moment, and the notice says so.
  }
  return active === null ? null : POLL_MS;
});

function showProgress(job) {
  comparing.hidden = false;
  find("#failed").hidden = true;
  find("#none-yet").hidden = true;
  setText(comparing, "state", t(`duplicates.${job.state}`));
  const bar = find("progress", comparing);
  bar.hidden = job.state === "queued"; // nothing moves until a worker takes it
  if (job.total) {
    bar.max = job.total;
    bar.value = job.done;
  } else {
    bar.removeAttribute("value");
  }
  const compared = t("duplicates.compared", { done: job.done, total: job.total });
  setText(comparing, "compared", job.total ? compared : job.state === "queued" ? "" : t("duplicates.starting"));
}

function end(job) {
  if (job.state === "failed") {
    fail(job.error ?? "");
    return;
  }
  active = null;
  comparing.hidden = true;
  show(job);
  history.replaceState(null, "", `?${new URLSearchParams({ job: job.id })}`);
  find("#found-title").focus({ preventScroll: true });
}

function fail(text) {
  active = null;
  comparing.hidden = true;
  setText(document, "error", text);
  find("#failed").hidden = false;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const folder = form.folder.value.trim();
  attempt(async () => {
    const accepted = await postJson("/duplicate-jobs", { min_score: Number(form.min_score.value), ...(folder && { folder }) });
    active = accepted.id;
    showProgress({ state: accepted.state, total: 0 });
    follow();
  });
});
form.min_score.addEventListener("input", () => (find("#min-score-value").textContent = Number(form.min_score.value).toFixed(3)));

// --- what was found ------------------------------------------------------------------------------------------

function show(job) {
  shown = job;
  find("#found").hidden = false;
  const counts = {
    groups: t("duplicates.found_groups", { count: job.found_groups }),
    pictures: t("common.pictures", { count: job.found_images }),
  };
  find("#found-title").textContent = job.found_groups ? t("duplicates.found", counts) : t("duplicates.nothing");
  find("#nothing").hidden = job.found_groups > 0;
  const about = t("duplicates.of", { score: job.min_score.toFixed(3), folder: job.folder ?? t("duplicates.everywhere") });
  const moment = element("time");
  setMoment(moment, job.finished_at ?? job.started_at);
  find('[data-field="about"]').replaceChildren(`${about} · `, moment);
  groups.clear();
  groups.append(job.groups);
  offerMore();
}

function offerMore() {
  more.hidden = shown.next_cursor === null;
  const button = element("button", { type: "button", className: "button quiet", textContent: t("duplicates.more") });
  button.addEventListener("click", loadMore);
  more.replaceChildren(button);
}

async function loadMore() {
  const { id, next_cursor } = shown;
  more.textContent = t("duplicates.loading");
  try {
    const page = await get(`/duplicate-jobs/${id}?${new URLSearchParams({ cursor: next_cursor, limit: PAGE })}`);
    if (shown.id !== id) return;
    shown = page;
    groups.append(page.groups);
    offerMore();
  } catch (error) {
    offerMore();
    more.append(element("p", { className: "problem", textContent: error.message }));
  }
}

if (shown) {
  groups.adopt(shown.groups);
  offerMore();
}
suggestFolders(form.folder);
localTimes();
onStatus(({ images }) => (find("#start").hidden = images === 0));
