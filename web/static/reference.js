// The documentation of the API: filters its calls, and makes them ready to be tried.

import { signIn } from "./api.js";
import { find, findAll } from "./dom.js";
import { Operation } from "./reference/operation.js";
import { LANGUAGES } from "./reference/snippets.js";
import { t } from "./texts.js";

// --- the calls --------------------------------------------------------------------------------------------

const token = find("#token");
// Calls that are tried send it as it stands here; the cookie lets in after that. A wrong one is told where it is tried.
token?.addEventListener("change", () => signIn(token.value.trim()).catch(() => {}));

const operations = new Map();
const page = {
  token,
  operation: (anchor) => operations.get(anchor),
  chooseLanguage: (name) => operations.forEach((operation) => operation.showLanguage(name)),
};
for (const article of findAll(".operation")) operations.set(article.id, new Operation(article, page));
page.chooseLanguage(Object.keys(LANGUAGES)[0]);

// --- the filter -------------------------------------------------------------------------------------------

const filter = find("#filter");
const searched = new Map(
  [...operations].map(([anchor, { article }]) => {
    const names = findAll("[data-name]", article).map((row) => row.dataset.name);
    return [anchor, [find("h3", article).textContent, find(".call", article).textContent, ...names].join(" ").toLowerCase()];
  }),
);

function applyFilter() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const [anchor, { article }] of operations) {
    const fits = words.every((word) => searched.get(anchor).includes(word));
    article.hidden = !fits;
    find(`[data-call="${anchor}"]`).hidden = !fits;
    count += fits;
  }
  for (const section of findAll("[data-section]")) section.hidden = !find(".operation:not([hidden]), [data-call]:not([hidden])", section);
  for (const name of ["#guide", "#types"]) find(name).hidden = words.length > 0;
  const note = count ? t("reference.filter_found", { count }) : t("reference.filter_none");
  find("#filter-note").textContent = words.length ? note : "";
}

filter.addEventListener("input", applyFilter);
if (filter.value) applyFilter(); // the browser keeps it when the page is loaded again
