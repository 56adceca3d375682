"""The page in a real Chromium: streaming, the keyboard, what it says to a screen reader."""

from __future__ import annotations

import os
import shutil
from base64 import b64decode
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from integration.web.ui.test_views import EVIL, keep
from playwright.sync_api import expect, sync_playwright
from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fake_provider import FakeProvider
    from flask import Flask
    from playwright.sync_api import Browser, ConsoleMessage, Page

    from qacli.db.records import Store

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = [
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian's package is chromium"),
]

RICH = """One paragraph with a [link](https://a.example) and `code`.

## A heading

```python
def f(x: int) -> str:  # a comment
    return f"{x} and some more text, so that this line is too long for a phone, or a narrow window"
```

| a | b |
|---|--:|
| 1 | 2 |

> quoted
"""
PIXEL = b64decode(
    b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYPj/HwADAgH/eL9GtQAAAABJRU5ErkJggg=="
)

WATCH = """() => {
  const text = (selector) => document.querySelector(selector)?.textContent ?? "";
  window.seen = [];
  const look = () => window.seen.push({
    settled: text(".arriving [aria-live=polite]"),
    growing: text(".arriving .growing"),
    bold: text(".arriving .answer strong"),
    busy: !!document.querySelector(".arriving[aria-busy=true]"),
    stop: !document.querySelector("#stop").hidden,
  });
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true });
}"""
"""Records what the page shows in between, for which the test may look too late."""


class Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Print no log."""


@dataclass
class Visit:
    """A page in a browser, with the errors on it."""

    page: Page
    address: str
    errors: list[str] = field(default_factory=list)
    expected: set[str] = field(default_factory=set)

    def go(self, path: str) -> Page:
        self.page.goto(self.address + path)
        return self.page

    def note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def serve(build: Callable[..., Flask], store: Store) -> Iterator[Callable[..., str]]:
    """Start a server on the history, and return its address."""
    assert store
    with ExitStack() as stack:

        def start(**changes: Any) -> str:
            server = make_server(
                "127.0.0.1", 0, build(**changes), threaded=True, request_handler=Quiet
            )
            thread = Thread(target=server.serve_forever)
            thread.start()
            stack.callback(server.server_close)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://localhost:{server.port}"

        yield start


@pytest.fixture
def visit(browser: Browser, serve: Callable[..., str]) -> Iterator[Callable[..., Visit]]:
    """Open a page of a new server; errors and requests to other sites fail the test."""
    with ExitStack() as stack:

        def begin(
            path: str = "/", *, server: dict[str, Any] | None = None, **options: Any
        ) -> Visit:
            context = browser.new_context(**{"reduced_motion": "reduce", **options})
            stack.callback(context.close)
            context.set_default_timeout(15_000)
            visit = Visit(context.new_page(), serve(**(server or {})))
            visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
            visit.page.on("console", visit.note)

            def check() -> None:
                errors = [
                    text for text in visit.errors if not any(e in text for e in visit.expected)
                ]
                assert errors == []

            stack.callback(check)
            visit.page.on(
                "request",
                lambda request: (
                    None
                    if request.url.startswith((visit.address, "data:"))
                    else visit.errors.append(f"fetched {request.url}")
                ),
            )
            visit.go(path)
            return visit

        yield begin


def test_ask_shows_the_answer_while_it_arrives(visit: Callable[..., Visit], store: Store) -> None:
    keep(store, "An earlier one")
    page = visit().page
    page.keyboard.press("n")
    expect(page.get_by_label("Your question")).to_be_focused()
    page.get_by_label("Your question").fill(
        "[[text='Hello.\n\n**Bold** words,\n\nand more of them to come' delay=0.15]]"
    )
    page.evaluate(WATCH)
    page.keyboard.press("Enter")
    expect(page.locator("article#r2 .answer")).to_contain_text("and more of them to come")
    expect(page.get_by_role("status")).to_have_text("The answer is complete.")
    seen = page.evaluate("window.seen")
    assert all(look["stop"] for look in seen if look["busy"])
    assert any(look["settled"].strip() == "Hello." and look["growing"] for look in seen)
    assert any(look["bold"] and "to come" not in look["growing"] for look in seen)
    assert page.url.endswith("/page/2")
    expect(page.locator("#entries .entry")).to_have_count(2)
    expect(page.locator("#entries [aria-current]")).to_contain_text("[[text='Hello.")

    page.get_by_label("Follow up").fill("And then?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("article#r3 .answer")).to_have_text("Answer to: And then?")
    assert store.get(3).follows_id == 2
    expect(page.get_by_label("Follow up")).to_be_focused()
    page.reload()
    expect(page.locator("article")).to_have_count(2)
    page.go_back()
    expect(page.locator("article")).to_have_count(2)  # the first record, and what follows it up
    assert page.url.endswith("/page/2")


def test_stop_button_cancels_the_answer_and_keeps_the_received_text(
    visit: Callable[..., Visit], store: Store, provider: FakeProvider, wait_for: Callable[..., Any]
) -> None:
    page = visit().page
    page.get_by_label("Your question").fill("[[text='One two three four five six' delay=0.4]]")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".arriving .answer")).to_contain_text("One")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("article#r1 .state")).to_contain_text("Interrupted.")
    expect(page.get_by_role("status")).to_have_text("The answer was interrupted.")
    assert store.get(1).status == "interrupted"
    assert (store.get(1).answer or "").startswith("One")
    assert wait_for(lambda: provider.stats.get("client_gone"))


def test_second_tab_shows_the_answer_while_it_arrives(visit: Callable[..., Visit]) -> None:
    visited = visit()
    page = visited.page
    other = page.context.new_page()
    other.goto(visited.address)
    question = page.get_by_label("Your question")
    question.fill("[[text='One two three four five six seven eight' delay=0.5]]")
    expect(other.get_by_label("Your question")).to_have_value(question.input_value())
    question.press("Enter")
    expect(other.locator("#entries .entry")).to_have_count(1)
    expect(other.get_by_label("Your question")).to_have_value("")
    page.wait_for_url("**/page/1")
    page.reload()
    for tab in (page, other):
        tab.goto(f"{visited.address}/page/1")
        expect(tab.locator("#r1[data-status=asking] .answer")).to_contain_text("One")
    other.get_by_role("button", name="Stop the answer").click()
    expect(other.locator("#r1 .state")).to_contain_text("Interrupted.")
    expect(page.locator("#r1 .state")).to_contain_text("Interrupted.")


def test_enter_sends_and_shift_enter_breaks_the_line_unless_set(
    visit: Callable[..., Visit], provider: FakeProvider
) -> None:
    page = visit().page
    field = page.get_by_label("Your question")
    field.press_sequentially("One")
    field.press("Shift+Enter")
    field.press_sequentially("two")
    # Enter chooses a word of an input method.
    field.dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    page.reload()  # an unsent question stays
    expect(field).to_have_value("One\ntwo")
    assert provider.requests == []
    field.press("Escape")
    page.keyboard.press("?")
    page.get_by_label("Enter sends").uncheck()
    page.keyboard.press("Escape")
    field.press("End")
    field.press("Enter")
    expect(field).to_have_value("One\ntwo\n")
    field.press("Shift+Enter")
    expect(page.locator("article#r1 .answer")).to_contain_text("Answer to: One")
    page.go_back()
    expect(page.get_by_label("Your question")).to_have_value("")


def test_ask_failed_shows_the_error_and_can_ask_again(visit: Callable[..., Visit]) -> None:
    page = visit().page
    page.get_by_label("Your question").fill("Who? [[status=401 times=1]]")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("article#r1")).to_contain_text("Failed. key-rejected")
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator("article#r2 .answer")).to_contain_text("Answer to: Who?")


def test_ask_with_an_invalid_field_keeps_the_form(
    visit: Callable[..., Visit], provider: FakeProvider
) -> None:
    visited = visit()
    visited.expected = {"422"}
    page = visited.page
    page.get_by_label("Your question").fill("Who?")
    page.get_by_text("Options").click()
    page.get_by_label("Model").first.fill("local:/etc/passwd")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("alert")).to_contain_text("local model")
    expect(page.get_by_label("Your question")).to_have_value("Who?")
    # The field of the model lists the models of the provider; no question is sent.
    assert {request.method for request in provider.requests} <= {"GET"}


def test_pasted_text_file_is_added_to_the_question(visit: Callable[..., Visit]) -> None:
    page = visit().page
    field = page.get_by_label("Your question")
    field.fill("What does it do?")
    paste = """(field, [name, type, text]) => {
      const data = new DataTransfer();
      data.items.add(new File([text], name, { type }));
      const event = new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
      field.dispatchEvent(event);
    }"""
    field.evaluate(paste, ["a.py", "text/x-python", "x = '```'"])
    expect(field).to_have_value("What does it do?\n\na.py:\n````\nx = '```'\n````\n")
    field.evaluate(paste, ["a.png", "image/png", "x"])
    expect(page.get_by_role("alert")).to_contain_text("a.png")
    page.locator("#ask summary").click()
    expect(page.locator("#models option").first).to_have_attribute("value", "test-model")


def test_dropped_image_is_kept_over_a_reload_and_sent(
    visit: Callable[..., Visit], store: Store
) -> None:
    page = visit().page
    drop = """(field, [name, data]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(data)], name, { type: "image/png" }));
      const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true });
      field.dispatchEvent(event);
    }"""
    page.get_by_label("Your question").fill("What is it?")
    for name in ("a.png", EVIL):
        page.get_by_label("Your question").evaluate(drop, [name, list(PIXEL)])
    page.get_by_role("button", name="Remove a.png").click()
    expect(page.locator("#file-list img")).to_have_count(1)
    page.reload()
    expect(page.locator("#file-list li")).to_contain_text([f"{EVIL}1 kB"])
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("article .meta").get_by_text(EVIL)).to_be_visible()
    expect(page.locator("#file-list li")).to_have_count(0)
    assert [file["size"] for file in store.get(1).attachments] == [len(PIXEL)]


def test_two_models_answer_side_by_side_and_below_each_other_on_a_phone(
    visit: Callable[..., Visit], store: Store
) -> None:
    page = visit().page
    page.locator("#ask summary").click()
    page.locator("#ask-model").fill("model-a")
    page.get_by_label("Second model").fill("model-b")
    page.get_by_label("Your question").fill("Why? [[text=Because.]]")
    page.get_by_role("button", name="Ask", exact=True).click()
    for number in (1, 2):
        expect(page.locator(f".columns #r{number} .answer")).to_have_text("Because.")
    expect(page.locator("#ask")).to_be_hidden()
    assert page.url.endswith("/page/1/compare")
    assert [store.get(number).repeats_id for number in (1, 2)] == [None, 1]
    page.reload()
    places = """() => [...document.querySelectorAll("#thread .record")].map((record) => {
      const { left, top } = record.getBoundingClientRect();
      return [Math.round(left), Math.round(top)];
    })"""
    first, second = page.evaluate(places)
    assert (first[0] < second[0], first[1] == second[1]) == (True, True)
    page.set_viewport_size({"width": 400, "height": 800})
    first, second = page.evaluate(places)
    assert (first[0] == second[0], first[1] < second[1]) == (True, True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.locator("#r2").get_by_role("link", name="Follow up").click()
    expect(page.locator("#follows")).to_have_value("2")


def test_keyboard_shortcuts_reach_all_actions(visit: Callable[..., Visit], store: Store) -> None:
    for n in range(1, 4):
        keep(store, f"Question {n}", f"Answer {n}")
    page = visit().page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("j")
    expect(page.locator("#entries a").nth(0)).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator("#entries a").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/page/2")
    page.keyboard.press("/")
    expect(page.get_by_label("Search the history")).to_be_focused()
    page.keyboard.type("njk")
    expect(page.get_by_label("Search the history")).to_have_value("njk")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Search the history")).not_to_be_focused()
    page.keyboard.press("f")
    expect(page.get_by_label("Follow up")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    page.keyboard.type("birds, geo")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Tag: birds").first).to_be_visible()
    page.wait_for_load_state()  # the form loaded the page anew: its script has to run first
    assert store.get(2).tags == ["birds", "geo"]
    page.keyboard.press("?")
    help_ = page.get_by_role("dialog", name="Keyboard")
    expect(help_).to_be_visible()
    help_.get_by_label("Use single keys as shortcuts").uncheck()
    page.keyboard.press("Escape")
    expect(help_).to_be_hidden()
    page.keyboard.press("/")
    expect(page.get_by_label("Search the history")).not_to_be_focused()
    page.reload()
    page.keyboard.press("n")
    page.wait_for_timeout(100)
    assert "/page/2" in page.url


def test_record_far_down_in_the_history_is_opened_at_its_top(
    visit: Callable[..., Visit], store: Store
) -> None:
    for number in range(1, 31):
        keep(store, f"Question {number}", "A long answer. " * 500)
    page = visit("/page/5", viewport={"width": 1280, "height": 600}).page
    expect(page.locator("#entries a[aria-current=page]")).to_be_in_viewport(ratio=1)
    assert page.evaluate("scrollY") == 0
    page.keyboard.press("j")
    expect(page.locator("#entries a[href='/page/4']")).to_be_focused()
    assert page.evaluate("scrollY") == 0
    for _ in range(15):
        page.keyboard.press("k")
    expect(page.locator("#entries a[href='/page/19']")).to_be_in_viewport(ratio=1)
    assert page.evaluate("scrollY") == 0


def test_link_to_a_record_of_a_long_thread_shows_it_at_once(
    visit: Callable[..., Visit], store: Store
) -> None:
    follows = None
    for number in range(20):
        follows = keep(store, f"Step {number}", "A long answer. " * 200, follows_id=follows)
    page = visit("/page/20#r20", reduced_motion="no-preference").page
    expect(page.locator("#r20 .question")).to_be_in_viewport(timeout=1)


def test_page_stays_where_it_is_while_a_follow_up_is_written(
    visit: Callable[..., Visit], store: Store
) -> None:
    first = keep(store, "First", "A long answer. " * 500)
    keep(store, "Second", "Another long answer. " * 500, follows_id=first)
    page = visit("/page/2", viewport={"width": 360, "height": 700}).page
    page.evaluate("scrollTo({ top: 900, behavior: 'instant' })")
    page.keyboard.press("f")
    expect(page.get_by_label("Follow up")).to_be_focused()
    page.keyboard.type("And then")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("what?")
    assert page.evaluate("scrollY") == 900


def test_focus_on_a_link_below_the_form_brings_it_above_the_form(
    visit: Callable[..., Visit], store: Store
) -> None:
    keep(store, "First", "A [link](https://a.example) and words.\n\n" * 100)
    page = visit("/page/1", viewport={"width": 360, "height": 700}).page
    distance = page.evaluate(
        """() => {
          const bottom = (node) => node.getBoundingClientRect().bottom;
          const link = document.querySelectorAll(".answer a")[50];
          scrollTo({ top: bottom(link) - innerHeight + 20, behavior: "instant" });
          link.focus();
          return document.querySelector("#ask .sheet").getBoundingClientRect().top - bottom(link);
        }"""
    )
    assert distance > 0


def test_first_question_is_shown_from_its_beginning(
    visit: Callable[..., Visit], store: Store
) -> None:
    for number in range(20):
        keep(store, f"Question {number}")
    page = visit(viewport={"width": 1280, "height": 600}).page
    page.get_by_label("Your question").fill("A long question. " * 20)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("The answer is complete.")
    assert page.evaluate("scrollY") == 0


def test_text_from_right_to_left_begins_at_the_right(
    visit: Callable[..., Visit], store: Store
) -> None:
    answer = "שלום.\n\n- אחת\n\n> ציטוט\n\n| א | ב |\n|---|---|\n| 1 | 2 |\n\n`x`\n\nAnd English."
    keep(store, "שאלה?", answer)
    page = visit("/page/1").page
    begins = page.evaluate(
        """() => Object.fromEntries(
          [".question", ".answer > p", "li", "blockquote p", "td", ".answer > p:last-child"]
            .map((name) => {
              const node = document.querySelector(`.record ${name}`);
              const range = document.createRange();
              range.selectNodeContents(node);
              const [text, box] = [range.getBoundingClientRect(), node.getBoundingClientRect()];
              return [name, box.right - text.right < text.left - box.left ? "right" : "left"];
            }))"""
    )
    assert begins.pop(".answer > p:last-child") == "left"
    assert set(begins.values()) == {"right"}, begins
    first, second = (page.locator("td").nth(n).bounding_box() for n in range(2))
    assert first
    assert second
    assert first["x"] > second["x"]
    page.get_by_label("Follow up").fill("עוד")
    assert page.get_by_label("Follow up").evaluate("node => node.matches(':dir(rtl)')")


def test_copy_buttons_copy_the_answer_and_its_code(
    visit: Callable[..., Visit], store: Store
) -> None:
    answer = "Some **bold** text.\n\n```sh\nls -l\n```\n"
    keep(store, "How?", answer)
    page = visit("/page/1", permissions=["clipboard-read", "clipboard-write"]).page
    page.get_by_role("button", name="Copy the answer").click()
    expect(page.get_by_role("button", name="Copied").first).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == answer
    page.locator(".code").hover()
    page.get_by_role("button", name="Copy the code").click()
    expect(page.get_by_role("button", name="Copied the code")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "ls -l\n"


def test_delete_needs_a_confirmation(visit: Callable[..., Visit], store: Store) -> None:
    keep(store, "Keep")
    keep(store, "Drop")
    page = visit("/page/2").page
    assert not page.get_by_role("button", name="Delete record 2").is_visible()
    page.locator("summary", has_text="Delete").click()
    page.get_by_role("button", name="Delete record 2").click()
    expect(page.get_by_text("Record 2 was deleted.")).to_be_visible()
    expect(page.locator("#entries .entry")).to_have_count(1)


def test_page_without_javascript_has_all_functions(visit: Callable[..., Visit]) -> None:
    page = visit(java_script_enabled=False).page
    expect(page.locator(".scripted").first).to_be_hidden()
    page.get_by_label("Your question").fill("What is a heron?")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("article#r1 .answer")).to_have_text("Answer to: What is a heron?")
    page.get_by_label("Follow up").fill("And a grebe?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("article")).to_have_count(2)
    page.locator("#r2 .tagging summary").click()
    page.get_by_label("New tags for record 2").fill("birds")
    page.get_by_role("button", name="Add").click()
    page.get_by_label("Search the history").fill("heron")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#entries mark").first).to_have_text("heron")
    page.get_by_text("Filters").click()
    page.get_by_label("Search the history").fill("")
    page.get_by_label("Tag", exact=True).fill("birds")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#entries .entry")).to_have_count(1)
    page.locator("#entries a").click()
    page.locator("#r2 summary", has_text="Delete").click()
    page.get_by_role("button", name="Delete record 2").click()
    expect(page.get_by_text("Record 2 was deleted.")).to_be_visible()


def test_page_with_hostile_texts_runs_no_script(visit: Callable[..., Visit], store: Store) -> None:
    evil = f"{EVIL} [x](javascript:alert(1)) ![p](https://evil.example/p) <script>alert(1)</script>"
    keep(store, evil, evil, tags=[EVIL])
    visited = visit()
    page = visited.page
    page.on("dialog", lambda dialog: visited.errors.append(dialog.message))
    page.get_by_label("Your question").fill(f"[[echo]] {evil}")
    page.get_by_text("Options").click()
    page.get_by_label("Model").first.fill(EVIL)
    page.get_by_label("Tags", exact=True).fill(EVIL)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("article#r2 .answer")).to_contain_text("<script>")
    for path in ("/page/1", "/page/2", "/?q=img"):
        visited.go(path)
        expect(page.locator("main img, main script, aside img")).to_have_count(0)
        assert page.locator("a[href^=javascript]").count() == 0


def test_sign_in_and_sign_out_in_a_browser(visit: Callable[..., Visit], store: Store) -> None:
    keep(store, "Mine")
    visited = visit("/page/1", server={"token": "s3cret-token"})
    visited.expected = {"403"}
    page = visited.page
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("token is wrong")
    page.get_by_label("Token").fill("s3cret-token")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/page/1")
    page.get_by_label("Follow up").fill("And?")
    page.keyboard.press("Control+Enter")
    expect(page.locator("article#r2 .answer")).to_have_text("Answer to: And?")
    page.get_by_label("Follow up").fill("Not for the next user")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"


def test_record_asked_by_another_request_appears_when_complete(
    visit: Callable[..., Visit], store: Store
) -> None:
    from qacli.domain import Outcome, Question, Status

    ask = Question(question="Slow?", params={"model": "test-model"})
    store.upsert(ask, Outcome())
    page = visit("/page/1").page
    expect(page.locator("article#r1")).to_contain_text("The answer is not complete yet.")
    store.upsert(ask, Outcome(status=Status.ANSWERED, answer="At last."))
    expect(page.locator("article#r1 .answer")).to_have_text("At last.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_has_no_accessibility_violations(
    visit: Callable[..., Visit], store: Store, scheme: str
) -> None:
    axe = Axe()
    rules: dict[str, Any] = {"resultTypes": ["violations"]}
    if scheme == "dark":  # it differs in its colours alone
        rules["runOnly"] = ["color-contrast"]
    visited = visit(color_scheme=scheme, server={"on_disconnect": "interrupt"})
    visited.expected = {"404", "422"}
    page = visited.page
    violations: dict[str, Any] = {}

    def check(name: str) -> None:
        for violation in axe.run(page, options=rules).response["violations"]:
            nodes = [node["html"][:120] for node in violation["nodes"]]
            violations[f"{name}: {violation['id']}"] = nodes
        # Nothing is wider than the window.
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            violations[f"{name}: too wide"] = []

    check("empty")
    first = keep(store, "Long question? " * 40, RICH, tags=["one", "two"], finish_reason="length")
    second = keep(store, "Next", None, status="failed", error="x: y", follows_id=first)
    details = {"citations": ["https://a.example/" + "x" * 300], "images": [{"image_url": {}}]}
    reasoning = "Hm " + "w" * 300
    keep(
        store,
        "W" * 200,
        "`" + "w" * 300 + "`",
        tags=["t" * 90],
        reasoning=reasoning,
        details=details,
    )
    paths = {
        "home": "/",
        "thread": f"/page/{second}",
        "search": "/?q=code&tag=one",
        "wide": "/page/3",
        "compare": "/page/2/compare?with=3",
    }
    for name, path in {**paths, "filter": "/?since=x", "missing": "/page/99"}.items():
        visited.go(path)
        check(name)
    visited.go(f"/page/{first}")
    for summary in page.locator("details:not([name]) > summary").all():
        summary.click()
    page.locator("#r1 .tagging summary").click()
    check("opened")
    page.keyboard.press("Escape")
    page.locator("#r2 summary", has_text="Delete").click()
    check("deleting")
    page.keyboard.press("?")
    check("help")
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 320, "height": 640})
    for name, path in paths.items():
        visited.go(path)
        check(f"{name} on a phone")
    page.set_viewport_size({"width": 1280, "height": 720})
    visited.go("/#question")
    page.keyboard.type("And now?")
    page.keyboard.press("Control+Enter")
    expect(page.locator("article#r4 .acts")).to_be_visible()
    check("arrived")
    page.get_by_label("Follow up").fill("[[text='Some text.\n\nand\n\nmore to come' stall=6]]")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".arriving .settled")).to_contain_text("Some")
    check("arriving")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("article#r5 .state")).to_contain_text("Interrupted.", timeout=15_000)
    assert violations == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_sign_in_form_has_no_accessibility_violations(
    visit: Callable[..., Visit], scheme: str
) -> None:
    page = visit("/", server={"token": "s3cret-token"}, color_scheme=scheme).page
    assert Axe().run(page).response["violations"] == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 320)])
def test_docs_page_sends_requests_and_is_accessible(
    visit: Callable[..., Visit], scheme: str, width: int
) -> None:
    viewport = {"width": width, "height": 720}
    page = visit("/docs", color_scheme=scheme, viewport=viewport).page
    form = page.locator("#asks_ask form")
    page.locator("#asks_ask summary").press("Enter")
    form.get_by_label("Body").fill('{"question": "Who am I?", "stream": true}')
    form.get_by_role("button", name="Send").press("Enter")
    expect(form.locator(".status")).to_contain_text("200")
    expect(form.locator("pre")).to_contain_text("event: done")
    page.locator("#records_get summary").press("Enter")
    page.locator("#records_get-id").fill("1")
    page.locator("#records_get-id").press("Enter")
    expect(page.locator("#records_get pre")).to_contain_text('"answer": "Answer to: Who am I?"')
    assert Axe().run(page).response["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
