"""The model on this machine: the real engine and the real weights, which the tests install."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Program
    from fake_provider import FakeProvider

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

NO_KEY = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "QA_MODEL": ""}


def test_ask_without_a_key_uses_the_local_model(qa: Program, provider: FakeProvider) -> None:
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


def test_serve_with_local_as_an_upstream_answers_it_beside_a_provider(
    qa: Program, serve: Callable[..., Any], provider: FakeProvider
) -> None:
    served = serve(qa, QA_UPSTREAMS="local")
    question = {"messages": [{"role": "user", "content": "Who am I?"}], "max_tokens": 20}
    status, answer = served.request(
        "POST", "/v1/chat/completions", {**question, "model": "local"}, timeout=60
    )
    assert status == 200, answer
    assert answer["choices"][0]["message"]["content"].strip()
    assert not provider.requests
    status, record = served.request(
        "POST", "/ask", {"question": "Who?", "model": "local", "max_tokens": 20}, timeout=60
    )
    assert (status, record["endpoint"]) == (200, "local"), record
    status, answer = served.request("POST", "/v1/chat/completions", {**question, "model": "m"})
    assert answer["choices"][0]["message"]["content"] == "Answer to: Who am I?"
    _, models = served.request("GET", "/v1/models")
    assert "local" in [item["id"] for item in models["data"]]
