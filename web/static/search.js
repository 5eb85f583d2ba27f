// The search page: a picture goes in, results come out, and the address says which search is shown.

import { ApiError, get, postForm, postJson } from "./api.js";
import { element, fileName, find, poll, sleep } from "./dom.js";
import { refreshStatus, workerProblem } from "./notices.js";
import { setUpPicker, smallCopy } from "./picker.js";
import { clearResults, setNote, showMessage, showPending, showResults } from "./results.js";
import { closeViewer, openViewer, setUpViewer } from "./viewer.js";

const LONGEST_WAIT_MS = 120_000;
const HINT_AFTER_MS = 1500;

const main = find("#main");
const options = find(".options");
const finished = new Map(); // results of this page's searches, for going back

let query = null; // what the options search again for: {file} or {hit}
let current = null; // the search being followed: an AbortController

// --- the query's picture ----------------------------------------------------------------------------------

function setView(view) {
  main.dataset.view = view;
}

function showPreview(preview) {
  const image = find(".preview img");
  const frame = find(".preview-empty");
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  find(".preview").hidden = preview === null;
  image.hidden = !preview?.src;
  frame.hidden = Boolean(preview?.src);
  image.onerror = () => {
    image.hidden = true;
    frame.hidden = false;
  };
  if (preview?.src) image.src = preview.src;
  else image.removeAttribute("src");
  find(".preview figcaption").textContent = preview?.name ?? "";
  document.title = preview?.name ? `${preview.name} – Imagesearch` : "Imagesearch";
}

// --- searching --------------------------------------------------------------------------------------------

function searchFile(file) {
  query = { file };
  closeViewer();
  setView("results");
  showPreview({ src: URL.createObjectURL(file), name: file.name });
  const limit = Number(main.dataset.maxUploadBytes);
  if (file.size > limit) {
    current?.abort();
    const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
    showMessage("The picture is too large", `It has ${mebibytes(file.size)}; this server takes up to ${mebibytes(limit)}.`);
    return;
  }
  run(async () => {
    const form = new FormData();
    form.append("image", file);
    for (const [name, value] of new FormData(options)) if (value) form.append(name, value);
    const accepted = await postForm("/searches", form);
    return { accepted, preview: { src: await smallCopy(file), name: file.name } };
  });
}

function searchSimilar(hit) {
  query = { hit };
  const preview = { src: hit.thumbnail_url, name: fileName(hit.path) };
  setView("results");
  showPreview(preview);
  window.scrollTo({ top: 0 });
  run(async () => {
    const { folder, k } = Object.fromEntries(new FormData(options));
    const accepted = await postJson("/searches", { image_id: hit.image_id, k: Number(k), ...(folder && { folder }) });
    return { accepted, preview };
  });
}

function searchAgain() {
  if (query?.file) searchFile(query.file);
  else if (query?.hit) searchSimilar(query.hit);
}

async function run(submit) {
  const mine = startFollowing();
  showPending(Number(options.k.value));
  try {
    const { accepted, preview } = await submit();
    if (mine.signal.aborted) return;
    history.pushState({ preview }, "", `/search/${accepted.id}`);
    await follow(accepted.id, mine);
  } catch (error) {
    if (!mine.signal.aborted) showFailure(error);
  }
}

function startFollowing() {
  current?.abort();
  current = new AbortController();
  return current;
}

async function follow(id, mine) {
  const hint = setTimeout(() => explainWait(mine), HINT_AFTER_MS);
  try {
    const result = await waitFor(id, mine.signal);
    if (mine.signal.aborted) return;
    if (result.state === "failed") showFailure(new ApiError(200, "The search failed", result.error ?? ""));
    else showOutcome(id, result);
  } finally {
    clearTimeout(hint);
  }
}

async function waitFor(id, signal) {
  const deadline = Date.now() + LONGEST_WAIT_MS;
  let failures = 0;
  while (Date.now() < deadline) {
    try {
      const result = await get(`/searches/${encodeURIComponent(id)}?wait=10`, signal);
      if (result.state === "done" || result.state === "failed") return result;
      failures = 0;
    } catch (error) {
      failures += 1;
      if (!error.unreachable || failures > 3) throw error;
      await sleep(500 * failures);
    }
  }
  throw new ApiError(200, "No answer came", "The search took too long. Is a query worker running?");
}

async function explainWait(mine) {
  const status = await refreshStatus();
  if (mine.signal.aborted || !find("#grid").classList.contains("pending") || !status) return;
  const problem = workerProblem(status);
  if (problem === "missing") setNote("Waiting for a query worker. Start one with: imagesearch worker --queues query");
  else if (problem) setNote(`Waiting for the query worker. ${problem}`);
  else if (status.queues.query > 1) setNote(`${status.queues.query} searches are before this one.`);
}

// --- outcomes ---------------------------------------------------------------------------------------------

function showOutcome(id, result) {
  finished.set(id, result);
  if (result.results.length) showResults(result, (index) => openViewer(result.results, index));
  else if (result.indexed === 0) showMessage("No pictures are indexed yet", "Index a folder first; then search again.", { actions: [link("Open Folders", "/folders")] });
  else showMessage("No similar picture was found", "Try another folder, or all of them.");
}

function showFailure(error) {
  if (error.status === 404 && !query) {
    showMessage("This search has expired", "Results are kept for a while only. Search again with the picture.", {
      actions: [link("New search", "/")],
    });
    return;
  }
  const again = element("button", { type: "button", className: "button", textContent: "Try again", onclick: retry });
  showMessage(error.title ?? "Something went wrong", error.message, { actions: [again] });
}

function retry() {
  if (query) searchAgain();
  else openAddress();
}

function link(text, href) {
  return element("a", { className: "button primary", textContent: text, href });
}

// --- the address ------------------------------------------------------------------------------------------

function openAddress() {
  const [, id] = location.pathname.match(/^\/search\/(.+)$/) ?? [];
  closeViewer();
  query = null;
  const mine = startFollowing();
  showPreview(id ? (history.state?.preview ?? null) : null);
  setView(id ? "results" : "home");
  clearResults();
  if (!id) return;
  const known = finished.get(id);
  if (known) {
    showOutcome(id, known);
    return;
  }
  showPending(12);
  follow(decodeURIComponent(id), mine).catch((error) => mine.signal.aborted || showFailure(error));
}

setUpPicker(searchFile, (title, text) => {
  startFollowing();
  setView("results");
  showMessage(title, text);
});
setUpViewer(searchSimilar);
options.addEventListener("change", searchAgain);
options.addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("popstate", openAddress);
openAddress();
poll(async () => {
  await refreshStatus();
  return 5000;
});
