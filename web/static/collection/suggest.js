// Suggests folders that are indexed while one is typed: those in the folder that stands there already.

import { get } from "../api.js";
import { element } from "../dom.js";

const PAUSE_MS = 200;

export function suggestFolders(input) {
  const first = [...input.list.options].map((option) => option.value);
  let timer = null;
  let parent = "";
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(suggest, PAUSE_MS);
  });

  async function suggest() {
    const typed = input.value.slice(0, Math.max(0, input.value.lastIndexOf("/")));
    if (typed === parent) return;
    parent = typed;
    // What is suggested begins with a root: it completes no absolute path.
    const found = typed && !typed.startsWith("/") ? await foldersIn(typed) : [];
    if (typed !== parent) return; // typed on meanwhile
    const paths = new Set([...first, ...found]);
    input.list.replaceChildren(...[...paths].map((value) => element("option", { value })));
  }
}

// None where the folder is outside the library, or the server away: suggestions are no reason to complain.
async function foldersIn(parent) {
  try {
    const { folders } = await get(`/folders?parent=${encodeURIComponent(parent)}`);
    return folders.map(({ path }) => path);
  } catch {
    return [];
  }
}
