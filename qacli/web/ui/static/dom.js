// Reads and changes the document; keeps small values in the browser.

/** The path below which a proxy publishes the server, without a slash at its end: usually empty. */
export const ROOT = new URL("..", import.meta.url).pathname.slice(0, -1);

export const $ = (selector, within = document) => within.querySelector(selector);
export const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

/** Parse HTML that the server has rendered and sanitised. */
export function elements(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

export function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

/** Scroll an entry of the history into view, and the page only where the list is a part of it. */
export function reveal(entry) {
  const list = $("#history");
  if (!entry?.checkVisibility()) return;
  if (getComputedStyle(list).overflowY === "visible") return entry.scrollIntoView({ block: "nearest" });
  const [box, frame] = [entry.getBoundingClientRect(), list.getBoundingClientRect()];
  const above = Math.max(frame.top, 0) - box.top + 8;
  const below = box.bottom + 8 - Math.min(frame.bottom, innerHeight);
  if (above > 0) list.scrollTop -= above;
  else if (below > 0) list.scrollTop += below;
}

/** Announce a text to screen readers. */
export function announce(text) {
  const status = $("#announcements");
  if (status) status.textContent = text;
}

/** Return a value that the browser keeps; null without it or without local storage. */
export function stored(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Keep a value in the browser, if it has local storage; an empty one is removed. */
export function store(name, value) {
  try {
    if (value) localStorage.setItem(name, value);
    else localStorage.removeItem(name);
  } catch {
    // The page works without it.
  }
}
