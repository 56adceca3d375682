// Sends a question, and shows its answer while it arrives.

import { $, $$, ROOT, announce, element, elements, store, stored } from "./dom.js";
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

let drafts = 0;

const OUTCOMES = {
  answered: "The answer is complete.",
  failed: "The question has failed.",
  interrupted: "The answer was interrupted.",
};

/** The article of a question whose answer is arriving. */
class Draft {
  constructor(text, place, model) {
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
    const id = `draft-question-${(drafts += 1)}`;
    const heading = element("h2", { className: "question", id }, text.trim());
    heading.classList.toggle("is-long", text.length > 280);
    this.article = element(
      "article",
      { className: "record arriving" },
      element("header", {}, heading, ...(place === thread ? [] : [element("p", { className: "meta" }, model)])),
      this.reasoning,
      element("div", { className: "answer" }, this.settled, this.growing),
      this.state,
    );
    this.article.setAttribute("aria-labelledby", id);
    this.article.setAttribute("aria-busy", "true");
    place.append(this.article);
  }

  /** Scroll to the question; the first one is shown below the top of the page. */
  scrollTo() {
    const isFirst = this.article === thread.firstElementChild;
    (isFirst ? document.body : this.article).scrollIntoView({ block: "start" });
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
      $("#ask-effort option").textContent = "as before";
    }
    announce(OUTCOMES[status]);
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
  const response = await fetch(`${ROOT}/qa/${id}/cancel`, { method: "POST" }).catch(() => null);
  return response !== null && (response.ok || response.status === 409);
}

function showProblem(text) {
  const problem = $("#ask-problem");
  problem.textContent = text;
  problem.hidden = !text;
}

const CONNECTION_LOST = "The connection was lost. The answer is stored: reload to see it.";
const UNREACHABLE = "The server cannot be reached. Check that it is running.";

/** A question that is sent, and its answer while it arrives. */
class Asking {
  #controller = new AbortController();
  #draft = null;
  #record = null;
  #isStopped = false;

  /** Prepare a question: the fields of the form, its text, and the element for its answer. */
  constructor(body, text, place) {
    Object.assign(this, { body, text, place });
  }

  async stop() {
    this.#isStopped = true;
    // Without the id the question is cancelled as soon as it has one.
    if (this.#record && !(await cancel(this.#record.id))) this.#controller.abort();
  }

  get isStopped() {
    return this.#isStopped;
  }

  /** Ask; call a function with the record when it has one, or another with a problem before it. */
  async run(onRecord, onProblem) {
    const fail = (text) => (this.#draft ? this.#draft.fail(text) : onProblem(text));
    try {
      const response = await fetch(`${ROOT}/page/ask`, {
        method: "POST",
        body: this.body,
        headers: { Accept: "text/event-stream" },
        signal: this.#controller.signal,
      });
      if (response.status === 401) {
        return location.assign(`${ROOT}/sign-in?next=${encodeURIComponent(location.pathname.slice(ROOT.length) + location.search)}`);
      }
      if (!response.ok) {
        const problem = await response.json().catch(() => ({}));
        return fail(problem.detail ?? `The server answered ${response.status}.`);
      }
      for await (const { name, data } of eventsOf(response)) {
        if (name === "record") {
          this.#record = data;
          if (this.#isStopped) this.stop();
          this.#draft = new Draft(this.text, this.place, this.body.get("model") || $("#ask-model").placeholder);
          onRecord(data);
          if (this.place === thread) this.#draft.scrollTo(); // only now: the form has become smaller
          changes?.postMessage(data.id);
        } else if (name === "reasoning") this.#draft.reason(data);
        else if (name === "text") this.#draft.text(data);
        else if (name === "done") {
          this.#draft.done(data);
          return changes?.postMessage(data.id);
        } else if (name === "error") return fail(data.detail);
      }
      fail(this.#draft ? CONNECTION_LOST : UNREACHABLE);
    } catch (error) {
      if (error.name !== "AbortError") fail(this.#draft ? CONNECTION_LOST : UNREACHABLE);
      else if (this.#record) location.assign(this.#record.address); // its page shows the part that arrived
    }
  }
}

/** Send the fields of a form; with a second model, ask both at the same time, side by side. */
async function send(body, text) {
  const second = body.get("second_model")?.trim();
  const place = second ? element("div", { className: "columns" }) : thread;
  const asked = [new Asking(body, text, place)];
  let other = null;
  showProblem("");
  setBusy(() => asked.forEach((asking) => asking.stop()));
  announce("Asking.");

  const begin = ({ id, address }) => {
    document.body.classList.replace("asking", "reading");
    $(".examples")?.remove();
    $("h1").textContent = second ? "Two answers" : `Record ${id} and its thread`;
    document.title = `${text.trim().slice(0, 60)} \u00b7 qa`;
    history.pushState({}, "", second ? `${ROOT}/page/${id}/compare` : address);
    currentPath = location.pathname;
    if (!second || asked[0].isStopped) return;
    body.set("model", second);
    body.set("repeats_id", id);
    asked.push(new Asking(body, text, place));
    other = asked[1].run(() => {}, (problem) => new Draft(text, place, second).fail(problem));
  };
  const clear = (record) => {
    if (second) {
      thread.append(place);
      $("#ask .options").open = false;
    }
    if (text === question.value) {
      attach([]);
      forgetDraft();
      question.value = "";
      fitHeight(question);
    }
    $("#repeats").value = "";
    begin(record);
  };
  await asked[0].run(clear, showProblem);
  await other;
  setBusy(null);
  form.hidden = place.isConnected && place !== thread; // each answer has its own follow-ups
}

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("#stop").hidden) send(new FormData(form), question.value);
});

// The buttons that ask again.
thread?.addEventListener("submit", (event) => {
  if (!form || event.target.getAttribute("action") !== `${ROOT}/page/ask`) return;
  event.preventDefault();
  const body = new FormData(event.target);
  if ($("#stop").hidden) send(body, body.get("question"));
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
  const response = await fetch(`${ROOT}/page/${id}/article`, { headers: { Accept: "text/html" } }).catch(() => null);
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
