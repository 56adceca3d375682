// Keeps the unsent question of each form, and its files, in the browser: after Back, a reload or a
// sign-in they are there again, and other tabs with the same form show the question.

import { $, store, stored } from "./dom.js";

const question = $("#question");
const PREFIX = "qa-question-";
const DATABASE = "qa-drafts";

/** An earlier question that is edited has a draft of its own. */
function key() {
  const repeats = $("#repeats")?.value;
  return `${PREFIX}${$("#follows")?.value ?? ""}${repeats ? `-again-${repeats}` : ""}`;
}

/** Remove the question that is sent now; its files are removed when the field has none. */
export function forgetDraft() {
  store(key(), "");
}

/** Call a function with the store of files; return its result, undefined without a store. */
function withFiles(use) {
  return new Promise((resolve) => {
    const opening = globalThis.indexedDB?.open(DATABASE, 1);
    if (!opening) return resolve();
    opening.onupgradeneeded = () => opening.result.createObjectStore("files");
    opening.onerror = () => resolve();
    opening.onsuccess = () => {
      const request = use(opening.result.transaction("files", "readwrite").objectStore("files"));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve();
      opening.result.close(); // after the transaction
    };
  });
}

/** Keep the files of the question; an empty list removes them. */
export function storeDraftFiles(files) {
  const name = key();
  return withFiles((kept) => (files.length ? kept.put(files, name) : kept.delete(name)));
}

/** Return the files of the question, if the browser has any. */
export function draftFiles() {
  return withFiles((kept) => kept.get(key()));
}

function restore() {
  const draft = stored(key());
  if (draft && (!question.value || $("#repeats").value)) question.value = draft;
}

if (question) {
  restore();
  question.addEventListener("input", () => store(key(), question.value));
  // The page comes from the browser's cache, with the fields as they were.
  addEventListener("pageshow", (event) => event.persisted && restore());
  addEventListener("storage", (event) => {
    if (event.key === key() && document.activeElement !== question) question.value = event.newValue ?? "";
  });
}

// The next user of this browser must not read it.
$("form[action='/sign-out']")?.addEventListener("submit", () => {
  for (const name of Object.keys(localStorage)) if (name.startsWith(PREFIX)) localStorage.removeItem(name);
  withFiles((kept) => kept.clear());
});
