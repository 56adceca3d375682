"""Read the usage of an answer: tokens, and the cost if the provider sends it."""

from dataclasses import fields, replace
from typing import Any

from qacli.cost import Usage
from qacli.provider.json_values import as_dict
from qacli.provider.response import ChatResponse
from qacli.validation import parse_count

TICKS_PER_DOLLAR = 10**10
"""xAI's unit of cost, `cost_in_usd_ticks`."""

NAMES = frozenset(
    {
        *("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens", "total_tokens"),
        *("cached_tokens", "reasoning_tokens", "cost"),
        *("prompt_cache_hit_tokens", "prompt_cache_miss_tokens"),
    }
)
DETAIL_NAMES = frozenset(
    {
        *("prompt_tokens_details", "input_tokens_details"),
        *("completion_tokens_details", "output_tokens_details"),
    }
)


def add_usage(usage: object, response: ChatResponse) -> None:
    """Add to the usage of a response; keep the original if it has more than the record's fields.

    Some endpoints send it in every chunk, as far as it is known, or divide it: the newer counts
    replace the older ones, except by none or 0.
    """
    counts = read_usage(usage)
    if counts is not None:
        before = response.usage
        response.usage = counts if before is None else _newest(before, counts)
    if isinstance(usage, dict) and _says_more(usage):
        response.add_detail("usage", usage)


def _newest(before: Usage, counts: Usage) -> Usage:
    """Return the newer counts, and the older ones where the newer are none or 0."""
    pairs = [(getattr(before, field.name), getattr(counts, field.name)) for field in fields(Usage)]
    return Usage(*(old if old and not new else new for old, new in pairs))


def add_cost_of_headers(response: ChatResponse) -> None:
    """Add the cost in LiteLLM's header if the usage has none; it is 0 before a stream's end."""
    cost = _dollars(response.headers.get("x-litellm-response-cost"))
    if cost and response.usage is not None and response.usage.cost_usd is None:
        response.usage = replace(response.usage, cost_usd=cost)


def usage_of(document: dict[str, Any], choice: dict[str, Any] | None) -> object:
    """Return the usage in a document: next to the choices, in a choice (Moonshot), or Groq's."""
    groq = document.get("x_groq")
    return (
        document.get("usage")
        or (choice or {}).get("usage")
        or (groq.get("usage") if isinstance(groq, dict) else None)
    )


def read_usage(usage: object) -> Usage | None:
    """Return the tokens of an answer, by the names of either API; None if there are none."""
    if not isinstance(usage, dict):
        return None
    prompt_details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    completion_details = usage.get("completion_tokens_details") or usage.get(
        "output_tokens_details"
    )
    counts = Usage(
        prompt_tokens=_count(usage, "prompt_tokens", "input_tokens"),
        completion_tokens=_count(usage, "completion_tokens", "output_tokens"),
        # The names of Moonshot and Together, DeepSeek, Mistral, Anthropic.
        cached_tokens=_count(prompt_details, "cached_tokens")
        or _count(
            usage,
            *("cached_tokens", "prompt_cache_hit_tokens"),
            *("num_cached_tokens", "cache_read_input_tokens"),
        ),
        reasoning_tokens=_count(completion_details, "reasoning_tokens")
        or _count(usage, "reasoning_tokens"),
        cost_usd=_cost(usage),
    )
    if counts == Usage():
        return None
    return _with_separate_reasoning(counts, usage)


def _with_separate_reasoning(counts: Usage, usage: dict[str, Any]) -> Usage:
    """Return counts whose completion has the reasoning that a provider counts beside it.

    The sum shows it. At xAI (https://docs.x.ai, "Consumption and Rate Limits") the reasoning has a
    number of its own; Gemini's compatible endpoint counts it in `total_tokens` only.
    """
    total, completion = _count(usage, "total_tokens"), counts.completion_tokens or 0
    if total is None or counts.prompt_tokens is None:
        return counts
    rest = total - counts.prompt_tokens - completion
    if counts.reasoning_tokens:
        is_reasoning = rest == counts.reasoning_tokens
    else:  # any other count, such as of a cache, may be in the sum too
        is_reasoning = rest > 0 and not _says_more(usage)
    if not is_reasoning:
        return counts
    return replace(counts, completion_tokens=completion + rest, reasoning_tokens=rest)


def _says_more(usage: dict[str, Any]) -> bool:
    """Return whether the usage has a value other than 0 that no field of a record has."""
    if any(value for name, value in usage.items() if name not in NAMES | DETAIL_NAMES):
        return True
    if isinstance(usage.get("cost"), dict):
        return True
    details = (usage[name] for name in DETAIL_NAMES if isinstance(usage.get(name), dict))
    return any(value for group in details for name, value in group.items() if name not in NAMES)


def _count(fields: object, *names: str) -> int | None:
    if not isinstance(fields, dict):
        return None
    for name in names:
        value = fields.get(name)
        if value is not None and (count := parse_count(_number(value))) is not None:
            return count
    return None


def _number(value: object) -> object:
    """Return a number; some gateways write it as a text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return None


def _cost(usage: dict[str, Any]) -> float | None:
    """Return US dollars: OpenRouter's number, Perplexity's object, DeepInfra's, xAI's ticks.

    For a request with the user's own key of a provider (`is_byok`), OpenRouter's number is its
    fee, often 0; the provider's price is beside it.
    """
    value = usage.get("cost")
    value = value.get("total_cost") if isinstance(value, dict) else value
    dollars = _dollars(value)
    if usage.get("is_byok") is True:
        upstream = _dollars(as_dict(usage.get("cost_details")).get("upstream_inference_cost"))
        return None if upstream is None else (dollars or 0.0) + upstream
    if dollars is None:
        dollars = _dollars(usage.get("estimated_cost"))
    if dollars is None:
        dollars = _dollars(usage.get("cost_in_usd_ticks"), TICKS_PER_DOLLAR)
    return dollars


def _dollars(value: object, per_dollar: int = 1) -> float | None:
    value = _number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) / per_dollar if 0 <= value < float("inf") else None
