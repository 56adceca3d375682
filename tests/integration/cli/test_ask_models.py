"""`qa ask` with several models."""

from __future__ import annotations

import json
import os
import signal
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from fake_provider import FakeProvider, Reply

from .conftest import on_terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Invoke

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
MODELS = ("-m", "model-a", "-m", "model-b", "-m", "model-c")


def test_ask_several_models_keeps_tied_records(invoke: Invoke) -> None:
    done = invoke("ask", *MODELS, "Who?")
    assert (done.code, done.err) == (0, "")
    headings = [line for line in done.out.splitlines() if line.startswith("## ")]
    assert headings == ["## model-a", "## model-b", "## model-c"]
    assert done.out.count("Answer to: Who?") == 3
    rows = json.loads(invoke("list", "--repeats", "1", "--json").out)
    assert {row["params"]["model"] for row in rows} == {"model-a", "model-b", "model-c"}
    assert sorted((row["id"], row["repeats_id"]) for row in rows) == [(1, None), (2, 1), (3, 1)]


def test_list_of_repeats_and_follow_ups_takes_any_record_of_them(invoke: Invoke) -> None:
    assert invoke("ask", *MODELS, "Who?").code == 0
    for record_id in ("1", "3", "last", "-2"):
        rows = json.loads(invoke("list", "--repeats", record_id, "--json").out)
        assert {row["id"] for row in rows} == {1, 2, 3}, record_id
    assert invoke("ask", "--follow", "last", "And?").code == 0
    for command in (("list", "--json"), ("export", "--format", "jsonl")):
        assert '"And?"' in invoke(*command, "--follow", "-2").out
        assert invoke(*command, "--follow", "-9").code == 4
    assert invoke("rm", "1").code == 0
    rows = json.loads(invoke("list", "--repeats", "1", "--json").out)
    assert {row["id"] for row in rows} == {2, 3}
    assert invoke("list", "--repeats", "x").code == 2


def test_ask_several_models_on_a_narrow_screen_has_bold_headings(invoke: Invoke) -> None:
    options = ["-m", "model-a", "-m", "model-b"]
    seen = on_terminal(invoke, "ask", *options, "Who?", columns=40)
    assert seen.code == 0
    assert "\x1b[1mmodel-a\x1b[0m" in seen.out
    lines = [line for line in seen.screen.splitlines() if line]
    assert lines == ["model-a", "Answer to: Who?", "model-b", "Answer to: Who?"]


def test_ask_several_models_json_is_one_record_a_line(invoke: Invoke) -> None:
    done = invoke("ask", *MODELS, "--json", "Who?")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["params"]["model"] for row in rows] == ["model-a", "model-b", "model-c"]
    assert {row["status"] for row in rows} == {"answered"}


def test_ask_several_models_one_fails_the_others_answer(
    invoke: Invoke, provider: FakeProvider
) -> None:
    provider.default = lambda request: Reply(
        status=404 if request.body["model"] == "model-b" else 200
    )
    done = invoke("ask", *MODELS, "Who?")
    assert done.code == 5
    assert done.out.count("Answer to: Who?") == 2
    assert "model-b: " in done.err
    rows = json.loads(invoke("list", "--repeats", "1", "--json").out)
    statuses = {row["params"]["model"]: row["status"] for row in rows}
    assert statuses == {"model-a": "answered", "model-b": "failed", "model-c": "answered"}


def test_ask_several_models_interrupted_keeps_complete_answers(
    invoke: Invoke, provider: FakeProvider, wait_for: Callable[..., None]
) -> None:
    provider.default = lambda request: Reply(
        latency=60 if request.body["model"] == "model-b" else 0
    )

    def press() -> None:
        wait_for(lambda: len(provider.requests) == 3)
        os.kill(os.getpid(), signal.SIGINT)

    thread = Thread(target=press)
    thread.start()
    done = invoke("ask", *MODELS, "Who?")
    thread.join()
    assert done.code == 130
    rows = json.loads(invoke("list", "--repeats", "1", "--json").out)
    statuses = {row["params"]["model"]: row["status"] for row in rows}
    assert len(rows) == 3
    assert statuses["model-b"] == "interrupted"


@on_sqlite
def test_ask_several_models_max_cost_is_for_all(invoke: Invoke) -> None:
    one = invoke("ask", "-m", "gpt-5", "--max-tokens", "1000", "--max-cost", "0.015", "Who?")
    two = invoke(
        "ask", "-m", "gpt-5", "-m", "gpt-5", "--max-tokens", "1000", "--max-cost", "0.015", "Who?"
    )
    assert (one.code, two.code) == (0, 2)
    assert "--max-cost" in two.err
    assert len(json.loads(invoke("list", "--json").out)) == 1


@on_sqlite
@pytest.mark.parametrize("option", ["-x", "--copy", "--reuse"])
def test_ask_several_models_with_use_of_one_answer_is_refused(invoke: Invoke, option: str) -> None:
    done = invoke("ask", *MODELS, option, "Who?")
    assert (done.code, done.out) == (2, "")
    assert "several models" in done.err


@on_sqlite
def test_ask_several_models_without_saving_keeps_no_record(invoke: Invoke) -> None:
    assert invoke("ask", *MODELS, "--no-save", "Who?").out.count("Answer to") == 3
    assert json.loads(invoke("list", "--json").out) == []
