// Adds files to the question, by drop, paste or choice: text goes into the question, and images,
// PDFs and sounds are sent with it.

import { $, announce, element } from "./dom.js";
import { draftFiles, storeDraftFiles } from "./drafts.js";

const form = $("#ask");
const question = $("#question");
const input = $("#files");
const list = $("#file-list");

const MAX_TEXT_BYTES = 500_000;
const IS_TEXT = /^(text\/|application\/(json|xml|yaml|toml|javascript|sql|x-sh))|^$/;
const MAX_FILE_BYTES = 20_000_000;
/** The beginning of a PNG, JPEG, GIF, WebP, PDF, WAV or MP3; the server looks again. */
const STARTS = /^(\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|RIFF....(WEBP|WAVE)|%PDF-|ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb])/s;

async function isMedia(file) {
  const start = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  return STARTS.test(String.fromCharCode(...start));
}

/** Return a file as a fenced block under its name; null if it is not a text. */
async function block(file) {
  if (!IS_TEXT.test(file.type) || file.size > MAX_TEXT_BYTES) return null;
  const text = await file.text();
  if (text.includes("\0") || text.includes("\ufffd")) return null;
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${file.name}:\n${fence}\n${text.replace(/\n?$/, "\n")}${fence}\n`;
}

/** Return a file as an item of the list, with a button that takes it out. */
function item(file) {
  const size = element("span", { className: "size" }, `${Math.ceil(file.size / 1000)} kB`);
  const remove = element("button", { type: "button", className: "quiet", ariaLabel: `Remove ${file.name}` }, "\u00d7");
  remove.onclick = () => {
    attach([...input.files].filter((other) => other !== file));
    question.focus();
  };
  const node = element("li", {}, element("span", {}, file.name), size, remove);
  if (file.type.startsWith("image/")) {
    const reader = new FileReader();
    reader.onload = () => node.prepend(element("img", { src: reader.result, alt: "" }));
    reader.readAsDataURL(file);
  }
  return node;
}

/** Send these files with the question, instead of those before. */
export function attach(files, isStored = true) {
  const data = new DataTransfer();
  for (const file of files) data.items.add(file);
  input.files = data.files;
  list.replaceChildren(...[...input.files].map(item));
  list.hidden = !input.files.length;
  if (isStored) storeDraftFiles([...input.files]);
}

/** Add files to the question, and name those that cannot be added. */
async function add(added, before = [...input.files]) {
  const texts = [];
  const attached = [];
  const refused = [];
  for (const file of added) {
    if (await isMedia(file)) (file.size <= MAX_FILE_BYTES ? attached : refused).push(file);
    else {
      const text = await block(file);
      if (text === null) refused.push(file);
      else texts.push(text);
    }
  }
  if (texts.length) {
    question.value = [question.value.trimEnd(), ...texts].filter(Boolean).join("\n\n");
    question.dispatchEvent(new Event("input", { bubbles: true }));
  }
  attach([...before, ...attached]);
  if (refused.length < added.length) announce(`Added: ${added.length - refused.length}`);
  const problem = $("#ask-problem");
  problem.textContent = refused.length
    ? `These files cannot be added: ${refused.map(({ name }) => name).join(", ")}. Add text of at most 500 kB; or PNG, JPEG, WebP and GIF images, PDFs, WAV and MP3 files of at most 20 MB.`
    : "";
  problem.hidden = !refused.length;
}

/** Handle the files of an event, if it has any; text is left to the browser. */
function take(event, data) {
  if (!data?.files.length) return;
  event.preventDefault();
  add([...data.files]);
}

if (input) {
  form.addEventListener("paste", (event) => take(event, event.clipboardData));
  form.addEventListener("drop", (event) => take(event, event.dataTransfer));
  form.addEventListener("dragover", (event) => event.dataTransfer.types.includes("Files") && event.preventDefault());
  let chosen = [];
  // The choice replaces the files of the field.
  input.addEventListener("click", () => (chosen = [...input.files]));
  input.addEventListener("change", () => add([...input.files], chosen));
  draftFiles().then((files) => files?.length && !input.files.length && attach(files, false));
}
