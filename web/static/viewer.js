// The dialog with one result at full size.

import { fileName, find, number } from "./dom.js";

const dialog = find(".viewer");
const image = find("#viewer-image");
const note = find(".viewer-note");

let hits = [];
let index = 0;

export function openViewer(results, start) {
  hits = results;
  if (!dialog.open) dialog.showModal();
  show(start);
}

export function closeViewer() {
  if (dialog.open) dialog.close();
}

export function setUpViewer(onSimilar) {
  find(".close", dialog).addEventListener("click", closeViewer);
  find(".previous", dialog).addEventListener("click", () => show(index - 1));
  find(".next", dialog).addEventListener("click", () => show(index + 1));
  find("#viewer-similar").addEventListener("click", () => {
    closeViewer();
    onSimilar(hits[index]);
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(index - 1);
    else if (event.key === "ArrowRight") show(index + 1);
    else return;
    event.preventDefault();
  });
  // A click beside the picture closes, as people expect.
  find(".viewer-stage").addEventListener("click", (event) => {
    if (event.target === event.currentTarget) closeViewer();
  });
  dialog.addEventListener("close", () => {
    find("#grid").children[index]?.querySelector("button")?.focus();
    image.removeAttribute("src");
  });
}

function show(position) {
  if (position < 0 || position >= hits.length) return;
  index = position;
  const hit = hits[index];
  find("#viewer-rank").textContent = `Result ${hit.rank} of ${hits.length}`;
  find("#viewer-name").textContent = fileName(hit.path);
  find("#viewer-score").textContent = hit.score.toFixed(3);
  find("#viewer-distance").textContent = hit.distance.toFixed(3);
  find("#viewer-size").textContent = `${number(hit.width)} × ${number(hit.height)}`;
  find("#viewer-path").textContent = hit.path;
  find("#viewer-file").href = hit.image_url;
  // Not `disabled`: a button that loses the focus takes the arrow keys with it.
  find(".previous", dialog).ariaDisabled = String(index === 0);
  find(".next", dialog).ariaDisabled = String(index === hits.length - 1);
  showPicture(hit);
}

function showPicture(hit) {
  note.hidden = true;
  image.alt = fileName(hit.path);
  image.style.setProperty("--width", hit.width);
  image.style.setProperty("--height", hit.height);
  // The stored thumbnail is always there, and at once; the file takes its place when it has arrived.
  image.src = hit.thumbnail_url;
  const file = new Image();
  file.src = hit.image_url;
  file.decode().then(
    () => isShown(hit) && (image.src = hit.image_url),
    () => isShown(hit) && explainThumbnail(hit),
  );
}

function isShown(hit) {
  return dialog.open && hits[index] === hit;
}

async function explainThumbnail(hit) {
  const response = await fetch(hit.image_url, { method: "HEAD" }).catch(() => null);
  if (!isShown(hit)) return;
  note.textContent = response?.ok
    ? "This browser cannot show the file’s format; this is its thumbnail."
    : "The file cannot be read any more; this is its thumbnail.";
  note.hidden = false;
}
