// The texts of this page, from its data block; see web/texts.py.

const texts = JSON.parse(document.getElementById("texts").textContent);

// `t("search.found", { count: 3 })`: numbers are written with thousands separators, and `count` chooses the form.
export function t(key, values = {}) {
  let found = key.split(".").reduce((part, name) => part?.[name], texts);
  if (found === undefined) throw new Error(`There is no text ${key}`);
  if (typeof found === "object") found = values.count === 1 ? found.one : found.other;
  return found.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? value.toLocaleString("en") : String(value);
  });
}
