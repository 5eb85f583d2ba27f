// The search page: pictures go in, results come out, and the address says which search is shown.

import { ApiError, get, signInAddress } from "./api.js";
import { element, fileName, find, setText } from "./dom.js";
import { Grid, sentItems } from "./gallery/grid.js";
import { closeViewer } from "./gallery/viewer.js";
import { onStatus } from "./live.js";
import "./notices.js";
import { FolderFilter } from "./search/folders.js";
import { Panel } from "./search/panel.js";
import { setUpPicker } from "./search/picker.js";
import {
  MOST_PICTURES, UNWANTED, WANTED, fromAddress, fromFile, fromImage, fromResult, isWanted, queryOf, withImage,
  withWeight, without,
} from "./search/query.js";
import { hasEnded, nextPage, problemOf, submit, waitFor, withdraw } from "./search/request.js";
import { Results } from "./search/results.js";
import { say } from "./search/toast.js";
import { explainWait } from "./search/waiting.js";
import { t } from "./texts.js";

const main = find("#main");
const visited = new Map(); // the searches of this page by their ids, for going back: { query, entry, scroll }

let query = null; // what is searched for now
let shown = null; // the search whose results are shown, one of `visited`
let following = null; // the search being followed: an AbortController
let unreachable = false; // whether the last search failed because the server was away

// --- searching -----------------------------------------------------------------------------------------------------

// Searches for a query; `instead`: the address takes the place of the one before.
async function search(next, { instead = false } = {}) {
  query = { ...next, provisional: false };
  const mine = startFollowing();
  const problem = problemOf(query, Number(main.dataset.maxUploadBytes));
  // On its way before anything is drawn.
  const tell = (text) => !mine.signal.aborted && results.setNote(text);
  const accepted = problem ? null : submit(query, mine.signal, tell);
  accepted?.catch(() => {}); // it is waited for below
  closeViewer();
  leave();
  window.scrollTo({ top: 0 });
  setView("results");
  panel.show(query);
  folders.show(query.folder);
  if (problem) return results.showMessage(problem.title, problem.text);
  results.showPending();
  try {
    const { id } = await accepted;
    if (mine.signal.aborted) return withdraw(id);
    visited.set(id, { query });
    // Uploads have no names on the server.
    const names = next.pictures.map(({ name }) => name);
    history[instead ? "replaceState" : "pushState"]({ names }, "", `/search/${id}`);
    await follow(id, mine);
  } catch (error) {
    if (!mine.signal.aborted) showFailure(error);
  }
}

function startFollowing() {
  following?.abort();
  following = new AbortController();
  unreachable = false;
  return following;
}

async function follow(id, mine) {
  const stop = explainWait((text) => !mine.signal.aborted && results.isPending && results.setNote(text));
  try {
    const result = await waitFor(id, mine.signal);
    if (!mine.signal.aborted) showOutcome(id, result);
  } finally {
    stop();
  }
}

function showOutcome(id, result, adopt = false) {
  const known = visited.get(id) ?? {};
  visited.set(id, known);
  if (!query || query.provisional) query = known.query ?? queryFrom(result, !adopt);
  else keepPictures(result);
  known.query = query;
  shown = known;
  panel.show(query);
  folders.show(query?.folder ?? null);
  if (result.state === "failed") showFailure(new ApiError(result.error_status ?? 500, t("search.failed"), result.error ?? ""));
  else if (result.results.length) {
    known.entry = { result, hits: result.results, cursor: result.next_cursor };
    results[adopt ? "adopt" : "show"](known.entry, cutoffOfAddress());
  } else showNothing(result);
}

function showNothing(result) {
  if (result.indexed === 0) {
    results.showMessage(t("common.empty"), t("search.index_first"), [link(t("common.empty_index_link"), "/folders")]);
    return;
  }
  const everywhere = button(t("search.all_folders"), () => search({ ...query, folder: null }));
  results.showMessage(t("search.nothing_found"), t("search.nothing_found_help"), query?.folder ? [everywhere] : []);
}

// A query as the server kept it. `fresh`: the previews of uploads are about to be made.
function queryFrom(result, fresh) {
  if (!result.query?.images.length) return null;
  const found = new Map(result.results.map((hit) => [hit.image_id, fileName(hit.path)]));
  const names = result.query.images.map(({ image_id: id }, position) => history.state?.names?.[position] ?? found.get(id));
  return fromResult(result, names, fresh);
}

// What the server fetched from another site is shown, and searched for again, as it was kept.
function keepPictures(result) {
  if (query?.pictures.length !== 1 || !query.pictures[0].address) return;
  const keptUrl = result.query?.images[0]?.picture_url;
  if (!keptUrl) return;
  query = { ...query, pictures: [{ ...query.pictures[0], address: undefined, keptUrl, src: keptUrl, fresh: true }] };
}

// --- failures ------------------------------------------------------------------------------------------------------

function showFailure(error) {
  following?.abort();
  if (error.status === 404 && !query) return showExpired();
  unreachable = error.unreachable === true;
  if (error.status === 401) return results.showMessage(error.title, error.message, [link(t("common.sign_in"), signInAddress())]);
  const again = () => (query ? search(query) : openAddress());
  // Of the kind of file the server's reason says all.
  const title = error.status === 415 ? t("search.not_a_picture") : error.title;
  results.showMessage(title ?? t("common.failed"), error.message, [button(t("common.try_again"), again)]);
}

