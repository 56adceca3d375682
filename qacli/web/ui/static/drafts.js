// Keeps the unsent question of each form in the browser: after Back, a reload or a sign-in it is
// there again, and other tabs with the same form show it.

import { $, store, stored } from "./dom.js";

const question = $("#question");
const PREFIX = "qa-question-";

const key = () => `${PREFIX}${$("#follows")?.value ?? ""}`;

/** Remove the question that is sent now. */
export function forgetDraft() {
  store(key(), "");
}

function restore() {
  if (!question.value) question.value = stored(key()) ?? "";
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
});
