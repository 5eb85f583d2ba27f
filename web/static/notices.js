// Shows what the person has to know of the system: the notices that both pages share.

import { get } from "./api.js";
import { findAll, number, setText } from "./dom.js";

export function showNotice(name, shown, text) {
  for (const notice of findAll(`[data-notice="${name}"]`)) {
    notice.hidden = !shown;
    const target = notice.querySelector("[data-text]");
    if (target && text !== undefined) target.textContent = text;
  }
}

// Why no search can be answered now: "", "missing", or what the worker waits for.
export function workerProblem(status) {
  const workers = status.workers.filter((worker) => worker.queues.includes("query"));
  if (workers.some((worker) => worker.state === "idle" || worker.state === "busy")) return "";
  if (!workers.length) return "missing";
  return workers[0].detail || "It is loading the model.";
}

function showStatus(status) {
  const problem = workerProblem(status);
  showNotice("offline", false);
  showNotice("untrained", status.trained === false);
  showNotice("empty", status.images === 0);
  showNotice("worker-missing", problem === "missing");
  showNotice("worker-waiting", problem !== "" && problem !== "missing", problem);
  setText(document, "images", number(status.images));
  setText(document, "images-noun", status.images === 1 ? "picture" : "pictures");
}

// Fetches the status and shows it. Gives null, after saying so, where it cannot be had.
export async function refreshStatus() {
  try {
    const status = await get("/status");
    showStatus(status);
    return status;
  } catch (error) {
    showNotice("offline", true, error.unreachable ? "The server does not answer. Is it still running?" : error.message);
    return null;
  }
}
