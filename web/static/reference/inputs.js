// What is put in for a call: an input for each of its fields, made when somebody wants to try the call.

import { element, find } from "../dom.js";
import { t } from "../texts.js";

export class Inputs {
  constructor(form, call) {
    this._form = form;
    this._call = call;
    this._inputs = new Map();
    this.body = call.bodies[0];
  }

  get areMade() {
    return this._inputs.size > 0 || this._call.fields.length === 0;
  }

  // Makes the inputs; they stand in the rows of their fields.
  make() {
    if (this.areMade) return;
    if (this._call.bodies.length > 1) find(".fields", this._form).before(this._bodyChoice());
    for (const field of this._call.fields) {
      const row = this._row(field.name);
      const input = makeInput(field);
      input.id = `${this._call.name}-${field.name}`;
      input.name = field.name;
      const label = find("label", row);
      label.htmlFor = input.id;
      const about = find("p", row);
      if (about) {
        about.id = `${input.id}-about`;
        input.setAttribute("aria-describedby", about.id);
      }
      row.append(element("div", { className: "input" }, input));
      this._inputs.set(field.name, input);
    }
    this._showFieldsOfBody();
  }

  // What was put in, by the names of the fields.
  values() {
    const given = new Map();
    for (const [name, input] of this._inputs) {
      const value = input.type === "file" ? [...input.files] : input.value.trim();
      if (value.length && this._isUsed(name)) given.set(name, value);
    }
    return given;
  }

  // What stands for values that were not put in, so that the code shown is whole.
  valuesForExample() {
    const given = this.values();
    const shown = new Map();
    for (const field of this._call.fields) {
      const isWanted = given.size ? field.required : isInExample(field, this.body);
      if (given.has(field.name)) shown.set(field.name, given.get(field.name));
      else if (isWanted && field.example !== undefined) shown.set(field.name, field.example);
    }
    return shown;
  }

  // Puts values in, by the names of the fields; all others get empty. `body`: with which kind of body.
  fill(values, body = this.body) {
    this.make();
    this.body = body;
    for (const choice of this._form.querySelectorAll("input[type=radio]")) choice.checked = choice.value === body;
    for (const [name, input] of this._inputs) {
      const value = values[name];
      input.value = value === undefined || input.type === "file" ? "" : String(value);
    }
    this._showFieldsOfBody();
  }

  // The first field without which there is no address, and that is empty.
  missing() {
    const given = this.values();
    return this._call.fields.find((field) => field.in.includes("path") && !given.has(field.name))?.name;
  }

  focus(name = this._inputs.keys().next().value) {
    this._inputs.get(name)?.focus();
  }

  // Says beside a field what is wrong with it. Gives whether there is such a field.
  addProblem(name, text) {
    const input = this._inputs.get(name);
    if (!input) return false;
    input.setAttribute("aria-invalid", "true");
    const problem = element("p", { className: "problem", textContent: text, id: `${input.id}-problem` });
    input.setAttribute("aria-errormessage", problem.id);
    input.after(problem);
    return true;
  }

  clearProblems() {
    for (const input of this._inputs.values()) {
      input.removeAttribute("aria-invalid");
      input.removeAttribute("aria-errormessage");
      find(".problem", input.parentElement)?.remove();
    }
  }

  _row(name) {
    return find(`[data-name="${name}"]`, this._form);
  }

  _isUsed(name) {
    const { in: places } = this._call.fields.find((field) => field.name === name);
    return places.includes(this.body) || !places.some((place) => this._call.bodies.includes(place));
  }

  _showFieldsOfBody() {
    for (const name of this._inputs.keys()) this._row(name).hidden = !this._isUsed(name);
  }

  _bodyChoice() {
    const choices = this._call.bodies.map((body) => {
      const input = element("input", { type: "radio", name: `${this._call.name}-body`, value: body, checked: body === this.body });
      input.addEventListener("change", () => {
        this.body = body;
        this._showFieldsOfBody();
      });
      return element("label", {}, input, t(body === "form" ? "reference.as_form" : "reference.as_json"));
    });
    return element("fieldset", { className: "bodies" }, element("legend", { textContent: t("reference.send_as") }), ...choices);
  }
}

// Of a form only what no other body has: the picture. All else would be searched for beside it.
function isInExample({ in: places }, body) {
  return body === "form" ? places.every((place) => place === "form") : places.some((place) => place !== "form");
}

function makeInput({ kind, choices = [], example }) {
  if (kind === "files") return element("input", { type: "file", multiple: true });
  if (kind === "choice" || kind === "boolean") {
    const values = kind === "boolean" ? ["true", "false"] : choices;
    const options = values.map((value) => element("option", { value, textContent: value }));
    return element("select", {}, element("option", { value: "", textContent: t("reference.unset") }), ...options);
  }
  const properties = { autocomplete: "off", spellcheck: false, placeholder: example === undefined ? "" : String(example) };
  if (kind === "json") return element("textarea", { rows: 2, ...properties });
  // Not of the type number: that would keep back what is none, and the server's answer to it.
  return element("input", { type: "text", inputMode: kind === "number" ? "decimal" : "text", ...properties });
}
