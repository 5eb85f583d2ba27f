// Shows the answer to a call.

import { element, find } from "../dom.js";
import { t } from "../texts.js";

const HEADERS = [
  "content-type", "content-range", "content-disposition", "location", "retry-after", "etag",
  "cache-control", "allow", "www-authenticate",
];
const MOST_CHARACTERS = 50_000;

export class Answer {
  // Stands behind the form of the call, hidden until there is an answer.
  constructor(form) {
    this._status = element("p", { className: "answer-status", role: "status" });
    this._content = element("div", { className: "answer-content" });
    this.box = element("div", { className: "answer", hidden: true, tabIndex: -1 }, this._status, this._content);
    form.after(this.box);
  }

  // Nothing is there yet, or nothing came: `text` says why.
  say(text) {
    this.box.hidden = false;
    this._clear();
    this._status.textContent = text;
  }

  // Shows a response. Gives the JSON in it, or null.
  async show(response, milliseconds) {
    const type = response.headers.get("content-type") ?? "";
    this._clear();
    const headers = HEADERS.filter((name) => response.headers.has(name)).map((name) =>
      element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: response.headers.get(name) })),
    );
    this._content.append(element("dl", { className: "headers" }, ...headers));
    if (type.startsWith("text/event-stream")) return this._follow(response, milliseconds);
    const data = await response.blob();
    this._say(response, milliseconds, data.size);
    if (!data.size) return null;
    if (type.startsWith("image/") && response.ok) return this._showPicture(data);
    const text = type.startsWith("text/") || type.includes("json") ? await data.text() : null;
    if (text === null) return this._offer(data);
    const json = type.includes("json") ? parsed(text) : null;
    this._showText(json === null ? text : JSON.stringify(json, null, 2));
    return json;
  }

  // Adds what can be done with the answer.
  addActions(buttons) {
    if (buttons.length) this._content.append(element("div", { className: "answer-actions" }, ...buttons));
  }

  _clear() {
    const picture = find("img", this._content);
    if (picture) URL.revokeObjectURL(picture.src);
    this._content.replaceChildren();
  }

  _say(response, milliseconds, size) {
    this.box.hidden = false;
    const text = `${response.status} ${response.statusText}`.trim();
    const figures = t("reference.figures", { milliseconds: Math.round(milliseconds), size });
    const kind = response.status < 400 ? "good" : "bad";
    this._status.replaceChildren(element("strong", { textContent: text, className: kind }), ` ${figures}`);
  }

  _showText(text) {
    const code = element("code", { textContent: text.slice(0, MOST_CHARACTERS) });
    this._content.append(element("pre", { tabIndex: 0 }, code));
    const left = text.length - MOST_CHARACTERS;
    if (left > 0) this._content.append(element("p", { className: "muted", textContent: t("reference.cut", { count: left }) }));
    return code;
  }

  _showPicture(data) {
    this._content.append(element("img", { src: URL.createObjectURL(data), alt: t("reference.picture") }));
    return null;
  }

  _offer(data) {
    const link = element("a", { href: URL.createObjectURL(data), download: "", textContent: t("reference.download") });
    this._content.append(element("p", {}, link));
    return null;
  }

  // An answer that goes on until it is stopped: shows what came last.
  async _follow(response, milliseconds) {
    const code = this._showText("");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let size = 0;
    this._say(response, milliseconds, size);
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return null;
      size += value.length;
      this._say(response, milliseconds, size);
      code.textContent = (code.textContent + value).slice(-MOST_CHARACTERS);
    }
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
