"""The usage of an answer by the names of endpoints."""

import math
from typing import Any

import pytest

from qacli.cost import Usage
from qacli.provider.chat_completions import ChatCompletions
from qacli.provider.response import ChatResponse
from qacli.provider.usage import add_cost_of_headers, add_usage, read_usage


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 5}, Usage(3, 5)),
        ({"input_tokens": 3, "output_tokens": 5}, Usage(3, 5)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}, Usage(3, None, 2)),
        ({"prompt_tokens": 3, "prompt_cache_hit_tokens": 2}, Usage(3, None, 2)),
        (
            {"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 4}},
            Usage(None, 5, None, 4),
        ),
        ({"prompt_tokens": 3, "cost": 0.5}, Usage(3, cost_usd=0.5)),
        ({"prompt_tokens": 3, "cost": {"total_cost": 0.5}}, Usage(3, cost_usd=0.5)),
        (
            {"prompt_tokens": "3", "completion_tokens": "5", "cost": "0.5"},
            Usage(3, 5, cost_usd=0.5),
        ),
        ({"prompt_tokens": 3.0, "completion_tokens": 5.0}, Usage(3, 5)),
        # Anthropic, Mistral, Moonshot; DeepInfra; xAI, in units of 1e-10 dollars
        ({"prompt_tokens": 3, "cache_read_input_tokens": 2}, Usage(3, None, 2)),
        ({"prompt_tokens": 3, "num_cached_tokens": 2}, Usage(3, None, 2)),
        ({"prompt_tokens": 3, "cached_tokens": 2}, Usage(3, None, 2)),
        ({"prompt_tokens": 3, "estimated_cost": 0.5}, Usage(3, cost_usd=0.5)),
        ({"prompt_tokens": 3, "cost_in_usd_ticks": 5_000_000_000}, Usage(3, cost_usd=0.5)),
        # Reasoning beside the completion: xAI, Gemini, CLIProxyAPI; not where a cache explains it
        (
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            Usage(32, 103, None, 94),
        ),
        (
            {"prompt_tokens": 20, "completion_tokens": 424, "total_tokens": 1016},
            Usage(20, 996, None, 572),
        ),
        (
            {
                "prompt_tokens": 21,
                "completion_tokens": 0,
                "total_tokens": 81,
                "completion_tokens_details": {"reasoning_tokens": 60},
            },
            Usage(21, 60, None, 60),
        ),
        (
            {
                "prompt_tokens": 20,
                "completion_tokens": 9,
                "total_tokens": 129,
                "cache_read_input_tokens": 100,
            },
            Usage(20, 9, 100),
        ),
        (
            {
                "prompt_tokens": 20,
                "completion_tokens": 9,
                "total_tokens": 129,
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
            Usage(20, 9, None, 4),
        ),
        (
            {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 20},
            Usage(20, 9),
        ),
        # OpenRouter with the user's own key of a provider; its fee is 0 or more
        (
            {
                "prompt_tokens": 3,
                "cost": 0,
                "is_byok": True,
                "cost_details": {"upstream_inference_cost": 0.036},
            },
            Usage(3, cost_usd=0.036),
        ),
        (
            {
                "prompt_tokens": 3,
                "cost": 0.25,
                "is_byok": True,
                "cost_details": {"upstream_inference_cost": 0.5},
            },
            Usage(3, cost_usd=0.75),
        ),
        ({"prompt_tokens": 3, "cost": 0, "is_byok": True, "cost_details": None}, Usage(3)),
        (
            {
                "prompt_tokens": 3,
                "cost": 0.5,
                "is_byok": False,
                "cost_details": {"upstream_inference_cost": 0.5},
            },
            Usage(3, cost_usd=0.5),
        ),
        ({"prompt_tokens": -1, "completion_tokens": "five", "cost": math.inf}, None),
        ({"prompt_tokens": "nan", "completion_tokens": "-1", "cost": "-1"}, None),
        ({"prompt_tokens_details": [], "cost": True}, None),
        ({}, None),
        ([], None),
    ],
)
def test_read_usage_names_of_endpoints_are_known(usage: object, expected: Usage | None) -> None:
    assert read_usage(usage) == expected


@pytest.mark.parametrize(
    ("usage", "is_kept"),
    [
        (
            {"prompt_tokens": 3, "total_tokens": 3, "prompt_tokens_details": {"audio_tokens": 0}},
            False,
        ),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"audio_tokens": 1}}, True),
        ({"prompt_tokens": 3, "num_search_queries": 2}, True),
        ({"prompt_tokens": 3, "cost": {"total_cost": 1, "request_cost": 1}}, True),
    ],
)
def test_add_usage_with_other_fields_keeps_them(usage: dict[str, Any], *, is_kept: bool) -> None:
    response = ChatResponse()
    add_usage(usage, response)
    assert response.details == ({"usage": usage} if is_kept else {})


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        ({"x_groq": {"usage": {"prompt_tokens": 3}}}, Usage(3)),
        ({"choices": [{"delta": {}, "usage": {"prompt_tokens": 3}}]}, Usage(3)),
        ({"choices": [], "usage": {"prompt_tokens": 3}}, Usage(3)),
        ({"choices": [], "usage": None}, None),
    ],
)
def test_read_event_usage_is_found_in_each_place(
    document: dict[str, Any], usage: Usage | None
) -> None:
    response = ChatResponse()
    ChatCompletions().read_event("message", document, response)
    assert response.usage == usage


def test_add_usage_counts_in_several_chunks_are_merged() -> None:
    response = ChatResponse()
    for usage in (
        {"prompt_tokens": 100, "completion_tokens": 0},
        {"prompt_tokens": 110, "completion_tokens": 7},
        {"completion_tokens": 20},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": None},
    ):
        add_usage(usage, response)
    assert response.usage == Usage(110, 20)


@pytest.mark.parametrize(
    ("usage", "header", "cost"),
    [
        (Usage(3, 5), "0.00012", 0.00012),
        (Usage(3, 5, cost_usd=0.5), "0.00012", 0.5),
        (Usage(3, 5), "0.0", None),
        (Usage(3, 5), "None", None),
    ],
)
def test_add_cost_of_headers_is_litellms_where_the_usage_has_none(
    usage: Usage, header: str, cost: float | None
) -> None:
    response = ChatResponse(usage=usage, headers={"x-litellm-response-cost": header})
    add_cost_of_headers(response)
    assert response.usage is not None
    assert response.usage.cost_usd == cost
