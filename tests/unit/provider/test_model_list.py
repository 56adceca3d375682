from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from qacli.cost import Pricing
from qacli.price_table import Price
from qacli.provider.model_cache import ModelListCache
from qacli.provider.model_list import (
    ServedModel,
    model_advice,
    models_in,
    served_models,
    similar_models,
)

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://api.example.com/v1"


@pytest.mark.parametrize(
    ("document", "endpoint", "model"),
    [
        # OpenAI: https://developers.openai.com/api/docs/deprecations
        (
            {"id": "gpt-6-luna", "object": "model", "shutdown_date": None},
            "api.openai.com",
            ServedModel("gpt-6-luna", None, 0.1, 0.01, 0.5),
        ),
        (
            {"id": "gpt-4o", "shutdown_date": "2027-02-28"},
            "api.openai.com",
            ServedModel("gpt-4o", None, 2.5, 1.25, 10, "2027-02-28"),
        ),
        (
            {"id": "gpt-4o"},
            "api.openai.com",
            ServedModel("gpt-4o", None, 2.5, 1.25, 10, "2027-01-14"),
        ),
        # OpenRouter: US dollars for a token, as text.
        (
            {
                "id": "qwen/qwen-free:free",
                "context_length": 262144,
                "pricing": {"prompt": "0", "completion": "0", "request": "0"},
                "expiration_date": None,
            },
            "openrouter.ai",
            ServedModel("qwen/qwen-free:free", 262144, 0.0, None, 0.0),
        ),
        (
            {
                "id": "openai/gpt-6-luna",
                "context_length": 1050000,
                "pricing": {
                    "prompt": "0.00000011",
                    "completion": "0.00000055",
                    "input_cache_read": "0.000000011",
                },
            },
            "openrouter.ai",
            ServedModel("openai/gpt-6-luna", 1050000, 0.11, 0.011, 0.55),
        ),
        (
            {"id": "openrouter/auto", "pricing": {"prompt": "-1", "completion": "-1"}},
            "openrouter.ai",
            ServedModel("openrouter/auto"),
        ),
        # Together: for a million.
        (
            {"id": "x/y", "context_length": 8192, "pricing": {"input": 0.88, "output": 0.9}},
            "api.together.xyz",
            ServedModel("x/y", 8192, 0.88, None, 0.9),
        ),
        # vLLM, Groq, llama.cpp, Mistral.
        ({"id": "a", "max_model_len": 4096}, "localhost:8000", ServedModel("a", 4096)),
        ({"id": "a", "context_window": 131072}, "api.groq.com", ServedModel("a", 131072)),
        ({"id": "a", "meta": {"n_ctx_train": 8192}}, "localhost:8080", ServedModel("a", 8192)),
        (
            {"id": "a", "max_context_length": 32768, "deprecation": "2027-01-31T12:00:00Z"},
            "api.mistral.ai",
            ServedModel("a", 32768, shutdown_date="2027-01-31"),
        ),
        # Nonsense is unknown.
        (
            {
                "id": "a",
                "context_length": "many",
                "meta": 7,
                "pricing": {"prompt": "x", "completion": True},
                "shutdown_date": "soon",
                "deprecation": 12,
            },
            "x",
            ServedModel("a"),
        ),
    ],
)
def test_served_model_is_read_from_each_form_of_list(
    document: dict[str, Any], endpoint: str, model: ServedModel
) -> None:
    assert served_models([document], endpoint, Pricing()) == [model]


@pytest.mark.parametrize(
    "body",
    [
        {"object": "list", "data": [{"id": "a"}, {"id": "b"}]},
        [{"id": "a"}, {"id": "b"}],
        ["a", "b"],
        {"data": ["a", None, 7, "b", {"id": None}]},
        {"data": None, "models": [{"name": "a"}, {"model": "b"}]},  # Cohere, Ollama
        {"result": [{"id": "u", "name": "a"}, {"id": "v", "name": "b"}]},  # Cloudflare
    ],
)
def test_models_in_a_list_of_each_form_have_their_names(body: object) -> None:
    assert [item["id"] for item in models_in(body)] == ["a", "b"]


@pytest.mark.parametrize("body", [None, "x", {}, {"data": {}}, {"data": None}])
def test_models_in_something_else_are_empty(body: object) -> None:
    assert models_in(body) == []


def test_served_model_without_a_price_has_the_users_price() -> None:
    [model] = served_models([{"id": "mine"}], "localhost", Pricing({"mine": Price(1, 2)}))
    assert (model.input_usd, model.output_usd) == (1, 2)


def test_similar_models_are_the_nearest_first() -> None:
    ids = ["openai/gpt-6-luna", "gpt-6.1-sol", "claude-opus-5", "gpt-6-luna-pro", "gpt-6-sol"]
    assert similar_models("gpt-6-lunar", ids) == [
        "openai/gpt-6-luna",
        "gpt-6-luna-pro",
        "gpt-6-sol",
    ]
    assert similar_models("mixtral", ids) == []
    assert similar_models("x", []) == []
    assert model_advice("zzz", URL, ids).startswith(f"Check that {URL} serves the model zzz")


def test_cache_keeps_the_names_of_each_endpoint(tmp_path: Path) -> None:
    cache = ModelListCache(tmp_path / "data")
    assert cache.get(URL) == ([], False)
    cache.put("https://me:secret@api.example.com/v1/?key=secret", ["a", "b"])
    cache.put("https://other.example.com/v1", ["c"], fresh_for=timedelta(0))
    assert cache.get(URL) == (["a", "b"], True)
    assert cache.get("https://other.example.com/v1") == (["c"], False)
    assert "secret" not in (tmp_path / "data" / "models.json").read_text()
    assert (tmp_path / "data" / "models.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", ["", "[]", "[1]", '{"https://api.example.com/v1": 7}', "\0", "{", "[" * 100_000]
)
def test_cache_damaged_is_empty(tmp_path: Path, content: str) -> None:
    cache = ModelListCache(tmp_path)
    (tmp_path / "models.json").write_text(content)
    assert cache.get(URL) == ([], False)
    cache.put(URL, ["a"])
    assert cache.get(URL) == (["a"], True)


@pytest.mark.parametrize(
    "read_at", ["yesterday", None, 7, "2026-11-27T00:00:00", "2999-01-01T00:00:00+00:00"]
)
def test_cache_without_a_time_in_the_past_is_not_fresh(tmp_path: Path, read_at: object) -> None:
    entry = {URL: {"ids": ["a", 7], "read_at": read_at}}
    (tmp_path / "models.json").write_text(json.dumps(entry))
    assert ModelListCache(tmp_path).get(URL) == (["a"], False)
