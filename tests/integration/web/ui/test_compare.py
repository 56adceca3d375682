"""Two answers side by side on the page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qacli.domain import Outcome, Question, Status

from .test_views import BROWSER, EVIL, on_sqlite, text_of

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from qacli.db.records import Store


def add_record(
    store: Store,
    model: str,
    answer: str,
    repeats_id: int | None = None,
    prompt_tokens: int | None = 9,
) -> int:
    """Store a record with tokens and costs, and return its id."""
    outcome = Outcome(
        status=Status.ANSWERED,
        answer=answer,
        model=model,
        latency_ms=1500,
        prompt_tokens=prompt_tokens,
        completion_tokens=11,
        cost_usd=0.01,
    )
    return store.upsert(Question(question="The capital?", repeats_id=repeats_id), outcome)


def test_compare_page_shows_the_answers_with_figures_and_differences(
    client: FlaskClient, store: Store
) -> None:
    first = add_record(store, "model-a", "**Paris** is the capital.")
    add_record(store, "model-b", "**Lyon** is the capital.", repeats_id=first)
    for address in ("/page/1/compare", "/page/2/compare", "/page/2/compare?with=1"):
        page = client.get(address, headers=BROWSER)
        assert page.status_code == 200
        assert re.findall(r'<article[^>]*id="r(\d+)"', page.text) == ["1", "2"]
        assert "<strong>Lyon</strong> is the capital." in page.text
        assert "<mark>Lyon</mark>** is the capital." in page.text
        text = text_of(page)
        assert "#1 model-a #2 model-b time 1.5 s 1.5 s tokens 9 + 11 tokens" in text
        assert "cost 0.0100 USD 0.0100 USD" in text
        assert "like #1 88 %" in text
    record = client.get("/page/2")
    assert "This question has 2 answers: #1 model-a , #2 model-b . Compare them" in text_of(record)


@on_sqlite
def test_compare_page_without_another_answer_is_refused(client: FlaskClient, store: Store) -> None:
    add_record(store, "model-a", "Paris.")
    assert "has 1 answer" not in client.get("/page/1").text
    for address in ("/page/1/compare", "/page/1/compare?with=1"):
        page = client.get(address, headers=BROWSER)
        assert (page.status_code, "only answer" in text_of(page)) == (422, True)
    for number in ("7", "9" * 30):
        assert client.get(f"/page/1/compare?with={number}").status_code == 404


@on_sqlite
def test_compare_page_of_answers_without_prompt_tokens_has_no_tokens(
    client: FlaskClient, store: Store
) -> None:
    for repeats_id in (None, 1):
        add_record(store, "model-a", "Paris.", repeats_id, prompt_tokens=None)
    for address in ("/page/1", "/page/1/compare"):
        page = client.get(address)
        assert "1.5 s" in page.text
        assert "None" not in text_of(page)
        assert "11 tokens" not in text_of(page)


@on_sqlite
def test_compare_page_of_hostile_answers_shows_them_as_text(
    client: FlaskClient, store: Store
) -> None:
    add_record(store, EVIL, f"{EVIL} one </p>")
    add_record(store, "<script>", f"{EVIL} two", repeats_id=1)
    page = client.get("/page/1/compare")
    assert "&lt;img src=x onerror=alert(1)&gt; <mark>two</mark>" in page.text
    assert not re.search(r'<img|<script(?! type="module" src=)|one </p>', page.text)
