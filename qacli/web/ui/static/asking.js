// Sends a question, and shows its answer while it arrives.

import { $, $$, announce, element, elements, store, stored } from "./dom.js";
import { enrich } from "./copying.js";
import { forgetDraft } from "./drafts.js";
import { attach } from "./files.js";

const form = $("#ask");
const question = $("#question");
const thread = $("#thread");
const side = $("#history");

/** The channel on which the tabs of this browser announce that they have changed the history. */
export const changes = globalThis.BroadcastChannel ? new BroadcastChannel("qa-changes") : null;

let currentPath = location.pathname;

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

  done({ id, status, article, item, thread: first }) {
    const fragment = elements(article);
    const record = $("article", fragment);
    enrich(fragment);
    if (this.reasoning.open) $(".reasoning", record)?.setAttribute("open", "");
    this.article.replaceWith(fragment);
    const entries = $("#entries");
    if (entries && !document.body.classList.contains("looking")) {
      $$("[aria-current]", entries).forEach((link) => link.removeAttribute("aria-current"));
      $(`[data-thread="${first}"]`, entries)?.remove();
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
function setBusy(stop) {
  const [hide, show] = stop ? ["#send", "#stop"] : ["#stop", "#send"];
  const hadFocus = document.activeElement === $(hide);
  $(hide).hidden = true;
  $(show).hidden = false;
  if (hadFocus) (stop ? $(show) : question).focus();
  $("#stop").onclick = stop;
}

/** Ask the server to cancel an answer; its last event then comes as usual. */
async function cancel(id) {
  announce("Stopping.");
  const response = await fetch(`/qa/${id}/cancel`, { method: "POST" }).catch(() => null);
  return response !== null && (response.ok || response.status === 409);
}

function showProblem(text) {
  const problem = $("#ask-problem");
  problem.textContent = text;
  problem.hidden = !text;
}

const CONNECTION_LOST = "The connection was lost. The answer is stored: reload to see it.";
const UNREACHABLE = "The server cannot be reached. Check that it is running.";

async function ask() {
  const body = new FormData(form);
  const text = question.value;
  const controller = new AbortController();
  let draft = null;
  let record = null;
  let isStopped = false;
  const stop = async () => {
    isStopped = true;
    // Without the id the question is cancelled as soon as it has one.
    if (record && !(await cancel(record.id))) controller.abort();
  };
  showProblem("");
  setBusy(stop);
  announce("Asking.");
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body,
      headers: { Accept: "text/event-stream" },
      signal: controller.signal,
    });
    if (response.status === 401) {
      return location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
    }
    if (!response.ok) {
      const problem = await response.json().catch(() => ({}));
      return showProblem(problem.detail ?? `The server answered ${response.status}.`);
    }
    for await (const { name, data } of eventsOf(response)) {
      if (name === "record") {
        record = data;
        if (isStopped) stop();
        document.body.classList.replace("asking", "reading");
        $(".examples")?.remove();
        $("h1").textContent = `Record ${data.id} and its thread`;
        draft = new Draft(text);
        attach([]);
        forgetDraft();
        question.value = "";
        fitHeight(question);
        document.title = `${text.trim().slice(0, 60)} · qa`;
        history.pushState({}, "", data.address);
        currentPath = location.pathname;
        changes?.postMessage(data.id);
      } else if (name === "reasoning") draft.reason(data);
      else if (name === "text") draft.text(data);
      else if (name === "done") {
        draft.done(data);
        return changes?.postMessage(data.id);
      } else if (name === "error") return draft.fail(data.detail);
    }
    draft?.fail(CONNECTION_LOST);
  } catch (error) {
    if (error.name !== "AbortError") draft ? draft.fail(CONNECTION_LOST) : showProblem(UNREACHABLE);
    else if (record) location.assign(record.address); // its page shows the part that arrived
  } finally {
    setBusy(null);
  }
}

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("#stop").hidden) ask();
});

const enterSends = $("#enter-sends");
const ENTER = "qa-enter";

/** Return whether Enter alone sends; by default not with a keyboard on the screen. */
function doesEnterSend() {
  return (stored(ENTER) ?? (matchMedia("(pointer: coarse)").matches ? "breaks" : "sends")) === "sends";
}

function showSendingKey() {
  enterSends.checked = doesEnterSend();
  $("#sending-key").textContent = doesEnterSend() ? "\u21b5" : "\u21e7 \u21b5";
}

if (form && enterSends) {
  showSendingKey();
  enterSends.onchange = () => {
    store(ENTER, enterSends.checked ? "sends" : "breaks");
    showSendingKey();
  };
}

form?.addEventListener("keydown", (event) => {
  // An input method uses Enter to choose a word; Safari reports it as key 229.
  if (event.key !== "Enter" || event.isComposing || event.keyCode === 229) return;
  const isAlways = event.ctrlKey || event.metaKey;
  if (isAlways || (event.target === question && event.shiftKey !== doesEnterSend())) {
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

const WATCH_MS = 1000;
const MAX_WATCH_MS = 10000;

/** Show a record that another request is asking: its text so far, until it is complete. */
export async function watch(id, pause = WATCH_MS) {
  await new Promise((resolve) => setTimeout(resolve, pause));
  const old = document.getElementById(`r${id}`);
  if (!old) return;
  const response = await fetch(`/page/${id}/article`, { headers: { Accept: "text/html" } }).catch(() => null);
  let next = Math.min(pause * 1.5, MAX_WATCH_MS);
  if (response?.ok) {
    const article = $("article", elements(await response.text()));
    const isComplete = article.dataset.status !== "asking";
    const text = (within) => $(".answer", within)?.innerHTML + $(".reasoning .plain", within)?.innerHTML;
    if (isComplete || text(article) !== old.dataset.text) {
      next = WATCH_MS;
      article.dataset.text = text(article);
      if ($(".reasoning", old)?.open) $(".reasoning", article)?.setAttribute("open", "");
      const hadFocus = old.contains(document.activeElement);
      enrich(article);
      old.replaceWith(article);
      if (hadFocus) $(".state button, .acts button", article)?.focus();
    }
    if (isComplete) return announce("The answer is complete.");
  } else if (response?.status === 404) return;
  watch(id, next);
}
