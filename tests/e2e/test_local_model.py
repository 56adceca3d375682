"""The local model, with the real engine and the real weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from qacli.domain import Outcome, Question, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program
    from fake_provider import FakeProvider

    from qacli.db.records import Store

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

NO_KEY = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "QA_MODEL": ""}


def test_ask_without_a_key_uses_the_local_model(
    installed_qa: Program, provider: FakeProvider
) -> None:
    qa = installed_qa
    done = qa("ask", "--max-tokens", "40", "Who am I?", **NO_KEY)
    assert done.code == 0, done.err
    assert done.out.strip()
    assert done.err.count("\n") <= 2
    assert "it is small" in done.err
    assert provider.requests == []
    record = json.loads(qa("show", "last", "--json").out)
    assert record["question"] == "Who am I?"
    assert record["answer"].strip() == done.out.strip()
    assert record["status"] == "answered"
    assert "SmolLM2" in record["model"]
    assert 0 < record["completion_tokens"] <= 40


def test_ask_local_model_twice_gives_the_same_right_answer(qa: Program) -> None:
    answers = [qa("ask", "-q", "What is the capital of France?", **NO_KEY).out for _ in range(2)]
    assert answers[0] == answers[1]
    assert "Paris" in answers[0]


def test_list_similar_with_the_local_model_needs_no_endpoint(
    qa: Program, store: Store, provider: FakeProvider
) -> None:
    for question in ("What is 6*7?", "Who wrote Hamlet?", "What is 7*8?"):
        store.upsert(Question(question=question), Outcome(status=Status.ANSWERED, answer="x"))
    done = qa("list", "--similar", "last", "--json", QA_EMBEDDING_MODEL="local", **NO_KEY)
    assert done.code == 0, done.err
    first, second = json.loads(done.out)
    assert first["question"] == "What is 6*7?"
    assert 1 > first["score"] > second["score"]
    assert provider.requests == []


@pytest.mark.usefixtures("empty_database")
def test_ask_local_file_missing_or_not_weights_exits_2(qa: Program, tmp_path: Path) -> None:
    missing = qa("ask", "--model", "local:/nonexistent.gguf", "x", **NO_KEY)
    assert (missing.code, missing.out) == (2, "")
    assert "/nonexistent.gguf" in missing.err
    other = tmp_path / "other.gguf"
    other.write_bytes(b"not weights")
    wrong = qa("ask", "--model", f"local:{other}", "x", **NO_KEY)
    assert (wrong.code, wrong.out) == (3, "")
    assert "not a GGUF file" in wrong.err
    other.write_bytes(b"GGUF" + b"\0" * 100)
    broken = qa("ask", "--model", f"local:{other}", "x", **NO_KEY)
    assert (broken.code, broken.out) == (3, "")
    assert "Traceback" not in broken.err
    set_wrong = qa("ask", "x", **NO_KEY, QA_LOCAL_MODEL="/nonexistent.gguf")
    assert (set_wrong.code, set_wrong.out) == (3, "")
    assert not (tmp_path / "data").exists()


def test_serve_without_a_key_answers_with_the_local_model(
    qa: Program, serve: Callable[..., Any]
) -> None:
    served = serve(qa, **NO_KEY)
    status, record = served.request(
        "POST", "/ask", {"question": "Who am I?", "max_tokens": 30}, timeout=60
    )
    assert status == 200, record
    assert record["answer"].strip()
    assert "SmolLM2" in record["model"]


def test_serve_with_local_as_an_upstream_answers_by_all_apis(
    qa: Program, serve: Callable[..., Any], provider: FakeProvider
) -> None:
    served = serve(qa, QA_UPSTREAMS="local")
    chat = {"model": "local", "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 5}
    status, completion = served.request("POST", "/v1/chat/completions", chat)
    assert (status, completion["usage"]["completion_tokens"]) == (200, 5)
    body = {"model": "local", "input": "Who?", "max_output_tokens": 5}
    status, response = served.request("POST", "/v1/responses", body)
    assert (status, response["usage"]["output_tokens"]) == (200, 5)
    status, record = served.request(
        "POST", "/ask", {"model": "local", "question": "Who?", "max_tokens": 5}
    )
    assert (status, record["endpoint"], record["completion_tokens"]) == (200, "local", 5)
    assert record["details"]["upstream"] == "local"
    _, follow_up = served.request("POST", "/ask", {"question": "And?", "follows_id": record["id"]})
    assert (follow_up["params"]["model"], follow_up["endpoint"]) == ("local", "local")
    assert provider.requests == []
