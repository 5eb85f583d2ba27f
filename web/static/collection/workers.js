// The workers and queues at a glance; collection.html draws the same on the server.

import { clone, find, findAll, number, setText } from "../dom.js";
import { t } from "../texts.js";

// A role is in the first of these that one of its workers is in.
const STATES = ["busy", "idle", "loading", "stuck", "waiting"];

// A worker that is silent for longer is not among them any more.
const EXPIRY_MS = 7000;

const seen = new Map(); // by worker: its last report, and when it was heard of here

export function showSystem(status) {
  const dash = t("system.dash");
  setText(document, "segments", number(status.segments));
  setText(document, "model", status.model ?? t("system.no_model"));
  setText(document, "weights", status.model ? t(status.trained ? "system.trained" : "system.untrained") : dash);
  setText(document, "precision", status.precision ?? dash);
  find('[data-optional="recall"]').hidden = status.recall_at_10 === null;
  setText(document, "recall", status.recall_at_10 === null ? "" : status.recall_at_10.toFixed(3));
  find("#system-unknown")?.remove();
  hear(status.workers);
  for (const section of findAll("[data-role]")) showRole(section, status);
  showSeen();
}

function showRole(section, status) {
  const { role } = section.dataset;
  const workers = status.workers.filter((worker) => worker.queues.includes(role));
  const state = STATES.find((name) => workers.some((worker) => worker.state === name)) ?? "missing";
  const chip = find('[data-field="role-state"]', section);
  chip.dataset.state = state;
  chip.textContent = t(`system.state_${state}`);
  setText(section, "queue", t("system.queue", { count: status.queues[role] }));
  find(".role-missing", section).hidden = workers.length > 0;
  showWorkers(find(".workers", section), workers);
}

function showWorkers(list, workers) {
  const known = new Map(findAll(".worker", list).map((row) => [row.dataset.worker, row]));
  list.replaceChildren(...workers.map((worker) => fillWorker(known.get(worker.name) ?? clone("worker"), worker)));
}

function fillWorker(row, worker) {
  row.dataset.worker = worker.name;
  setText(row, "host", worker.host);
  const chip = find('[data-field="state"]', row);
  chip.dataset.state = worker.state;
  chip.textContent = t(`system.state_${worker.state}`);
  setText(row, "detail", worker.detail ?? "");
  find('[data-field="detail"]', row).hidden = !worker.detail;
  const facts = [
    worker.images_per_second && t("system.rate", { value: worker.images_per_second.toFixed(1) }),
    worker.precision,
    worker.threads && t("system.threads", { count: worker.threads }),
    t("system.process", { pid: String(worker.pid) }),
  ];
  setText(row, "facts", facts.filter(Boolean).join(" · "));
  return row;
}

// The clocks of the hosts may differ: a report counts from when it was heard of here.
function hear(workers) {
  const now = Date.now();
  for (const { name, last_seen } of workers) {
    const first = Math.min(now, Math.max(now - EXPIRY_MS, new Date(last_seen).getTime()));
    if (seen.get(name)?.last_seen !== last_seen) seen.set(name, { last_seen, at: seen.has(name) ? now : first });
  }
}

export function showSeen() {
  for (const row of findAll(".worker")) {
    const report = seen.get(row.dataset.worker);
    if (report) setText(row, "seen", t("system.seen", { seconds: Math.max(0, Math.round((Date.now() - report.at) / 1000)) }));
  }
}
