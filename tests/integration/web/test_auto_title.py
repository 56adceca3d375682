"""QA_AUTO_TITLE on a server: the model names a thread in the background, after its first answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_provider import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from fake_provider import FakeProvider
    from flask import Flask

    from qacli.db.records import Store

    Build = Callable[..., Flask]
    WaitFor = Callable[..., Any]

ANSWER, TITLE = Reply(text="Forty."), Reply(text='"The boat"')


def test_post_ask_with_auto_title_names_the_thread_once(
    build: Build, provider: FakeProvider, store: Store, wait_for: WaitFor
) -> None:
    client = build(auto_title=True, title_model="small").test_client()
    provider.script(ANSWER, TITLE)
    record = client.post("/ask", json={"question": "How many?"}).get_json()
    assert (record["answer"], record["title"]) == ("Forty.", None)
    wait_for(lambda: store.get(record["id"]).title == "The boat")
    assert [request.body["model"] for request in provider.requests][1:] == ["small"]
    assert store.get(record["id"]).prompt_tokens > record["prompt_tokens"]
    client.post("/ask", json={"question": "And now?", "follows_id": record["id"]})
    assert len(provider.requests) == 3


def test_page_ask_with_auto_title_names_the_thread(
    build: Build, provider: FakeProvider, store: Store, wait_for: WaitFor
) -> None:
    client = build(auto_title=True).test_client()
    provider.script(ANSWER, TITLE)
    assert client.post("/page/ask", data={"question": "How many?"}).status_code == 303
    wait_for(lambda: store.get(1).title == "The boat")


def test_post_ask_whose_title_fails_logs_the_reason(
    build: Build,
    provider: FakeProvider,
    store: Store,
    wait_for: WaitFor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = build(auto_title=True).test_client()
    provider.script(ANSWER, Reply(status=400))
    assert client.post("/ask", json={"question": "How many?"}).status_code == 200
    wait_for(lambda: "record 1 has no title: " in caplog.text)
    assert store.get(1).title is None
