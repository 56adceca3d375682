"""The page without JavaScript: the rendered HTML and the forms."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import Reply
from markupsafe import Markup

from qacli.domain import Outcome, Question, Status
from qacli.recording.recovery import recover_outbox
from qacli.web import state
from qacli.web.ui.history_list import mark_html

if TYPE_CHECKING:
    from fake_provider import FakeProvider
    from flask import Flask
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from qacli.db.records import Store

Problem = Callable[..., dict[str, Any]]
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
EVENTS = {"Accept": "text/event-stream"}
EVIL = "<img src=x onerror=alert(1)>"

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For tests that do not depend on the kind of database."""


def keep(store: Store, question: str, answer: str | None = "It is so.", **more: Any) -> int:
    """Store a record, and return its id."""
    asked = {name: more.pop(name) for name in ("tags", "follows_id") if name in more}
    outcome = Outcome(
        status=more.pop("status", Status.ANSWERED), answer=answer, model="test-model", **more
    )
    return store.upsert(
        Question(question=question, params={"model": "test-model"}, **asked), outcome
    )


def text_of(response: TestResponse) -> str:
    """Return the text of a page, without its tags."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.text)))


def entries(response: TestResponse) -> list[int]:
    """Return the records in the list of the history."""
    return [int(n) for n in re.findall(r'<li class="entry[^>]*data-id="(\d+)"', response.text)]


def link(response: TestResponse, relation: str) -> str | None:
    """Return the URL of the newer (`prev`) or older (`next`) page of the list."""
    found = re.search(rf'href="([^"]*)" rel="{relation}"', response.text)
    return html.unescape(found[1]) if found else None


def events_of(response: TestResponse) -> list[tuple[str, Any]]:
    """Return server-sent events, without the comments."""
    assert response.mimetype == "text/event-stream"
    events = re.findall(r"event: (.*)\ndata: (.*)\n\n", response.text)
    return [(name, json.loads(data)) for name, data in events]


@on_sqlite
def test_home_without_records_shows_examples(client: FlaskClient) -> None:
    response = client.get("/", headers=BROWSER)
    assert response.status_code == 200
    assert response.mimetype == "text/html"
    assert "Ask your first question." in text_of(response)
    assert "No questions yet." in text_of(response)
    example = html.unescape(re.findall(r'href="(/\?question=[^"]*)"', response.text)[0])
    assert "Why does a bicycle" in client.get(example).text.partition("<textarea")[2]


@on_sqlite
def test_home_has_no_inline_script_and_loads_only_own_files(client: FlaskClient) -> None:
    response = client.get("/")
    policy = response.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=", response.text)
    for address in re.findall(r'(?:src|href|action)="([^"]*)"', response.text):
        assert address.startswith(("/", "#")), address
        if address.startswith("/static/"):
            with client.get(address) as static:
                assert static.status_code == 200
                assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", static.text)
                assert "@import" not in static.text


def test_ask_form_stores_the_question_and_redirects_to_its_record(
    client: FlaskClient, store: Store
) -> None:
    form = {"question": "First\r\nsecond", "model": "other", "tags": " a, b,a,", "system": "Short."}
    response = client.post("/page/ask", data=form, headers=BROWSER)
    assert response.status_code == 303
    assert response.location == "/page/1#r1"
    record = store.get(1)
    assert (record.question, record.tags) == ("First\nsecond", ["a", "b"])
    assert (record.system, record.params["model"]) == ("Short.", "other")
    page = client.get("/page/1", headers=BROWSER)
    assert "Answer to: First second" in text_of(page)
    assert entries(page) == [1]


def test_ask_form_with_follows_id_continues_the_thread(
    client: FlaskClient, store: Store, provider: FakeProvider
) -> None:
    first = keep(store, "What is it?", "**It** is a thing.")
    response = client.post("/page/ask", data={"question": "And why?", "follows_id": str(first)})
    assert response.location == "/page/2#r2"
    assert [turn["content"] for turn in provider.requests[-1].body["messages"]] == [
        *("What is it?", "**It** is a thing.", "And why?")
    ]
    for address in ("/page/1", "/page/2"):
        page = client.get(address)
        assert re.findall(r'<article[^>]*id="r(\d+)"', page.text) == ["1", "2"]
        assert 'name="follows_id" id="follows" value="2"' in page.text
        assert "<strong>It</strong> is a thing." in page.text


@on_sqlite
def test_record_with_two_follow_ups_links_to_both(client: FlaskClient, store: Store) -> None:
    first = keep(store, "Root")
    ways = [keep(store, f"Way {n}", follows_id=first) for n in (1, 2)]
    page = client.get("/page/1")
    assert re.findall(r'<article[^>]*id="r(\d+)"', page.text) == ["1"]
    assert "2 follow-ups" in text_of(page)
    for way in ways:
        assert f'href="/page/{way}#r{way}"' in page.text
        assert re.findall(r'id="r(\d+)"', client.get(f"/page/{way}").text) == ["1", str(way)]
    assert 'id="follows" value="1"' in page.text


@on_sqlite
def test_record_in_a_long_thread_is_shown_in_parts(client: FlaskClient, store: Store) -> None:
    last = keep(store, "Turn 1")
    for n in range(2, 81):
        last = keep(store, f"Turn {n}", follows_id=last)
    page = client.get("/page/40")
    shown = [int(n) for n in re.findall(r'<article[^>]*id="r(\d+)"', page.text)]
    assert shown == list(range(11, 70))
    assert 'href="/page/10#r10"' in page.text
    assert 'href="/page/70#r70"' in page.text


@on_sqlite
def test_record_of_a_thread_with_a_deleted_record_is_shown(
    client: FlaskClient, store: Store
) -> None:
    first = keep(store, "Root")
    second = keep(store, "Next", follows_id=first)
    response = client.post(f"/page/{first}/delete", headers=BROWSER)
    assert (response.status_code, response.location) == (303, "/?removed=1")
    assert "Record 1 was deleted." in text_of(client.get(response.location))
    page = client.get(f"/page/{second}")
    assert "This followed up record 1, which was deleted." in text_of(page)
    assert client.get("/page/1").status_code == 404


@on_sqlite
def test_record_failed_is_shown_and_can_be_asked_again(client: FlaskClient, store: Store) -> None:
    response = client.post("/page/ask", data={"question": "Who? [[status=401 times=1]]"})
    assert (response.status_code, response.location) == (303, "/page/1#r1")
    page = client.get("/page/1")
    assert "Failed. key-rejected:" in text_of(page)
    form = re.search(r'<form method="post" action="/page/ask">.*?</form>', page.text, re.DOTALL)
    assert form is not None
    question = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", form[0], re.DOTALL)
    assert question is not None
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form[0]))
    again = client.post("/page/ask", data={"question": html.unescape(question[1]), **fields})
    assert again.location == "/page/2#r2"
    assert store.get(2).status is Status.ANSWERED
    assert store.get(2).question == store.get(1).question


@on_sqlite
@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"question": "  \n "}, "The question is empty."),
        ({"question": ""}, "The question is empty."),
        ({"question": "Who & why?", "follows_id": "99"}, "There is no record 99."),
        ({"question": "Who & why?", "follows_id": "x"}, "follows_id"),
        ({"question": "Who & why?", "model": "local:/etc/passwd"}, "local model"),
        ({"question": "Who & why?", "system": "\0"}, "NUL"),
    ],
)
def test_ask_form_invalid_field_is_shown_again_with_the_error(
    client: FlaskClient, provider: FakeProvider, form: dict[str, str], message: str
) -> None:
    response = client.post("/page/ask", data={**form, "tags": "one"}, headers=BROWSER)
    assert response.status_code in {404, 422}
    assert response.mimetype == "text/html"
    assert message in text_of(response)
    assert html.escape(form["question"].strip()) in response.text
    assert 'name="tags" value="one"' in response.text
    assert provider.requests == []


@on_sqlite
def test_tags_form_adds_and_removes_tags(client: FlaskClient, store: Store) -> None:
    keep(store, "Who?", tags=["old"])
    response = client.post("/page/1/tags", data={"add": "new, c++ & more"})
    assert (response.status_code, response.location) == (303, "/page/1#r1")
    assert store.get(1).tags == ["old", "new", "c++ & more"]
    page = client.get("/page/1")
    address = html.unescape(re.findall(r'href="(/\?tag=c[^"]*)"', page.text)[0])
    assert entries(client.get(address)) == [1]
    client.post("/page/1/tags", data={"remove": "old"})
    assert store.get(1).tags == ["new", "c++ & more"]


@on_sqlite
def test_tags_form_with_an_invalid_tag_is_refused(client: FlaskClient, store: Store) -> None:
    keep(store, "Who?")
    client.post("/page/1/tags", data={"add": " , ,", "remove": ""})
    response = client.post("/page/1/tags", data={"add": "a\0b"}, headers=BROWSER)
    assert (response.status_code, response.mimetype) == (422, "text/html")
    assert store.get(1).tags == []


@on_sqlite
def test_ask_form_question_beyond_the_limit_is_refused(client: FlaskClient, store: Store) -> None:
    long = "[[text=Yes.]] " + "word " * 120_000
    assert client.post("/page/ask", data={"question": long}).status_code == 303
    assert store.get(1).question == long
    page = client.get("/page/1")
    assert "[[text=Yes.]] word word" in page.text
    response = client.post("/page/ask", data={"question": long * 8}, headers=BROWSER)
    assert (response.status_code, response.mimetype) == (413, "text/html")


def test_history_list_pages_by_key_without_counting(
    client: FlaskClient, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(65):
        keep(store, f"Question {n}")
    caplog.set_level("INFO", "sqlalchemy.engine")
    pages, address = [], "/"
    while address:
        response = client.get(address)
        pages.append(entries(response))
        address = link(response, "next") or ""
    assert pages == [list(range(65, 35, -1)), list(range(35, 5, -1)), list(range(5, 0, -1))]
    back = link(response, "prev")
    assert back is not None
    middle = client.get(back)
    assert entries(middle) == pages[1]
    newest = client.get(link(middle, "prev") or "")
    assert entries(newest) == pages[0]
    assert link(newest, "prev") is None
    assert "SELECT" in caplog.text
    # Only the records of the conversations on this page are counted, not the whole history.
    counted = [text for text in caplog.messages if "count(" in text]
    assert all(text.startswith("WITH RECURSIVE tree") for text in counted)
    assert "OFFSET" not in caplog.text.replace("OFFSET ?", "")


def test_history_list_shows_a_conversation_once(client: FlaskClient, store: Store) -> None:
    first = keep(store, "What is a heron?", "A tall bird.")
    other = keep(store, "Capital of France?", "Paris")
    second = keep(store, "And a grebe?", "A tall diver.", follows_id=first)
    third = keep(store, "And a coot?", "A black bird.", follows_id=second)
    page = client.get(f"/page/{second}")
    assert entries(page) == [third, other]
    assert page.text.count('<span class="title">What is a heron?') == 1
    assert "test-model 3 questions" in text_of(page)
    # The conversation is the current one if any of its records is open.
    assert re.search(rf'href="/page/{third}#r{third}" aria-current="page"', page.text)
    found = client.get("/?q=tall")
    assert entries(found) == [second]
    assert "Follow-up:" in found.text
    opened = client.get(f"/page/{second}?q=tall")
    assert opened.text.count("<p>A <mark>tall</mark>") == 2
    assert "<mark>" not in client.get(f"/page/{second}").text


def test_mark_html_changes_only_text() -> None:
    html = mark_html(Markup('<a title="amp">R&amp;D amp</a>'), ["AMP", "R&D"])
    assert html == '<a title="amp"><mark>R&amp;D</mark> <mark>amp</mark></a>'
    assert mark_html(Markup("a &amp; amp"), ["amp"]) == "a &amp; <mark>amp</mark>"


def test_title_form_names_the_record_in_the_list(client: FlaskClient, store: Store) -> None:
    keep(store, "What is a heron?")
    response = client.post("/page/1/title", data={"title": " Tall\nbirds "})
    assert response.headers["Location"] == "/page/1#r1"
    assert store.get(1).title == "Tall birds"
    page = client.get("/page/1")
    assert '<p class="name">Tall birds</p>' in page.text
    assert re.search(r'<span class="title">Tall birds</span>', page.text)
    assert client.post("/page/1/title", data={"title": "x" * 201}).status_code == 422
    client.post("/page/1/title", data={"title": ""})
    assert store.get(1).title is None


def test_edit_link_fills_in_the_form_of_the_question(client: FlaskClient, store: Store) -> None:
    first = keep(store, "What is a heron?")
    second = keep(store, "And a <grebe>?", tags=["birds", "geo"], follows_id=first)
    assert f'href="/?edit={second}#question"' in client.get(f"/page/{second}").text
    form = client.get(f"/?edit={second}").text
    assert "And a &lt;grebe&gt;?</textarea>" in form
    assert 'name="tags" value="birds, geo"' in form
    assert f'id="follows" value="{first}"' in form
    assert client.get("/?edit=99").status_code == 404


def test_history_list_with_search_and_filters_shows_matching_records(
    client: FlaskClient, store: Store
) -> None:
    keep(store, "What is a heron?", "A tall bird that waits.", tags=["birds"])
    keep(store, "Capital of France?", "Paris", tags=["geo"])
    keep(store, "What is a grebe?", None, status=Status.FAILED, error="x: y", tags=["birds"])
    page = client.get("/?q=TALL")
    assert entries(page) == [1]
    assert "A <mark>tall</mark> bird" in page.text
    assert entries(client.get("/?tag=birds")) == [3, 1]
    both = client.get("/?tag=birds&status=answered&model=test-model&since=1h")
    assert entries(both) == [1]
    assert 'href="/page/1?status=answered&amp;model=test-model&amp;tag=birds&amp;since=1h"' in (
        both.text
    )
    assert 'href="/?status=answered&amp;model=test-model&amp;since=1h"' in both.text
    assert entries(client.get("/?until=1h")) == []
    assert "No records match." in text_of(client.get("/?q=nothing"))
    assert entries(client.get("/page/1?tag=geo")) == [2]


@on_sqlite
@pytest.mark.parametrize(
    ("query", "message"), [("status=x", "is not a status"), ("since=soon", "as a date or age")]
)
def test_history_list_with_an_invalid_filter_shows_the_error(
    client: FlaskClient, query: str, message: str
) -> None:
    response = client.get(f"/?{query}&q=kept")
    assert response.status_code == 422
    assert message in text_of(response)
    assert 'value="kept"' in response.text


@on_sqlite
@pytest.mark.parametrize(
    "query",
    [
        *("before=x", "after=-1", "before=99999999999999999999", "after=9223372036854775807"),
        *(
            "q=%00",
            "q=%22",
            "q=%ff",
            "tag=%00x",
            "model=%00",
            "before=1&after=1",
            "q=" + "a+" * 999,
        ),
    ],
)
def test_home_with_a_hostile_query_is_no_server_error(
    client: FlaskClient, store: Store, query: str
) -> None:
    keep(store, "Who?")
    assert client.get(f"/?{query}").status_code in {200, 422}


@on_sqlite
def test_page_of_a_hostile_record_shows_it_as_text(client: FlaskClient, store: Store) -> None:
    ask = Question(
        question=f"{EVIL} {'long ' * 100}</h2>{EVIL}",
        params={"model": EVIL},
        system=f"</div>{EVIL}",
        tags=[f'"{EVIL}'],
        attachments=[{"name": EVIL, "size": 1, "sha256": "0"}],
    )
    outcome = Outcome(status=Status.FAILED, answer=f"a {EVIL}", error=EVIL, model=f'"{EVIL}')
    store.upsert(ask, outcome)
    for address in (
        "/",
        "/page/1",
        "/?q=img",
        f"/?tag={EVIL}",
        f"/?q={EVIL}",
        f"/?question={EVIL}",
    ):
        page = client.get(address)
        assert page.status_code == 200
        assert "<img" not in page.text
        assert "&lt;img" in page.text


@on_sqlite
def test_ask_form_with_accept_event_stream_streams_the_answer(
    client: FlaskClient, store: Store
) -> None:
    question = "[[text='One.\n\n**Two** &lt;img&gt;\n\nThree.' delay=0.12]] <b>?"
    response = client.post("/page/ask", data={"question": question}, headers=EVENTS)
    events = events_of(response)
    assert events[0] == ("record", {"id": 1, "address": "/page/1"})
    assert [name for name, _ in events[1:-1]] == ["text"] * (len(events) - 2)
    settled = "".join(data["settled"] for _, data in events[1:-1])
    assert settled.startswith("<p>One.</p>")
    assert events[-2][1]["growing"]
    name, done = events[-1]
    assert (name, done["id"], done["status"]) == ("done", 1, "answered")
    assert "<strong>Two</strong>" in done["article"]
    assert "<b>" not in done["article"] + done["item"]
    assert done["article"].strip() in client.get("/page/1").text
    assert store.get(1).status is Status.ANSWERED


@on_sqlite
def test_ask_form_stream_of_a_failed_question_ends_with_its_record(
    client: FlaskClient, store: Store
) -> None:
    response = client.post("/page/ask", data={"question": "[[cut=1]]"}, headers=EVENTS)
    events = events_of(response)
    assert [events[0][0], events[-1][0]] == ["record", "done"]
    assert events[-1][1]["status"] == "failed"
    assert "Failed." in events[-1][1]["article"]
    assert store.get(1).status is Status.FAILED


@on_sqlite
def test_ask_form_stream_with_database_down_keeps_the_answer(
    app: Flask, client: FlaskClient, store: Store, provider: FakeProvider
) -> None:
    def rename(before: str, after: str) -> None:
        with store.transaction(write=True) as connection:
            connection.exec_driver_sql(f"ALTER TABLE {before} RENAME TO {after}")

    def leave(_: object) -> str:
        rename("question_answer", "elsewhere")
        return "text='It has arrived.'"

    provider.script(leave)
    events = events_of(client.post("/page/ask", data={"question": "Who?"}, headers=EVENTS))
    assert [events[0][0], events[-1][0]] == ["record", "error"]
    assert events[-1][1]["kind"] == "database"
    rename("elsewhere", "question_answer")
    assert store.get(1).status is Status.ASKING
    running: state.AppState = app.extensions[state.EXTENSION_KEY]
    assert recover_outbox(running.outbox, store) == 1
    assert store.get(1).answer == "It has arrived."


@on_sqlite
def test_ask_form_stream_of_an_invalid_question_is_a_problem(
    client: FlaskClient, problem: Problem
) -> None:
    problem(
        client.post("/page/ask", data={"question": " "}, headers=EVENTS), 422, "invalid-request"
    )


def test_package_contains_templates_and_static_files() -> None:
    import qacli.web

    page = Path(qacli.web.__file__).with_name("ui")
    for name in ("templates/page.html", "static/page.css", "static/page.js", "static/icon.svg"):
        assert (page / name).is_file()


@on_sqlite
def test_page_shows_reasoning_closed_and_sources_as_links(
    client: FlaskClient, store: Store
) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJDRA=="}}
    details = {
        "citations": ["https://a.example/x?a=1&b=2", "javascript:alert(1)", EVIL],
        "search_results": [{"url": "https://a.example/x?a=1&b=2", "title": f"A page {EVIL}"}],
        "images": [image, {"image_url": {"url": "javascript:alert(1)"}}],
    }
    reasoning = f"First **this**\n{EVIL} </div></details>"
    record = keep(store, "Who?", reasoning=reasoning, reasoning_tokens=1234, details=details)
    page = client.get(f"/page/{record}")
    assert '<details class="reasoning"><summary>' in page.text
    assert html.escape(reasoning, quote=False) in page.text.replace("&#39;", "'")
    assert "Reasoning 1,234 tokens" in text_of(page)
    assert page.text.count("<img") == 0
    assert "javascript:" not in page.text
    links = re.findall(r'<a href="([^"]*)" rel="noopener nofollow noreferrer">', page.text)
    assert links == ["https://a.example/x?a=1&amp;b=2"]
    assert f"Sources A page {EVIL.split(' ', maxsplit=1)[0]}" in text_of(page)
    assert "Image 1: image/png, 4 Bytes" in text_of(page)
    assert "QUJD" not in page.text


@on_sqlite
@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"finish_reason": "length"}, "cut off by the token limit"),
        ({"finish_reason": "content_filter"}, "cut off by the provider's content filter"),
        ({"details": {"refusal": True}}, "The model refused to answer"),
    ],
)
def test_page_names_an_unusual_finish_reason(
    client: FlaskClient, store: Store, more: dict[str, Any], text: str
) -> None:
    assert text in text_of(client.get(f"/page/{keep(store, 'Who?', **more)}"))


@on_sqlite
def test_page_stream_sends_reasoning_as_plain_text(
    client: FlaskClient, provider: FakeProvider
) -> None:
    provider.default = Reply(reasoning=f"Hm {EVIL}", text="Yes.", delay=0.15)
    response = client.post("/page/ask", data={"question": "Who?"}, headers=EVENTS)
    blocks = re.findall(r"event: (\w+)\ndata: (.*)\n", response.text)
    thoughts = [json.loads(data)["text"] for name, data in blocks if name == "reasoning"]
    assert len(thoughts) > 1
    assert "".join(thoughts) == f"Hm {EVIL}"
    assert blocks[-1][0] == "done"
    article = json.loads(blocks[-1][1])["article"]
    assert "Hm &lt;img" in article
    assert "<img" not in article


def test_export_link_gives_the_thread_as_markdown(client: FlaskClient, store: Store) -> None:
    first = keep(store, "What is a heron?", "A tall bird.")
    second = keep(store, "And a grebe?", "A diver.", follows_id=first)
    assert f'href="/page/{second}/thread.md"' in client.get(f"/page/{second}").text
    response = client.get(f"/page/{second}/thread.md")
    assert response.mimetype == "text/markdown"
    assert f'filename="qa-{second}.md"' in response.headers["Content-Disposition"]
    assert re.findall("heron|tall|grebe|diver", response.text) == [
        "heron",
        "tall",
        "grebe",
        "diver",
    ]
    assert client.get("/page/99/thread.md").status_code == 404


@on_sqlite
def test_reasoning_effort_of_the_form_is_an_option_of_the_question(
    client: FlaskClient, store: Store
) -> None:
    client.post("/page/ask", data={"question": "Who?", "reasoning_effort": "low"})
    assert store.get(1).params["reasoning_effort"] == "low"


@on_sqlite
def test_manifest_names_an_icon_of_the_server(client: FlaskClient) -> None:
    page = client.get("/").text
    assert 'rel="manifest" href="/static/manifest.webmanifest"' in page
    with client.get("/static/manifest.webmanifest") as manifest:
        assert manifest.mimetype == "application/manifest+json"
        icon = manifest.get_json()["icons"][0]["src"]
    with client.get(f"/static/{icon}") as response:
        assert response.status_code == 200


def test_export_link_gives_the_thread_as_one_html_file(client: FlaskClient, store: Store) -> None:
    first = keep(store, f"Root {EVIL}", f"**It** is <script>alert(1)</script> {EVIL}")
    keep(store, "More", follows_id=first)
    page = client.get("/page/2")
    assert 'href="/page/2/thread.html" download' in page.text
    response = client.get("/page/2/thread.html")
    assert response.content_type == "text/html; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="qa-2.html"'
    assert re.findall(r'<article[^>]*id="r(\d+)"', response.text) == ["1", "2"]
    assert "<strong>It</strong> is" in response.text
    assert not re.search(r"<script|<img|<form|<button|<link", response.text)
    assert client.get("/page/99/thread.html").status_code == 404
