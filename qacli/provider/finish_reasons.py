"""Translate the reasons for which endpoints end an answer into those of OpenAI.

OpenAI has `stop`, `length`, `content_filter` and `tool_calls`. Only reasons with a consequence are
translated; any other stays as it came, since it means that the answer is complete.
"""

from collections.abc import Mapping
from typing import Any

LENGTH = frozenset(
    {
        *("max_tokens", "max_output_tokens", "max_completion_tokens"),  # Gemini, Anthropic, Cohere
        *(
            "model_length",
            "model_context_window_exceeded",
            "error_limit",
        ),  # Mistral, Anthropic, Cohere
    }
)

CONTENT_FILTER = frozenset(
    {
        *("safety", "recitation", "blocklist", "prohibited_content", "spii", "language"),  # Gemini
        *("image_safety", "image_prohibited_content", "image_recitation"),  # Gemini
        *("refusal", "sensitive", "error_toxic"),  # Anthropic, Zhipu, Cohere
        *("content_filtered", "guardrail_intervened"),  # Bedrock
    }
)

FAILED = frozenset(
    {
        *("error", "abort", "aborted", "cancelled"),  # OpenRouter, vLLM and SGLang, TGI
        *("user_cancel", "timeout", "time_limit"),  # Cohere; watsonx
        *("insufficient_system_resource", "network_error"),  # DeepSeek, Zhipu
        *("malformed_function_call", "malformed_response", "unexpected_tool_call"),  # Gemini
    }
)
"""The provider stopped in the middle, so that the answer is not complete."""


def finish_reason_of(value: object) -> str | None:
    """Return OpenAI's name for a finish reason if there is one; None without a reason.

    SGLang has sent an object with the reason as its `type`; Gemini `content_filter: SAFETY` and
    `function_call_filter: MALFORMED_FUNCTION_CALL`; DashScope the text `null` before the end.
    """
    if isinstance(value, dict):
        value = value.get("type")
    if not isinstance(value, str) or value.lower() in {"", "null", "none"}:
        return None
    name = value.lower().removeprefix("finish_reason_").removeprefix("function_call_filter: ")
    if name in LENGTH:
        return "length"
    if name in CONTENT_FILTER or name.startswith("content_filter"):
        return "content_filter"
    return name if name in FAILED else value


def is_filtered(details: Mapping[str, Any]) -> bool:
    """Return whether Azure's filter stopped the question: such an answer has no choices."""
    results = details.get("prompt_filter_results")
    return any(
        isinstance(verdict, dict) and verdict.get("filtered") is True
        for item in (results if isinstance(results, list) else [])
        if isinstance(item, dict) and isinstance(item.get("content_filter_results"), dict)
        for verdict in item["content_filter_results"].values()
    )
