// Adds the buttons that copy an answer and its code.

import { $, $$, announce, element } from "./dom.js";

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // The clipboard API needs https; copying a selection works without it.
    const field = element("textarea", { value: text, className: "unseen" });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

async function copyFrom(button, text) {
  await copy(text);
  const label = button.firstChild;
  const before = label.textContent;
  label.textContent = "Copied";
  announce("Copied.");
  setTimeout(() => (label.textContent = before), 1500);
}

/** Add the buttons that copy, and the local times, to HTML from the server. */
export function enrich(within) {
  for (const button of $$("[data-copies]", within)) {
    button.onclick = () => copyFrom(button, document.getElementById(button.dataset.copies).textContent);
  }
  for (const code of $$(".answer pre", within)) {
    const button = element("button", { type: "button", className: "quiet copy-code" }, "Copy");
    button.append(element("span", { className: "unseen" }, " the code"));
    button.onclick = () => copyFrom(button, code.textContent);
    code.replaceWith(element("div", { className: "code" }, code.cloneNode(true), button));
  }
  for (const time of $$("time", within)) time.title = new Date(time.dateTime).toLocaleString();
}

// Scroll to a panel that would open behind the form.
addEventListener(
  "toggle",
  ({ target }) => target.open && target.matches(".act") && $(".panel", target).scrollIntoView({ block: "nearest" }),
  true,
);

