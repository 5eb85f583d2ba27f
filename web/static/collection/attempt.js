// Changes something on the server, says why where it does not work, and asks for the server's token where it has one.

import { setToken } from "../api.js";
import { codeSpans, find } from "../dom.js";

const problem = find(".problem[role=alert]");
const token = find(".token");
const input = find("input", token);

let busy = false; // a second click is not a second wish
let refused = null; // what was refused for want of the token

// Does the work: an async function.
export async function attempt(work) {
  if (busy) return;
  busy = true;
  problem.hidden = true;
  try {
    await work();
    refused = null;
    token.hidden = true;
  } catch (error) {
    show(error);
    if (error.status === 401) ask(work);
  } finally {
    busy = false;
  }
}

function show(error) {
  problem.replaceChildren(...codeSpans(error.message));
  problem.hidden = false;
}

function ask(work) {
  refused = work;
  token.hidden = false;
  input.select();
  input.focus();
}

token.addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(input.value);
  if (refused) attempt(refused);
});
