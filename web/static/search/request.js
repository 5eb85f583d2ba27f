// Sends a search, and waits for its result.

import { ApiError, get, postForm, postJson, sendDelete } from "../api.js";
import { sleep } from "../dom.js";
import { t } from "../texts.js";
import { fileOf, isWanted } from "./query.js";

export const PAGE = 40;

const LONGEST_WAIT_MS = 120_000;
const POLL_SECONDS = 20;
const MOST_FAILURES = 3;

// Gives the accepted search. Pictures are sent as they are, at once: nothing is computed before. If the server wants it
// later, `tell` is called with the reason.
export const submit = (query, signal, tell) => inTime(whenAllowed(() => send(query), signal, tell));

async function whenAllowed(work, signal, tell) {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!error.isTooSoon) throw error;
      tell(t("common.goes_on", { reason: error.message }));
      await sleep(1000 * error.retrySeconds);
    }
    signal?.throwIfAborted();
  }
}

async function send({ pictures, crop, folder }) {
  const options = { k: PAGE, ...(folder && { folder }) };
  if (pictures.length === 1) {
    const [{ imageId, address }] = pictures;
    if (imageId) return postJson("/searches", { image_id: imageId, ...options, ...(crop && { crop }) });
    if (address) return postJson("/searches", { url: address, ...options, ...(crop && { crop }) });
  }
  const stored = pictures.filter((picture) => picture.imageId);
  const images = stored.map(({ imageId, weight }) => ({ image_id: imageId, weight }));
  if (stored.length === pictures.length) return postJson("/searches", { images, ...options });
  return postForm("/searches", await formOf(pictures, images, { ...options, ...(crop && { crop: crop.join(",") }) }));
}

async function formOf(pictures, images, options) {
  const form = new FormData();
  const uploads = pictures.filter((picture) => !picture.imageId);
  for (const picture of uploads) form.append("image", await fileOf(picture), picture.name);
  if (pictures.length > 1) form.append("weights", uploads.map((picture) => picture.weight).join(","));
  if (images.length) form.append("images", JSON.stringify(images));
  for (const [name, value] of Object.entries(options)) form.append(name, value);
  return form;
}

// Waits until the search has ended. Gives up after two minutes, or when the server stays away. Who does not wait any
// more says so: then the search is not computed for nobody.
export async function waitFor(id, signal) {
  const leave = () => withdraw(id);
  signal?.addEventListener("abort", leave);
  window.addEventListener("pagehide", leave);
  try {
    return await inTime(poll(id, signal));
  } finally {
    signal?.removeEventListener("abort", leave);
    window.removeEventListener("pagehide", leave);
  }
}

export const withdraw = (id) => sendDelete(`/searches/${encodeURIComponent(id)}`);

async function poll(id, signal) {
  const deadline = Date.now() + LONGEST_WAIT_MS;
  let failures = 0;
  while (Date.now() < deadline) {
    try {
      const result = await get(`/searches/${encodeURIComponent(id)}?wait=${POLL_SECONDS}`, signal);
      if (hasEnded(result)) return result;
      failures = 0;
    } catch (error) {
      failures += 1;
      if (!error.unreachable || failures > MOST_FAILURES) throw error;
      await sleep(500 * failures);
    }
    signal?.throwIfAborted();
  }
  throw noAnswer();
}

const noAnswer = () => new ApiError(200, t("search.no_answer"), t("search.no_answer_help"));

// Nothing is waited for for ever, not even a request that hangs.
async function inTime(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(noAnswer()), LONGEST_WAIT_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export const hasEnded = (result) => result.state === "done" || result.state === "failed";

// The results after those of an earlier page; `tell` as above.
export async function nextPage(cursor, tell) {
  const accepted = await whenAllowed(() => postJson("/searches", { cursor }), null, tell);
  const result = await waitFor(accepted.id);
  if (result.state === "failed") throw new ApiError(200, t("search.failed"), result.error ?? "");
  return result;
}

// --- before anything is sent ---------------------------------------------------------------------------------------

// Why the files cannot be searched for, as `{ title, text }`; null if nothing is known to be wrong with them.
export function problemOf({ pictures }, mostBytes) {
  const bytes = pictures.reduce((sum, { file }) => sum + (file?.size ?? 0), 0);
  if (bytes > mostBytes) return tooLarge(pictures.length, bytes, mostBytes);
  if (!pictures.some(isWanted)) return { title: t("search.nothing_wanted"), text: t("search.nothing_wanted_help") };
  return null;
}

function tooLarge(count, bytes, mostBytes) {
  const mebibytes = (value) => `${(value / 2 ** 20).toFixed(1)} MiB`;
  const sizes = { size: mebibytes(bytes), limit: mebibytes(mostBytes) };
  return { title: t("search.too_large", { count }), text: t("search.too_large_help", { count, ...sizes }) };
}
