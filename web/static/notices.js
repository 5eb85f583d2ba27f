// Shows what the person has to know of the system, on every page that has live news.

import { codeSpans, element, findAll, setText } from "./dom.js";
import { onProblem, onStatus } from "./live.js";
import { t } from "./texts.js";

export function showNotice(name, shown, text) {
  for (const notice of findAll(`[data-notice="${name}"]`)) show(notice, shown, text);
}

// Why nothing of a queue is done now: "", "missing", or what its worker waits for.
export function workerProblem(status, queue = "query") {
  const workers = status.workers.filter((worker) => worker.queues.includes(queue));
  if (workers.some((worker) => worker.state === "idle" || worker.state === "busy")) return "";
  if (!workers.length) return "missing";
  return workers[0].detail || t("common.loading");
}

function show(notice, shown, text) {
  notice.hidden = !shown;
  const target = notice.querySelector("[data-text]");
  if (target && text !== undefined) target.replaceChildren(...codeSpans(text));
}

// All that is wrong at present; the list is left alone while nothing changes, so that it is read out once.
function showProblems(problems) {
  const shown = problems.map((problem) => problem.detail);
  for (const notice of findAll('[data-notice="problems"]')) {
    const list = notice.querySelector("[data-text]");
    notice.hidden = !shown.length;
    if (JSON.stringify(shown) === list.dataset.shown) continue;
    list.dataset.shown = JSON.stringify(shown);
    list.replaceChildren(...shown.map((text) => element("li", {}, ...codeSpans(text))));
  }
}

onStatus((status) => {
  showProblems(status.problems ?? []);
  showNotice("untrained", status.trained === false);
  showNotice("empty", status.images === 0);
  showNotice("counted", true);
  for (const notice of findAll("[data-queue]")) {
    const problem = workerProblem(status, notice.dataset.queue);
    if (notice.dataset.notice === "worker-missing") show(notice, problem === "missing");
    else show(notice, problem !== "" && problem !== "missing", problem);
  }
  setText(document, "images", status.images.toLocaleString("en"));
});
onProblem((text) => showNotice("offline", text !== null, text ?? ""));
