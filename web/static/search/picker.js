// Takes pictures in: from the buttons, dropped anywhere on the page, from the clipboard, or by their address.

import { find } from "../dom.js";
import { DRAGGED } from "../gallery/grid.js";
import { t } from "../texts.js";

// An address of an indexed picture of this very server.
const OWN_IMAGE = /^\/api\/v1\/images\/([0-9a-f]+)(\/|$)/;

// `onFiles(files)`, `onImage(item or { image_id })`, `onAddress(url)`; `onProblem(title, text)`.
// `addresses`: whether the server fetches pictures of other sites.
export function setUpPicker(handlers, addresses) {
  const take = new Taking(handlers, addresses);
  for (const input of [find("#file"), find("#camera")]) {
    const takeChosen = () => {
      const files = [...input.files];
      input.value = "";
      if (files.length) take.files(files);
    };
    input.addEventListener("change", takeChosen);
    // Who is quick has chosen before this script was there.
    setTimeout(takeChosen);
  }
  // The whole field is a button for those who use a mouse.
  find(".drop").addEventListener("click", (event) => {
    if (find("#main").dataset.view === "home" && !event.target.closest("label, input, button, form, a")) find("#file").click();
  });
  find(".address")?.addEventListener("submit", (event) => {
    event.preventDefault();
    const field = find("input", event.currentTarget);
    if (field.value.trim()) take.address(field.value.trim());
    field.value = "";
  });
  setUpDrop(take);
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) take.files(files);
    else if (!event.target.closest?.("input, textarea")) take.text(event.clipboardData.getData("text/plain"));
  });
}

function setUpDrop(take) {
  const overlay = find(".drop-overlay");
  // The events of nested elements come in pairs; the overlay goes when the last one is left.
  let depth = 0;
  const setDepth = (value) => {
    depth = Math.max(0, value);
    overlay.hidden = depth === 0;
  };
  document.addEventListener("dragenter", (event) => {
    event.preventDefault();
    setDepth(depth + 1);
  });
  document.addEventListener("dragleave", () => setDepth(depth - 1));
  document.addEventListener("dragend", () => setDepth(0));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    setDepth(0);
    take.dropped(event.dataTransfer);
  });
}

class Taking {
  constructor(handlers, addresses) {
    this.handlers = handlers;
    this.addresses = addresses;
  }

  files(files) {
    // No type at all, or that of unknown data: only the server can tell.
    const maybe = files.filter(({ type }) => !type || type.startsWith("image/") || type === "application/octet-stream");
    if (maybe.length) this.handlers.onFiles(maybe);
    else this.handlers.onProblem(t("search.not_a_picture"), t("search.not_a_picture_help", { name: files[0].name }));
  }

  dropped(transfer) {
    const own = transfer.getData(DRAGGED);
    const files = [...transfer.files];
    const isFolder = [...transfer.items].some((item) => item.webkitGetAsEntry?.()?.isDirectory);
    if (own) this.handlers.onImage(JSON.parse(own));
    else if (isFolder) this.handlers.onProblem(t("search.folder_dropped"), t("search.folder_dropped_help"));
    else if (files.length) this.files(files);
    else {
      const address = transfer.getData("text/uri-list").split(/\r?\n/).find((line) => line && !line.startsWith("#"));
      const text = address || transfer.getData("text/plain");
      if (isAddress(text)) this.address(text.trim());
      else this.handlers.onProblem(t("search.no_file"), t("search.no_file_help"));
    }
  }

  text(text) {
    if (isAddress(text)) this.address(text.trim());
    else this.handlers.onProblem(t("search.nothing_pasted"), t("search.nothing_pasted_help"));
  }

  address(address) {
    const url = URL.canParse(address) ? new URL(address) : null;
    const own = url?.origin === location.origin ? url.pathname.match(OWN_IMAGE) : null;
    if (own) this.handlers.onImage({ image_id: own[1] });
    else if (!isAddress(address)) this.handlers.onProblem(t("search.no_address"), t("search.no_address_help"));
    else if (this.addresses) this.handlers.onAddress(address);
    else this.handlers.onProblem(t("search.addresses_off"), t("search.addresses_off_help"));
  }
}

function isAddress(text) {
  return /^https?:\/\/\S+$/i.test((text ?? "").trim());
}
