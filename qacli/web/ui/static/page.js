// Adds to the links and forms of the page: streamed answers, the keyboard and copying.
// Everything else is rendered by the server, and works without this file.

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

const form = $("#ask");
const question = $("#question");
const thread = $("#thread");
const side = $("#history");
let currentPath = location.pathname;

document.documentElement.classList.add("scripted-page");

/** Parse HTML that the server has rendered and sanitised. */
function elements(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

/** Announce a text to screen readers. */
function announce(text) {
  const status = $("#announcements");
  if (status) status.textContent = text;
}

/* ---- asking ------------------------------------------------------------------------------- */

/** Yield the name and the data of each server-sent event of a response. */
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

/** The article of a question whose answer is arriving. */
class Draft {
  constructor(text) {
    // Screen readers read a complete block once, and an unfinished block not at all.
    this.settled = element("div", { className: "settled" });
    this.settled.setAttribute("aria-live", "polite");
    this.growing = element("div", { className: "growing" });
    this.state = element("p", { className: "state" }, "Asking\u2026");
    // Screen readers do not announce reasoning: it is there to be opened.
    this.thoughts = element("div", { className: "plain", tabIndex: 0, role: "group", ariaLabel: "Reasoning" });
    this.reasoning = element(
      "details",
      { className: "reasoning", hidden: true },
      element("summary", {}, "Reasoning"),
      this.thoughts,
    );
    const heading = element("h2", { className: "question", id: "draft-question" }, text.trim());
    heading.classList.toggle("is-long", text.length > 280);
    this.article = element(
      "article",
      { className: "record arriving" },
      element("header", {}, heading),
      this.reasoning,
      element("div", { className: "answer" }, this.settled, this.growing),
      this.state,
    );
    this.article.setAttribute("aria-labelledby", "draft-question");
    this.article.setAttribute("aria-busy", "true");
    thread.append(this.article);
    this.article.scrollIntoView({ block: "start" });
  }

  reason({ text }) {
    this.reasoning.hidden = false;
    if (this.growing.childElementCount === 0) this.state.textContent = "Thinking\u2026";
    const box = this.thoughts;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    box.append(text);
    if (atEnd) box.scrollTop = box.scrollHeight;
  }

  text({ settled, growing }) {
    this.state.hidden = true;
    if (settled) this.settled.append(elements(settled));
    this.growing.replaceChildren(elements(growing));
  }

  done({ id, status, article, item }) {
    const fragment = elements(article);
    const record = $("article", fragment);
    enrich(fragment);
    if (this.reasoning.open) $(".reasoning", record)?.setAttribute("open", "");
    this.article.replaceWith(fragment);
    const entries = $("#entries");
    if (entries && !document.body.classList.contains("looking")) {
      $$("[aria-current]", entries).forEach((link) => link.removeAttribute("aria-current"));
      entries.prepend(elements(item));
      $(".empty", side)?.remove();
    }
    if ($(".answer", record)) {
      $("#follows").value = id;
      $("#question-label").textContent = "Follow up";
      $("#send").textContent = "Send";
      question.placeholder = "Follow up";
    }
    announce(status === "answered" ? "The answer is complete." : `The question has ${status}.`);
  }

  fail(text) {
    this.article.removeAttribute("aria-busy");
    this.article.classList.remove("arriving");
    this.state.hidden = false;
    this.state.textContent = text;
    announce(text);
  }
}

/** Show the Stop button while an answer arrives, else the button that sends the form. */
function setBusy(controller) {
  const [hide, show] = controller ? ["#send", "#stop"] : ["#stop", "#send"];
  const hadFocus = document.activeElement === $(hide);
  $(hide).hidden = true;
  $(show).hidden = false;
  if (hadFocus) (controller ? $(show) : question).focus();
  $("#stop").onclick = controller ? () => controller.abort() : null;
}

function showProblem(text) {
  const problem = $("#ask-problem");
  problem.textContent = text;
  problem.hidden = !text;
}

const CONNECTION_LOST = "The connection was lost. The answer is stored: reload to see it.";
const UNREACHABLE = "The server cannot be reached. Check that it is running.";

async function ask() {
  const body = new URLSearchParams(new FormData(form));
  const text = question.value;
  const controller = new AbortController();
  let draft = null;
  let address = null;
  showProblem("");
  setBusy(controller);
  announce("Asking.");
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
      return showProblem(problem.detail ?? `The server answered ${response.status}.`);
    }
    for await (const { name, data } of eventsOf(response)) {
      if (name === "record") {
        address = data.address;
        document.body.classList.replace("asking", "reading");
        $(".examples")?.remove();
        $("h1").textContent = `Record ${data.id} and its thread`;
        draft = new Draft(text);
        question.value = "";
        fitHeight(question);
        document.title = `${text.trim().slice(0, 60)} · qa`;
        history.pushState({}, "", address);
        currentPath = location.pathname;
      } else if (name === "reasoning") draft.reason(data);
      else if (name === "text") draft.text(data);
      else if (name === "done") return draft.done(data);
      else if (name === "error") return draft.fail(data.detail);
    }
    draft?.fail(CONNECTION_LOST);
  } catch (error) {
    if (error.name !== "AbortError") draft ? draft.fail(CONNECTION_LOST) : showProblem(UNREACHABLE);
    else if (address) location.assign(address); // its page shows the part that arrived
  } finally {
    setBusy(null);
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

// The address was changed without loading a page, so going back must load the page.
addEventListener("popstate", () => {
  if (location.pathname !== currentPath) location.reload();
});

/** Fit the height of a field to its text, in browsers without field-sizing. */
function fitHeight(field) {
  if (CSS.supports("field-sizing", "content")) return;
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight + 2, innerHeight / 2)}px`;
}

question?.addEventListener("input", () => fitHeight(question));

/** Poll a record that another request is asking until it is complete. */
async function watch(id, pause = 1000) {
  await new Promise((resolve) => setTimeout(resolve, pause));
  const response = await fetch(`/page/${id}`, { headers: { Accept: "text/html" } }).catch(() => null);
  if (response?.ok) {
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const record = page.getElementById(`r${id}`);
    if (record && record.dataset.status !== "asking") {
      const article = document.importNode(record, true);
      enrich(article);
      $(`#r${id}`)?.replaceWith(article);
      return announce("The answer is complete.");
    }
  }
  watch(id, Math.min(pause * 1.5, 10000));
}

