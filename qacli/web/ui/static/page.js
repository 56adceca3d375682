// What the page does beyond its links and forms: the answer while it arrives, the keyboard,
// copying. Everything else is the server's, and works without this file.

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

const form = $("#ask");
const question = $("#question");
const thread = $("#thread");
const side = $("#history");
let shown = location.pathname;

document.documentElement.classList.add("scripted-page");

/** The elements in HTML that this page's own server has rendered and sanitised. */
function elements(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function tell(text) {
  const news = $("#news");
  if (news) news.textContent = text;
}

/* ---- asking ------------------------------------------------------------------------------- */

/** The server-sent events of a response, each with its name and its data. */
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const name = /^event: (.*)$/m.exec(part)?.[1];
      const data = /^data: (.*)$/m.exec(part)?.[1];
      if (name) yield { name, data: JSON.parse(data) };
    }
  }
}

/** A record's place in the thread before it is one. */
class Draft {
  constructor(text) {
    // What is settled is read out once; the block that still changes is not, until it settles.
    this.settled = element("div", { className: "settled" });
    this.settled.setAttribute("aria-live", "polite");
    this.growing = element("div", { className: "growing" });
    this.state = element("p", { className: "state" }, "Asking\u2026");
    const heading = element("h2", { className: "question", id: "draft-question" }, text.trim());
    heading.classList.toggle("is-long", text.length > 280);
    this.article = element(
      "article",
      { className: "record arriving" },
      element("header", {}, heading),
      element("div", { className: "answer" }, this.settled, this.growing),
      this.state,
    );
    this.article.setAttribute("aria-labelledby", "draft-question");
    this.article.setAttribute("aria-busy", "true");
    thread.append(this.article);
    this.article.scrollIntoView({ block: "start" });
  }

  text({ settled, growing }) {
    this.state.hidden = true;
    if (settled) this.settled.append(elements(settled));
    this.growing.replaceChildren(elements(growing));
  }

  done({ id, status, article, item }) {
    const made = elements(article);
    const record = $("article", made);
    enrich(made);
    this.article.replaceWith(made);
    const entries = $("#entries");
    if (entries && !document.body.classList.contains("looking")) {
      $$("[aria-current]", entries).forEach((link) => link.removeAttribute("aria-current"));
      entries.prepend(elements(item));
      $(".none", side)?.remove();
    }
    if ($(".answer", record)) {
      $("#follows").value = id;
      $("#question-label").textContent = "Follow up";
      $("#send").textContent = "Send";
      question.placeholder = "Follow up";
    }
    tell(status === "answered" ? "The answer is complete." : `The question has ${status}.`);
  }

  broken(text) {
    this.article.removeAttribute("aria-busy");
    this.article.classList.remove("arriving");
    this.state.hidden = false;
    this.state.textContent = text;
    tell(text);
  }
}

/** While an answer arrives there is one button, and it stops it. */
function busy(controller) {
  const [hide, show] = controller ? ["#send", "#stop"] : ["#stop", "#send"];
  const hadFocus = document.activeElement === $(hide);
  $(hide).hidden = true;
  $(show).hidden = false;
  if (hadFocus) (controller ? $(show) : question).focus();
  $("#stop").onclick = controller ? () => controller.abort() : null;
}

function complain(text) {
  const problem = $("#ask-problem");
  problem.textContent = text;
  problem.hidden = !text;
}

const CUT_OFF = "The connection ended before the answer did. It is kept: reload to see it.";
const UNREACHED = "The server cannot be reached. Is it running?";

async function ask() {
  const body = new URLSearchParams(new FormData(form));
  const text = question.value;
  const controller = new AbortController();
  let draft = null;
  let address = null;
  complain("");
  busy(controller);
  tell("Asking.");
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body,
      headers: { Accept: "text/event-stream" },
      signal: controller.signal,
    });
    if (response.status === 401) return location.assign("/sign-in");
    if (!response.ok) {
      const problem = await response.json().catch(() => ({}));
      return complain(problem.detail ?? `The server answered ${response.status}.`);
    }
    for await (const { name, data } of eventsOf(response)) {
      if (name === "record") {
        address = data.address;
        document.body.classList.replace("asking", "reading");
        $(".examples")?.remove();
        $("h1").textContent = `Record ${data.id} and its thread`;
        draft = new Draft(text);
        question.value = "";
        grow(question);
        document.title = `${text.trim().slice(0, 60)} · qa`;
        history.pushState({}, "", address);
        shown = location.pathname;
      } else if (name === "text") draft.text(data);
      else if (name === "done") return draft.done(data);
      else if (name === "error") return draft.broken(data.detail);
    }
    draft?.broken(CUT_OFF);
  } catch (error) {
    if (error.name !== "AbortError") draft ? draft.broken(CUT_OFF) : complain(UNREACHED);
    else if (address) location.assign(address); // its page says what is kept
  } finally {
    busy(null);
  }
}

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("#stop").hidden) ask();
});

