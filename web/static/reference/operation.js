// One call of the documentation page: shows it as code, and sends it.

import { element, find, findAll } from "../dom.js";
import { copyText } from "../gallery/clipboard.js";
import { t } from "../texts.js";
import { Answer } from "./answer.js";
import { Inputs } from "./inputs.js";
import { fetchArguments, makeRequest } from "./request.js";
import { LANGUAGES } from "./snippets.js";

const PLACEHOLDER = "TOKEN";

export class Operation {
  // `page`: what the calls share. `token`: the field of the token, or null; `operation(anchor)`: another call;
  // `chooseLanguage(name)`: for all calls.
  constructor(article, page) {
    this.article = article;
    this._page = page;
    this._call = JSON.parse(article.dataset.operation);
    this._form = find("form", article);
    this._example = find(".example", article);
    this._inputs = new Inputs(this._form, this._call);
    this._controller = null;
    this._addLanguages();
    this._addButtons();
    this._answer = new Answer(this._form);
    this._form.addEventListener("input", () => this._showExample());
    this._form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
  }

  showLanguage(name) {
    this._language = name;
    for (const tab of findAll('[role="tab"]', this._form)) {
      const isChosen = tab.textContent === name;
      tab.ariaSelected = String(isChosen);
      tab.tabIndex = isChosen ? 0 : -1;
    }
    this._example.ariaLabel = name;
    this._showExample();
  }

  // Puts values into the fields, and sends the call.
  async call(values, body) {
    this._open();
    this._inputs.fill(values, body);
    this._showExample();
    this.article.scrollIntoView();
    await this.send();
    this._answer.box.focus();
  }

  async send() {
    this._inputs.clearProblems();
    const missing = this._inputs.missing();
    if (missing) {
      this._inputs.addProblem(missing, t("reference.fill"));
      this._inputs.focus(missing);
      return;
    }
    this._controller?.abort();
    const controller = new AbortController();
    this._controller = controller;
    this._stop.hidden = false;
    this._answer.say(t("reference.sending"));
    try {
      await this._exchange(controller.signal);
    } catch (error) {
      const isStopped = error.name === "AbortError";
      if (!isStopped && !(error instanceof TypeError)) throw error;
      if (this._controller === controller) this._answer.say(t(isStopped ? "reference.stopped" : "reference.unreachable"));
    } finally {
      if (this._controller === controller) this._stop.hidden = true;
    }
  }

  async _exchange(signal) {
    const values = this._inputs.values();
    const request = makeRequest(this._call, this._inputs.body, values, this._page.token?.value.trim());
    const began = performance.now();
    const response = await fetch(...fetchArguments(request, signal));
    const json = await this._answer.show(response, performance.now() - began);
    for (const { field, message } of json?.errors ?? []) this._inputs.addProblem(field, message);
    this._answer.addActions(response.status === 401 ? this._tokenButton() : response.ok ? this._linkButtons(json, values) : []);
  }

  // --- what comes next ------------------------------------------------------------------------------------

  _linkButtons(json, values) {
    return this._call.links.flatMap((link) => {
      const filled = resolveAll(link.values, json, values);
      if (filled === null) return [];
      const target = this._page.operation(link.to);
      // Further pages have the options of the first.
      const kept = target === this && !link.body ? Object.fromEntries(values) : {};
      return [makeButton(link.text, () => target.call({ ...kept, ...filled }, link.body ? "JSON" : undefined))];
    });
  }

  _tokenButton() {
    const { token } = this._page;
    return token ? [makeButton(t("reference.enter_token"), () => token.focus())] : [];
  }

  // --- the call as code -----------------------------------------------------------------------------------

  _showExample() {
    const token = this._page.token ? PLACEHOLDER : "";
    const request = makeRequest(this._call, this._inputs.body, this._inputs.valuesForExample(), token);
    request.fileFields = this._call.fields.filter(({ kind }) => kind === "files").map(({ name }) => name);
    find("code", this._example).textContent = LANGUAGES[this._language](request);
  }

  _addLanguages() {
    const names = Object.keys(LANGUAGES);
    const tabs = names.map((name) => {
      const tab = makeButton(name, () => this._page.chooseLanguage(name));
      tab.role = "tab";
      return tab;
    });
    const list = element("div", { className: "languages", role: "tablist", ariaLabel: t("reference.example") }, ...tabs);
    list.addEventListener("keydown", ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (!step) return;
      const next = (names.indexOf(this._language) + step + names.length) % names.length;
      this._page.chooseLanguage(names[next]);
      tabs[next].focus();
    });
    this._example.role = "tabpanel";
    const copy = makeButton(t("reference.copy"), async () => {
      const copied = await copyText(find("code", this._example).textContent);
      copy.textContent = t(copied ? "reference.copied" : "reference.not_copied");
      setTimeout(() => (copy.textContent = t("reference.copy")), 2000);
    });
    this._example.before(element("div", { className: "example-bar" }, list, copy));
  }

  // --- trying it ------------------------------------------------------------------------------------------

  _addButtons() {
    this._try = makeButton(t("reference.try"), () => (this._isOpen ? this._close() : this._open(true)));
    this._try.ariaExpanded = "false";
    this._send = element("button", { type: "submit", className: "button primary", textContent: t("reference.send"), hidden: true });
    this._stop = makeButton(t("reference.stop"), () => this._controller.abort());
    this._stop.hidden = true;
    this._form.append(element("div", { className: "call-actions" }, this._send, this._stop, this._try));
  }

  get _isOpen() {
    return this._form.classList.contains("open");
  }

  _open(isWanted = false) {
    this._inputs.make();
    this._form.classList.add("open");
    this._send.hidden = false;
    this._try.ariaExpanded = "true";
    this._try.textContent = t("reference.close");
    if (isWanted) this._inputs.focus();
  }

  _close() {
    this._form.classList.remove("open");
    this._send.hidden = true;
    this._try.ariaExpanded = "false";
    this._try.textContent = t("reference.try");
  }
}

function makeButton(text, onClick) {
  const button = element("button", { type: "button", className: "button quiet", textContent: text });
  button.addEventListener("click", onClick);
  return button;
}

// The values of a link with its expressions filled in, or null where the answer does not have them.
function resolveAll(values, json, sent) {
  const filled = {};
  for (const [name, value] of Object.entries(values)) {
    filled[name] = resolve(value, json, sent);
    if (filled[name] === undefined || filled[name] === null) return null;
  }
  return filled;
}

function resolve(value, json, sent) {
  const [, pointer] = /^\$response\.body#\/(.+)$/.exec(value) ?? [];
  if (pointer) return pointer.split("/").reduce((part, key) => part?.[key], json);
  const [, name] = /^\$request\.\w+\.(.+)$/.exec(value) ?? [];
  return name ? sent.get(name) : value;
}