function showExpired() {
  results.showMessage(t("search.expired"), t("search.expired_help"), [link(t("search.new"), "/")]);
}

const link = (text, href) => element("a", { className: "button primary", textContent: text, href });

const button = (text, onclick) => element("button", { type: "button", className: "button", textContent: text, onclick });

// --- changing what is searched for ---------------------------------------------------------------------------------

// Before the first search, the folder that the address names: `/?folder=…`.
const folderNow = () => (query ? query.folder : new URLSearchParams(location.search).get("folder"));

function searchFiles(files) {
  if (files.length > MOST_PICTURES) say(t("search.too_many", { count: MOST_PICTURES }));
  search(queryOf(files.slice(0, MOST_PICTURES).map(fromFile), folderNow()));
}

// `item` may be known by its id only.
async function searchImage(item, how) {
  if (item.thumbnail_url) return search(queryOf([fromImage(item)], folderNow()), how);
  const mine = startFollowing();
  setView("results");
  try {
    const known = await get(`/images/${encodeURIComponent(item.image_id)}`, mine.signal);
    if (!mine.signal.aborted) await searchImage(known, how);
  } catch (error) {
    if (!mine.signal.aborted) results.showMessage(error.title, error.message, [link(t("search.new"), "/")]);
  }
}

async function addImage(item, sign) {
  if (!query) return searchImage(item);
  const next = await withImage(query, item, sign > 0 ? WANTED : UNWANTED);
  if (next.pictures.length > MOST_PICTURES) return say(t("search.too_many", { count: MOST_PICTURES }));
  change(next);
}

// Searches for a changed query, unless nothing would be left to look for.
function change(next) {
  if (next.pictures.some(isWanted)) search(next);
  else say(t("search.nothing_wanted_help"));
}

const flipped = (picture) => withWeight(query, picture, isWanted(picture) ? UNWANTED : WANTED);

// --- the address ---------------------------------------------------------------------------------------------------

function setView(view) {
  main.dataset.view = view;
}

// Remembers where one was in the results, for coming back.
function leave() {
  if (shown) shown.scroll = window.scrollY;
  shown = null;
}

const cutoffOfAddress = () => Number(new URLSearchParams(location.hash.slice(1)).get("min")) || 0;

function showCutoff(score) {
  history.replaceState(history.state, "", score > 0 ? `#min=${score}` : location.pathname);
}

function openAddress() {
  const [, id] = location.pathname.match(/^\/search\/(.+)$/) ?? [];
  const image = new URLSearchParams(location.search).get("image");
  closeViewer();
  panel.shrink();
  leave();
  const mine = startFollowing();
  const known = visited.get(id);
  query = known?.query ?? null;
  panel.show(query);
  folders.show(query?.folder ?? null);
  setView(id || image ? "results" : "home");
  if (known?.entry) {
    shown = known;
    results.show(known.entry, cutoffOfAddress(), { atOnce: true });
    window.scrollTo({ top: known.scroll ?? 0 });
  } else if (id) followAddress(decodeURIComponent(id), mine);
  else {
    results.clear();
    if (image) searchImage({ image_id: image }, { instead: true });
  }
}

function followAddress(id, mine) {
  if (main.dataset.expired === id) return showExpired();
  const sent = takeSent(id);
  if (sent && hasEnded(sent)) {
    showOutcome(id, sent, true);
    return window.scrollTo({ top: history.state?.scroll ?? 0 });
  }
  results.clear();
  results.showPending();
  if (sent) panel.show((query = queryFrom(sent, true)));
  return follow(id, mine).catch((error) => mine.signal.aborted || showFailure(error));
}

// The result that came with the page; once.
function takeSent(id) {
  const block = find("#result");
  block?.remove();
  const sent = block ? JSON.parse(block.textContent) : null;
  return sent?.id === id ? sent : null;
}

// --- pictures to start from ------------------------------------------------------------------------------------------

function setUpSamples() {
  const list = find("#samples");
  if (!list) return;
  const grid = new Grid(list, { onOpen: (index) => searchImage(grid.items[index]), wholeRows: true });
  grid.append(sentItems(list));
}

// --- all together --------------------------------------------------------------------------------------------------

const panel = new Panel(find(".asked"), {
  onCrop: (crop) => search({ ...query, crop }),
  onSign: (picture) => change(flipped(picture)),
  onRemove: (picture) => change(without(query, picture)),
});
const folders = new FolderFilter(find(".folder-filter"), (folder) => search({ ...query, folder }));
const results = new Results({ onSimilar: searchImage, onAdd: addImage, loadPage: (cursor) => nextPage(cursor, say), onCutoff: showCutoff });

setUpPicker(
  {
    onFiles: searchFiles,
    onImage: searchImage,
    onAddress: (address) => search(queryOf([fromAddress(address)], folderNow())),
    // A slip does not take away what is on the page.
    onProblem: (title, text) => (results.isInUse ? say(`${title}. ${text}`) : results.showMessage(title, text)),
  },
  main.dataset.urlQueries === "true",
);
// The results are there only after a script has put them there, so scripts also scroll to where one was.
history.scrollRestoration = "manual";
window.addEventListener("pagehide", () => history.replaceState({ ...history.state, scroll: window.scrollY }, ""));
window.addEventListener("popstate", openAddress);
window.addEventListener("online", () => unreachable && query && search(query));
onStatus((status) => setText(document, "images-noun", t("search.noun", { count: status.images })));
setUpSamples();
openAddress();
