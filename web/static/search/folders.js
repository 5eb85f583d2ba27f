// The choice of a folder to search in: a tree that opens level by level.

import { get } from "../api.js";
import { clone, element, find, findAll, number } from "../dom.js";
import { t } from "../texts.js";

const LEVEL = 200;

export class FolderFilter {
  // `onChoose(folder)`: a public path, or null for all folders.
  constructor(root, onChoose) {
    this.root = root;
    this.button = find(".folder-button", root);
    this.panel = find(".folder-panel", root);
    this.onChoose = onChoose;
    this.button.addEventListener("click", () => this._open(this.panel.hidden));
    this.panel.addEventListener("click", (event) => this._click(event));
    root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.panel.hidden) return;
      event.stopPropagation();
      this._open(false);
      this.button.focus();
    });
    // Whoever goes on elsewhere is done with it.
    document.addEventListener("pointerdown", (event) => root.contains(event.target) || this._open(false));
    root.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !root.contains(event.relatedTarget)) this._open(false);
    });
  }

  // Shows which folder is chosen.
  show(folder) {
    this.folder = folder;
    find("[data-folder]", this.button).textContent = folder ?? t("search.all_folders");
    this.button.classList.toggle("chosen", folder !== null);
    for (const name of findAll(".folder-name", this.panel)) this._mark(name);
  }

  _mark(name) {
    const chosen = (name.dataset.path || null) === this.folder;
    if (chosen) name.setAttribute("aria-current", "true");
    else name.removeAttribute("aria-current");
  }

  _open(open) {
    this.panel.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    if (!open) return;
    // A single root is not worth a click.
    const roots = findAll(":scope > .folder-tree > .folder", this.panel).filter((node) => node.dataset.path);
    if (roots.length === 1 && find(".folder-children", roots[0]).hidden) this._toggle(roots[0]);
  }

  _click(event) {
    const node = event.target.closest(".folder");
    if (event.target.closest(".folder-toggle")) this._toggle(node);
    else if (event.target.closest(".folder-name")) {
      this._open(false);
      this.button.focus();
      const path = node.dataset.path || null;
      if (path !== this.folder) this.onChoose(path);
    }
  }

  async _toggle(node) {
    const toggle = find(".folder-toggle", node);
    const children = find(".folder-children", node);
    if (toggle.hidden) return;
    const open = children.hidden;
    children.hidden = !open;
    toggle.setAttribute("aria-expanded", String(open));
    if (open && !children.children.length) await this._load(node, children, null);
  }

  async _load(node, children, cursor) {
    const query = new URLSearchParams({ parent: node.dataset.path, limit: LEVEL, ...(cursor && { cursor }) });
    const wait = element("li", { className: "folder-note", textContent: t("search.loading") });
    children.append(wait);
    try {
      const page = await get(`/folders?${query}`);
      children.append(...page.folders.map((folder) => this._node(folder)));
      if (page.next_cursor) children.append(this._moreButton(node, children, page.next_cursor));
      wait.remove();
    } catch (error) {
      wait.textContent = error.message;
    }
  }

  _moreButton(node, children, cursor) {
    const button = element("button", { type: "button", className: "link", textContent: t("search.more_folders") });
    const item = element("li", { className: "folder-note" }, button);
    button.addEventListener("click", () => {
      item.remove();
      this._load(node, children, cursor);
    });
    return item;
  }

  _node(folder) {
    const node = clone("folder-node");
    node.dataset.path = folder.path;
    const name = find(".folder-name", node);
    name.dataset.path = folder.path;
    find("[data-name]", node).textContent = folder.name;
    find("[data-images]", node).textContent = number(folder.images);
    const toggle = find(".folder-toggle", node);
    toggle.hidden = !folder.has_folders;
    toggle.setAttribute("aria-label", t("search.open_folder", { name: folder.name }));
    this._mark(name);
    return node;
  }
}
