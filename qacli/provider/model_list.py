"""The models that an endpoint serves, with their properties."""

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any, Self
from urllib.parse import quote

from qacli.cost import Pricing
from qacli.model_shutdowns import find_shutdown
from qacli.price_table import PER_MILLION
from qacli.validation import parse_count, sanitize_text

MODELS_PATH = "/models"
MAX_SUGGESTIONS = 3
MIN_SIMILARITY = 0.6

CONTEXT_FIELDS = (
    *("context_length", "context_window", "max_model_len", "max_context_length"),
    *("max_input_tokens", "inputTokenLimit"),
)
"""OpenRouter and Together; Groq; vLLM; Mistral and LM Studio; Anthropic; Gemini."""

SHUTDOWN_FIELDS = ("shutdown_date", "deprecation", "expiration_date")
"""OpenAI (https://developers.openai.com/api/docs/deprecations); Mistral; OpenRouter."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of an endpoint; unknown fields are None.

    Attributes:
        id: Its name, as `--model` takes it.
        context_length: Tokens of prompt and answer together.
        input_usd: US dollars for a million tokens of input.
        cached_usd: US dollars for a million tokens of cached input.
        output_usd: US dollars for a million tokens of output.
        shutdown_date: The first day on which it is not served, as `YYYY-MM-DD`.
    """

    id: str
    context_length: int | None = None
    input_usd: float | None = None
    cached_usd: float | None = None
    output_usd: float | None = None
    shutdown_date: str | None = None

    @classmethod
    def from_document(cls, document: dict[str, Any], endpoint: str, prices: Pricing) -> Self:
        """Return a model as a provider describes it, with the rest from qa's own tables.

        Args:
            document: An item of the provider's list.
            endpoint: The endpoint's name.
            prices: The prices of models that the list has without a price.
        """
        name = sanitize_text(str(document["id"]))
        stated = _stated_prices(document.get("pricing"))
        if stated is None:
            price = prices.price(name, endpoint)
            stated = (price.input, price.cached, price.output) if price else (None, None, None)
        shutdown = find_shutdown(name, endpoint)
        return cls(
            name,
            _context_length(document),
            *stated,
            shutdown_date=next(
                filter(None, (_day(document.get(field)) for field in SHUTDOWN_FIELDS)), None
            )
            or (shutdown.day.isoformat() if shutdown else None),
        )


LISTS = {"data": ("id", "name"), "models": ("id", "name", "model"), "result": ("name", "id")}
"""The fields with the list, and those of an item with the name that `--model` takes: of OpenAI; of
Ollama and Cohere; of Cloudflare, where the id of a model is another one."""


def models_in(body: object) -> list[dict[str, Any]]:
    """Return the items of a provider's list, or of a page of it; each has an `id`."""
    # Together and others send the list alone.
    lists: dict[str, Any] = body if isinstance(body, dict) else {"data": body}
    field = next((name for name in LISTS if isinstance(lists.get(name), list)), None)
    models: list[dict[str, Any]] = []
    for item in lists[field] if field else []:
        fields = item if isinstance(item, dict) else {"id": item}
        names = (fields.get(name) for name in LISTS[field or "data"])
        model_id = next((name for name in names if isinstance(name, str) and name), None)
        if model_id is not None:
            models.append({**fields, "id": model_id})
    return models


def next_page(body: object, path: str) -> str | None:
    """Return the path of the page after this one; None if it is the last.

    Only Anthropic has pages (https://docs.anthropic.com/en/api/models-list).

    Args:
        body: The page.
        path: Its own path.
    """
    last = body.get("last_id") if isinstance(body, dict) and body.get("has_more") is True else None
    if not isinstance(last, str) or not last:
        return None
    following = f"{MODELS_PATH}?limit=1000&after_id={quote(last, safe='')}"
    return following if following != path else None


def served_models(
    documents: Iterable[dict[str, Any]], endpoint: str, prices: Pricing
) -> list[ServedModel]:
    """Return the models of a provider's list, in order of their names."""
    models = (ServedModel.from_document(item, endpoint, prices) for item in documents)
    return sorted(models, key=lambda model: model.id)


def similar_models(name: str, ids: Sequence[str]) -> list[str]:
    """Return the most similar names; `gpt-6-luna` is `openai/gpt-6-luna` of a gateway."""
    from difflib import SequenceMatcher

    matcher = SequenceMatcher()
    matcher.set_seq2(name.lower().rpartition("/")[2])

    def similarity(candidate: str) -> float:
        matcher.set_seq1(candidate.lower().rpartition("/")[2])
        if min(matcher.real_quick_ratio(), matcher.quick_ratio()) < MIN_SIMILARITY:
            return 0.0
        return matcher.ratio()

    scores = {candidate: similarity(candidate) for candidate in ids}
    near = [candidate for candidate in ids if scores[candidate] >= MIN_SIMILARITY]
    return sorted(near, key=lambda candidate: (-scores[candidate], candidate))[:MAX_SUGGESTIONS]


def model_advice(name: str, base_url: str, ids: Sequence[str]) -> str:
    """Return advice for a model that an endpoint does not serve, with the most similar it does."""
    similar = similar_models(name, ids)
    nearest = f"The nearest that it serves: {', '.join(similar)}. " if similar else ""
    return (
        f"{nearest}Check that {base_url} serves the model {name}, or choose another with --model "
        "or QA_MODEL; `qa models` lists all."
    )


def _context_length(document: dict[str, Any]) -> int | None:
    meta = document.get("meta")  # llama.cpp
    values = [document.get(field) for field in CONTEXT_FIELDS]
    values += [meta.get("n_ctx"), meta.get("n_ctx_train")] if isinstance(meta, dict) else []
    return next((count for value in values if (count := parse_count(value))), None)


def _stated_prices(pricing: object) -> tuple[float | None, float | None, float | None] | None:
    """Return the prices in a list: OpenRouter's for a token, Together's for a million."""
    if not isinstance(pricing, dict):
        return None
    if "prompt" in pricing:
        names, factor = ("prompt", "input_cache_read", "completion"), float(PER_MILLION)
    else:
        names, factor = ("input", "cached_input", "output"), 1.0
    prices = [_number(pricing.get(name), factor) for name in names]
    return None if prices[0] is None or prices[2] is None else (prices[0], prices[1], prices[2])


def _number(value: object, factor: float) -> float | None:
    """Return a price; None for none, and for OpenRouter's -1, which depends on the request."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = round(float(value) * factor, 6)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _day(value: object) -> str | None:
    """Return the day of a date or a time in ISO 8601; None for anything else."""
    with suppress(ValueError, TypeError):
        return date.fromisoformat(str(value)[:10]).isoformat() if isinstance(value, str) else None
    return None
