// Follows the questions of other tabs: the list, and the thread that is open here.

import { $, $$ } from "./dom.js";
import { changes, watch } from "./asking.js";
import { enrich } from "./copying.js";

/** Take over the list, and the new records of the thread, from the page as it is now. */
async function refresh() {
  const response = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!response?.ok) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const entries = $("#entries");
  const current = $("#entries", page);
  if (entries && current && !entries.contains(document.activeElement)) {
    entries.replaceWith(document.importNode(current, true));
    if (current.childElementCount) $("#history .empty")?.remove();
  }
  if ($("article.arriving")) return;
  for (const article of $$("#thread > article", page)) {
    if (document.getElementById(article.id)) continue;
    const copy = document.importNode(article, true);
    enrich(copy);
    $("#thread").append(copy);
    if ($("#follows")) $("#follows").value = article.dataset.id;
    if (copy.dataset.status === "asking") watch(copy.dataset.id);
  }
}

changes?.addEventListener("message", refresh);
