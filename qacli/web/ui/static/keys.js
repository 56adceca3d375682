// The keyboard shortcuts, and their help.

import { $, $$, ROOT, reveal, store, stored } from "./dom.js";

const question = $("#question");
const thread = $("#thread");
const side = $("#history");

const keysOn = $("#keys-on");

if (keysOn) {
  keysOn.checked = stored("qa-keys") !== "off";
  keysOn.onchange = () => store("qa-keys", keysOn.checked ? "on" : "off");
}

function showHelp() {
  $("#help")?.showModal();
}

$("#open-help")?.addEventListener("click", showHelp);

export function focusQuestion() {
  if (!question) return location.assign(`${ROOT}/#question`);
  question.focus();
  question.setSelectionRange(question.value.length, question.value.length);
  question.scrollIntoView({ block: "nearest" });
}

function moveFocus(by) {
  const links = $$("#entries a, .turn a", side).filter((link) => link.checkVisibility());
  const focused = links.indexOf(document.activeElement);
  const from = focused >= 0 ? focused : links.findIndex((link) => link.ariaCurrent === "page");
  const next = links[from < 0 && by < 0 ? 0 : from + by];
  next?.focus({ preventScroll: true });
  reveal(next);
}

/** The record with the focus, else the addressed one, else the last one. */
function currentRecord() {
  const focused = document.activeElement.closest("article");
  return focused ?? $("article[aria-current]") ?? $$("article", thread).at(-1);
}

function openTags() {
  const details = currentRecord() && $(".tagging", currentRecord());
  if (!details) return;
  details.open = true;
  $("input[name=add]", details).focus();
}

const KEYS = {
  "/": () => $("#search").select(),
  n: () => ($("article") ? location.assign(`${ROOT}/#question`) : focusQuestion()),
  f: () => $("article") && focusQuestion(),
  j: () => moveFocus(1),
  k: () => moveFocus(-1),
  c: () => currentRecord() && $(".copy", currentRecord())?.click(),
  t: openTags,
  "?": showHelp,
};

function closeOrBlur(target) {
  const details = target.closest("details[open]");
  if (details) {
    details.open = false;
    $("summary", details).focus();
  } else if (target.matches("input, textarea, select")) target.blur();
}

addEventListener("keydown", (event) => {
  if (!side || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const { target } = event;
  if ($("#help")?.open) return;
  if (event.key === "Escape") return closeOrBlur(target);
  if (target.matches("input, textarea, select") || !keysOn.checked || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