/* ---- copying ------------------------------------------------------------------------------ */

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
function enrich(within) {
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

/* ---- the keyboard ------------------------------------------------------------------------- */

const keysOn = $("#keys-on");

function storedKeysOn(value) {
  try {
    if (value === undefined) return localStorage.getItem("qa-keys") !== "off";
    localStorage.setItem("qa-keys", value ? "on" : "off");
  } catch {
    // Without local storage the shortcuts are on.
  }
  return true;
}

if (keysOn) {
  keysOn.checked = storedKeysOn();
  keysOn.onchange = () => storedKeysOn(keysOn.checked);
}

function showHelp() {
  $("#help")?.showModal();
}

$("#open-help")?.addEventListener("click", showHelp);

function focusQuestion() {
  if (!question) return location.assign("/#question");
  question.focus();
  question.setSelectionRange(question.value.length, question.value.length);
  question.scrollIntoView({ block: "nearest" });
}

function moveFocus(by) {
  const links = $$("#entries a, .turn a", side).filter((link) => link.checkVisibility());
  const focused = links.indexOf(document.activeElement);
  const from = focused >= 0 ? focused : links.findIndex((link) => link.ariaCurrent === "page");
  const next = links[from < 0 && by < 0 ? 0 : from + by];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
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
  n: () => ($("article") ? location.assign("/#question") : focusQuestion()),
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
  if ($("#help").open) return;
  if (event.key === "Escape") return closeOrBlur(target);
  if (target.matches("input, textarea, select") || !keysOn.checked || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

/* ---- at the start ------------------------------------------------------------------------- */

enrich(document);
if (location.hash === "#question" && question) focusQuestion();
$("[aria-current=page]", side ?? document)?.scrollIntoView({ block: "nearest" });
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
for (const waiting of $$("article[data-status=asking]")) watch(waiting.dataset.id);
