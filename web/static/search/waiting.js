// Says why a search is not answered yet.

import { known, refresh } from "../live.js";
import { workerProblem } from "../notices.js";
import { t } from "../texts.js";

const FIRST_MS = 1000;
const EVERY_MS = 3000;

// Calls `tell` with a text when a search takes long, again and again. Gives a function that ends it.
export function explainWait(tell) {
  let timer = setTimeout(first, FIRST_MS);
  function first() {
    // A worker that is missing is known already, and a busy server would take a while to say so again.
    const status = known();
    if (status && workerProblem(status, "query")) tell(explanation(status));
    look();
  }
  async function look() {
    const status = await refresh();
    if (timer === null) return;
    tell(status ? explanation(status) : t("common.server_away"));
    timer = setTimeout(look, EVERY_MS);
  }
  return () => {
    clearTimeout(timer);
    timer = null;
  };
}

function explanation(status) {
  const problem = workerProblem(status, "query");
  if (problem === "missing") return t("search.no_worker");
  if (problem) return t("search.worker_not_ready", { reason: problem });
  const before = status.queues.query - 1; // this one waits, too
  return before > 0 ? t("search.queue", { count: before }) : t("search.still_searching");
}
