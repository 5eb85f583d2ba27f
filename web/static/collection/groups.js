// The groups of near-duplicates; collection.html draws the first ones on the server.

import { clone, element, fileName, find, findAll, setText } from "../dom.js";
import { copyText } from "../gallery/clipboard.js";
import { fileSize } from "../gallery/figures.js";
import { openViewer } from "../gallery/viewer.js";
import { t } from "../texts.js";

const FIRST_PICTURES = 12;
const FEEDBACK_MS = 2500;

// `list` may hold groups that the server sent: `adopt` takes them over.
export class Groups {
  constructor(list) {
    this.list = list;
    this._groups = new Map(); // by card
    list.addEventListener("click", (event) => this._click(event.target));
  }

  adopt(groups) {
    groups.forEach((group, index) => this._groups.set(this.list.children[index], group));
  }

  append(groups) {
    this.list.append(...groups.map((group) => this._card(group)));
  }

  clear() {
    this.list.replaceChildren();
    this._groups.clear();
  }

  _card(group) {
    const card = clone("group");
    const { images } = group;
    const [lowest, best] = [group.lowest_score.toFixed(3), group.best_score.toFixed(3)];
    setText(card, "count", t("duplicates.group", { count: images.length }));
    setText(card, "scores", lowest === best ? t("duplicates.one_score", { best }) : t("duplicates.scores", { lowest, best }));
    setText(card, "spare", t("duplicates.spare", { size: fileSize(spare(images)) }));
    find(".copies", card).append(...images.slice(0, FIRST_PICTURES).map(makePicture));
    const all = find("[data-show-all]", card);
    all.hidden = images.length <= FIRST_PICTURES;
    all.textContent = t("duplicates.show_all", { count: images.length });
    this._groups.set(card, group);
    return card;
  }

  _click(target) {
    const card = target.closest(".group");
    if (!card) return;
    const { images } = this._groups.get(card);
    const picture = target.closest(".copy");
    const index = picture ? findAll(".copy", card).indexOf(picture) : -1;
    if (target.closest(".copy-open")) open(card, images, index);
    else if (target.closest("[data-copy]")) copy(card, images[index].path);
    else if (target.closest("[data-copy-all]")) copy(card, images.map(({ path }) => path).join("\n"));
    else if (target.closest("[data-show-all]")) showAll(card, images);
  }
}

// What would be free if the largest file alone were kept.
function spare(images) {
  const sizes = images.map(({ size }) => size);
  return sizes.reduce((sum, size) => sum + size, 0) - Math.max(...sizes);
}

function makePicture(image) {
  const item = clone("copy");
  item.dataset.id = image.image_id;
  const name = fileName(image.path);
  find(".copy-open", item).ariaLabel = t("duplicates.open", { name });
  const picture = find("img", item);
  picture.width = image.width;
  picture.height = image.height;
  picture.src = image.thumbnail_url;
  setText(item, "folder", image.path.slice(0, -name.length));
  setText(item, "name", name);
  setText(item, "facts", t("duplicates.facts", { width: image.width, height: image.height, size: fileSize(image.size) }));
  return item;
}

function showAll(card, images) {
  const shown = findAll(".copy", card).length;
  const added = images.slice(shown).map(makePicture);
  find(".copies", card).append(...added);
  find("[data-show-all]", card).hidden = true;
  find("button", added[0]).focus();
}

function open(card, images, index) {
  openViewer(images, index, {
    onClose: (last) => (findAll(".copy-open", card)[last] ?? find(".copy-open", card)).focus(),
  });
}

async function copy(card, text) {
  const copied = await copyText(text);
  const feedback = find(".copied", card);
  feedback.replaceChildren(element("span", { textContent: t(copied ? "duplicates.copied" : "duplicates.not_copied") }));
  setTimeout(() => feedback.replaceChildren(), FEEDBACK_MS);
}