form?.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  }
});

// The address changed while the page stayed: going back means to load what was there.
addEventListener("popstate", () => {
  if (location.pathname !== shown) location.reload();
});

/** Browsers that size a field by its content do it by themselves. */
function grow(field) {
  if (CSS.supports("field-sizing", "content")) return;
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight + 2, innerHeight / 2)}px`;
}

question?.addEventListener("input", () => grow(question));

/** A record that another request is still asking: look now and then until it is done. */
async function watch(id, pause = 1000) {
  await new Promise((resolve) => setTimeout(resolve, pause));
  const response = await fetch(`/page/${id}`, { headers: { Accept: "text/html" } }).catch(() => null);
  if (response?.ok) {
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const record = page.getElementById(`r${id}`);
    if (record && record.dataset.status !== "asking") {
      const made = document.importNode(record, true);
      enrich(made);
      $(`#r${id}`)?.replaceWith(made);
      return tell("The answer is complete.");
    }
  }
  watch(id, Math.min(pause * 1.5, 10000));
}

/* ---- copying ------------------------------------------------------------------------------ */

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https the clipboard is closed; what is selected can be copied all the same.
    const field = element("textarea", { value: text, className: "unseen" });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

async function copied(button, text) {
  await copy(text);
  const label = button.firstChild;
  const before = label.textContent;
  label.textContent = "Copied";
  tell("Copied.");
  setTimeout(() => (label.textContent = before), 1500);
}

/** Give what the server rendered its buttons and the times of the person's own clock. */
function enrich(within) {
  for (const button of $$("[data-copies]", within)) {
    button.onclick = () => copied(button, document.getElementById(button.dataset.copies).textContent);
  }
  for (const code of $$(".answer pre", within)) {
    const button = element("button", { type: "button", className: "quiet copy-code" }, "Copy");
    button.append(element("span", { className: "unseen" }, " the code"));
    button.onclick = () => copied(button, code.textContent);
    code.replaceWith(element("div", { className: "code" }, code.cloneNode(true), button));
  }
  for (const time of $$("time", within)) time.title = new Date(time.dateTime).toLocaleString();
}

// What opens at the bottom must not open behind the field for the follow-up.
addEventListener(
  "toggle",
  ({ target }) => target.open && target.matches(".act") && $(".panel", target).scrollIntoView({ block: "nearest" }),
  true,
);

/* ---- the keyboard ------------------------------------------------------------------------- */

const keysOn = $("#keys-on");

function remembered(value) {
  try {
    if (value === undefined) return localStorage.getItem("qa-keys") !== "off";
    localStorage.setItem("qa-keys", value ? "on" : "off");
  } catch {
    // A browser that keeps nothing: the shortcuts are on.
  }
  return true;
}

if (keysOn) {
  keysOn.checked = remembered();
  keysOn.onchange = () => remembered(keysOn.checked);
}

function help() {
  $("#help")?.showModal();
}

$("#open-help")?.addEventListener("click", help);

function write() {
  if (!question) return location.assign("/#question");
  question.focus();
  question.setSelectionRange(question.value.length, question.value.length);
  question.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const links = $$("#entries a, .turn a", side).filter((link) => link.checkVisibility());
  const focused = links.indexOf(document.activeElement);
  const from = focused >= 0 ? focused : links.findIndex((link) => link.ariaCurrent === "page");
  const next = links[from < 0 && by < 0 ? 0 : from + by];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

/** The record that is meant: where the focus is, or the page's own, or the last. */
function record() {
  const here = document.activeElement.closest("article");
  return here ?? $("article[aria-current]") ?? $$("article", thread).at(-1);
}

function tag() {
  const details = record() && $(".tagging", record());
  if (!details) return;
  details.open = true;
  $("input[name=add]", details).focus();
}

const KEYS = {
  "/": () => $("#search").select(),
  n: () => ($("article") ? location.assign("/#question") : write()),
  f: () => $("article") && write(),
  j: () => step(1),
  k: () => step(-1),
  c: () => record() && $(".copy", record())?.click(),
  t: tag,
  "?": help,
};

function leave(target) {
  const details = target.closest("details[open]");
  if (details) {
    details.open = false;
    $("summary", details).focus();
  } else if (target.matches("input, textarea, select")) target.blur();
}

addEventListener("keydown", (event) => {
  if (!side || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const { target } = event;
  if ($("#help").open) return;
  if (event.key === "Escape") return leave(target);
  if (target.matches("input, textarea, select") || !keysOn.checked || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

/* ---- at the start ------------------------------------------------------------------------- */

enrich(document);
if (location.hash === "#question" && question) write();
$("[aria-current=page]", side ?? document)?.scrollIntoView({ block: "nearest" });
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
for (const waiting of $$("article[data-status=asking]")) watch(waiting.dataset.id);
