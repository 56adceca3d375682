"""llama.cpp's own server as an endpoint like any other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from qacli.provider.local_llama import default_weights, local_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Invoke

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    weights = default_weights()
    assert weights is not None
    with local_server(weights) as url:
        yield url


@pytest.mark.parametrize("flags", [[], ["--no-stream"]], ids=["stream", "whole"])
def test_llama_server_answers_with_its_details(
    invoke: Invoke, base_url: str, flags: list[str]
) -> None:
    done = invoke("ask", "--max-tokens", "5", *flags, "Who?", OPENAI_BASE_URL=base_url)
    assert done.code == 0, done.err
    record = json.loads(invoke("show", "last", "--json").out)
    assert record["answer"].strip() == done.out.strip()
    assert "SmolLM2" in record["model"]
    assert (record["finish_reason"], record["completion_tokens"]) == ("length", 5)
    assert record["details"]["timings"]["predicted_n"] == 5
    assert record["endpoint"] in base_url


def test_llama_server_answer_fits_a_schema(invoke: Invoke, base_url: str) -> None:
    values = ["red", "blue"]
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": values}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    done = invoke("ask", "--schema", json.dumps(schema), "Sky?", OPENAI_BASE_URL=base_url)
    assert done.code == 0, done.err
    assert json.loads(done.out)["colour"] in values


def test_llama_server_too_long_question_is_refused_once(invoke: Invoke, base_url: str) -> None:
    done = invoke("ask", input="a " * 9000, OPENAI_BASE_URL=base_url)
    assert done.code == 5
    assert "context size" in done.err
    assert "Shorten the question" in done.err


def test_llama_server_takes_the_options_of_reasoning(invoke: Invoke, base_url: str) -> None:
    flags = [
        "--reasoning-effort",
        "low",
        "--option",
        'chat_template_kwargs={"enable_thinking":true}',
    ]
    done = invoke("ask", "--max-tokens", "5", *flags, "Who?", OPENAI_BASE_URL=base_url)
    assert done.code == 0, done.err
    record = json.loads(invoke("show", "last", "--json").out)
    assert record["params"]["reasoning_effort"] == "low"
    assert record["status"] == "answered"
