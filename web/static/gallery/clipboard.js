// Copies a text. Gives whether it worked.

import { element } from "../dom.js";

export async function copyText(text, parent = document.body) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyOldWay(text, parent); // plain HTTP in a local network: browsers give no clipboard there
  }
}

// `parent`: an open dialog makes everything outside it inert.
function copyOldWay(text, parent) {
  const focused = document.activeElement;
  const field = element("textarea", { value: text, className: "visually-hidden", ariaHidden: "true" });
  parent.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return copied;
}
