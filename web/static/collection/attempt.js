// Changes something on the server, says why where it does not work, and asks for the server's token where it has one.

import { signIn } from "../api.js";
import { codeSpans, find, sleep } from "../dom.js";
import { t } from "../texts.js";

const problem = find(".problem[role=alert]");
const token = find(".token");
const input = find("input", token);

let busy = false; // a second click is not a second wish
let refused = null; // what was refused for want of the token

// Does the work: an async function. What the server wants later is done later. `wanted`: the part of the work for which
// the token may have to be asked.
export async function attempt(work, wanted = work) {
  if (busy) return;
  busy = true;
  try {
    for (let refusal = await outcome(work); refusal !== null; refusal = await outcome(work)) {
      show(refusal);
      if (refusal.status === 401) ask(wanted);
      if (!refusal.isTooSoon) return;
      await sleep(1000 * refusal.retrySeconds);
    }
  } finally {
    busy = false;
  }
}

async function outcome(work) {
  try {
    await work();
  } catch (error) {
    return error;
  }
  problem.hidden = true;
  refused = null;
  token.hidden = true;
  return null;
}

function show(error) {
  const text = error.isTooSoon ? t("common.goes_on", { reason: error.message }) : error.message;
  problem.replaceChildren(...codeSpans(text));
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
  const wanted = refused;
  attempt(async () => {
    if (input.value) await signIn(input.value); // once, if the rest has to be done later
    input.value = "";
    await wanted();
  }, wanted);
});
