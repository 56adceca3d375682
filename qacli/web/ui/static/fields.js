// Helps to fill in the form: the names of the models, and text files by drop and paste.

import { $, ROOT, announce, element } from "./dom.js";

const form = $("#ask");
const question = $("#question");
const models = $("#models");

const MAX_FILE_BYTES = 500_000;
const IS_TEXT = /^(text\/|application\/(json|xml|yaml|toml|javascript|sql|x-sh))|^$/;

/** Load the names of the models once, when the options are opened. */
async function loadModels() {
  const response = await fetch(`${ROOT}/v1/models`).catch(() => null);
  if (!response?.ok) return;
  const { data } = await response.json();
  models.replaceChildren(...data.map(({ id }) => element("option", { value: id })));
}

if (models) $("#ask .options").addEventListener("toggle", loadModels, { once: true });

/** Return a file as a fenced block under its name; null if it is not a text. */
async function block(file) {
  if (!IS_TEXT.test(file.type) || file.size > MAX_FILE_BYTES) return null;
  const text = await file.text();
  if (text.includes("\0") || text.includes("\ufffd")) return null;
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${file.name}:\n${fence}\n${text.replace(/\n?$/, "\n")}${fence}\n`;
}

/** Add text files below the question, and name those that cannot be added. */
async function add(files) {
  const blocks = await Promise.all([...files].map(block));
  const texts = blocks.filter((text) => text !== null);
  if (texts.length) {
    question.value = [question.value.trimEnd(), ...texts].filter(Boolean).join("\n\n");
    question.dispatchEvent(new Event("input", { bubbles: true }));
    announce(`Added: ${texts.length}`);
  }
  const refused = [...files].filter((_, number) => blocks[number] === null).map((file) => file.name);
  const problem = $("#ask-problem");
  problem.textContent = refused.length
    ? `Only text files of at most ${MAX_FILE_BYTES / 1000} kB can be added here: ${refused.join(", ")}. Use qa ask -f for others.`
    : "";
  problem.hidden = !refused.length;
}

/** Handle the files of an event, if it has any; text is left to the browser. */
function take(event, data) {
  if (!data?.files.length) return;
  event.preventDefault();
  add(data.files);
}

form?.addEventListener("paste", (event) => take(event, event.clipboardData));
form?.addEventListener("drop", (event) => take(event, event.dataTransfer));
form?.addEventListener("dragover", (event) => event.dataTransfer.types.includes("Files") && event.preventDefault());
