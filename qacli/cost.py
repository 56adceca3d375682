"""The cost of an answer, from prices that the user can edit; unknown is None, never 0.

The provider's own price comes first, then `prices.toml` next to the configuration file, then the
table of `qacli.price_table`. Prices are in US dollars for a million tokens.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from qacli.config.defaults import LOCAL
from qacli.domain import ContextPart, Question, Turn
from qacli.errors import InvalidRequest, NotConfigured
from qacli.price_table import DISCOUNTS, PREMIUM_TIERS, Price, PriceTable, plain_names

CHARACTERS_PER_TOKEN = 4
"""Characters in a token of English text, by OpenAI's documentation; only for estimates."""

PRICE_PARTS = ("input", "output", "cached")
"""The numbers of a price in `prices.toml`, in this order; the last one may be absent."""

UNREADABLE = (
    *(OSError, ValueError, TypeError, LookupError),
    *(OverflowError, RecursionError, AttributeError),
)
"""The exceptions that reading an invalid file of prices raises."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one answer, as the provider counts them; None if it sends no count.

    Attributes:
        cached_tokens: The part of `prompt_tokens` that the provider took from its cache.
        reasoning_tokens: The part of `completion_tokens` that is reasoning.
        cost_usd: The provider's own price for the answer, in US dollars.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None

    @property
    def total(self) -> int:
        """Return all tokens; unknown counts are 0."""
        return (self.prompt_tokens or 0) + (self.completion_tokens or 0)


class Pricing:
    """The prices of models.

    Args:
        own: The user's own, by `model` or `host/model`; they have precedence over the table.
    """

    def __init__(self, own: Mapping[str, Price] | None = None) -> None:
        self._own = {name.lower(): price for name, price in (own or {}).items()}

    @classmethod
    def load(cls, file: Path) -> "Pricing":
        """Return the prices of the user's file, if it exists, before those of the table.

        Raises:
            NotConfigured: The file is not valid.
        """
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8-sig"))
            return cls({name: _own_price(value) for name, value in table.items()})
        except FileNotFoundError:
            return cls()
        except UNREADABLE as error:
            raise NotConfigured(
                f"The prices in {file} cannot be read: {error}.",
                'Write them like: "my-model" = [0.25, 2.00]',
            ) from error

    @property
    def generated(self) -> date:
        """The date of the table."""
        return PriceTable.load().generated

    def cost(
        self,
        model: str | None,
        usage: Usage,
        *,
        endpoint: str | None = None,
        tier: object = None,
        at: datetime | None = None,
    ) -> float | None:
        """Return US dollars for an answer; None if the price or the usage is unknown.

        The provider's own price has precedence. A model's dated versions
        (`gpt-6-luna-2026-09-22`) cost the same as the model where they have no price of their own.

        Args:
            model: The model that answered.
            usage: Its tokens.
            endpoint: The endpoint's name, see `Endpoint.name`; None for any.
            tier: The provider's `service_tier`: `flex` and `batch` cost half.
            at: The time of the request; now by default.
        """
        if usage.cost_usd is not None:
            return usage.cost_usd
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        if prompt is None or completion is None:
            return None
        name = tier if isinstance(tier, str) else None
        price = self.price(model, endpoint, prompt_tokens=prompt, tier=name, at=at)
        return None if price is None else price.cost(prompt, completion, usage.cached_tokens or 0)

    def price(
        self,
        model: str | None,
        endpoint: str | None = None,
        *,
        prompt_tokens: int = 0,
        tier: str | None = None,
        at: datetime | None = None,
    ) -> Price | None:
        """Return the price of a model's tokens; None if it is unknown. See `cost`."""
        if not model:
            return None
        for name in plain_names(model):
            own = self._own.get(f"{endpoint}/{name}") or self._own.get(name)
            if own is not None:
                return None if tier in PREMIUM_TIERS else own.times(DISCOUNTS.get(tier or "", 1.0))
        if endpoint == LOCAL:
            return None
        at = (at or datetime.now(UTC)).astimezone(UTC)
        return PriceTable.load().price(
            model, endpoint, prompt_tokens=prompt_tokens, tier=tier, at=at
        )


def _own_price(value: Any) -> Price:  # noqa: ANN401 - TOML of any form
    """Return a price from `[input, output]` or `[input, output, cached]`, or from a table of those.

    Raises:
        Exception: One of `UNREADABLE`, because the value has another form.
    """
    if isinstance(value, list):
        value = (
            dict(zip(PRICE_PARTS, value, strict=False)) if len(value) <= len(PRICE_PARTS) else {}
        )
    if unknown := value.keys() - set(PRICE_PARTS):
        raise ValueError(f"{', '.join(sorted(unknown))} is not a part of a price")
    price = Price(**{part: float(number) for part, number in value.items()})
    for number in (price.input, price.output, price.cached or 0.0):
        if not (isfinite(number) and number >= 0):
            raise ValueError(f"{number:g} is not a price")
    return price


IMAGE_TOKENS = 1000
"""The estimate for an image, whatever its size."""

TYPICAL_ANSWER_TOKENS = 1000
"""The estimate for an answer without a token limit."""


def estimate_tokens(*texts: str, images: int = 0) -> int:
    """Return about how many tokens texts and images take together."""
    return sum(map(len, texts)) // CHARACTERS_PER_TOKEN + 1 + images * IMAGE_TOKENS


def turn_tokens(turn: Turn) -> int:
    """Return the approximate number of tokens of a turn, including its attachments."""
    texts = (part.text for part in turn.parts)
    return estimate_tokens(turn.question, turn.answer, *texts, images=_images(turn.parts))


def _images(parts: Sequence[ContextPart]) -> int:
    return sum(part.image_url is not None for part in parts)


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """The estimated tokens of a question: of all that is sent, and of the answer."""

    prompt: int
    completion: int

    @classmethod
    def of_prompt(cls, *texts: str, max_tokens: int | None = None) -> "CostEstimate":
        """Return the estimate for texts; without a token limit the answer has a typical length."""
        return cls(estimate_tokens(*texts), int(max_tokens or TYPICAL_ANSWER_TOKENS))

    @classmethod
    def of(
        cls, ask: Question, turns: Sequence[Turn] = (), parts: Sequence[ContextPart] = ()
    ) -> "CostEstimate":
        """Return the estimate for a question with its conversation and its attachments.

        With a schema it takes more than twice as much: an answer that does not fit goes back once.
        """
        completion = int(ask.params.get("max_tokens") or TYPICAL_ANSWER_TOKENS)
        texts = [ask.system or "", ask.question, *(part.text for part in parts)]
        prompt = estimate_tokens(*texts, images=_images(parts)) + sum(map(turn_tokens, turns))
        schema = ask.params.get("response_format")
        if schema is None:
            return cls(prompt, completion)
        prompt += estimate_tokens(json.dumps(schema))
        return cls(2 * prompt + completion, 2 * completion)

    def cost(self, model: str, prices: Pricing, endpoint: str | None) -> float | None:
        """Return US dollars; None if the price of the model at the endpoint is unknown."""
        return prices.cost(model, Usage(self.prompt, self.completion), endpoint=endpoint)


def check_budget(  # noqa: PLR0913 - all that it depends on, by name
    ask: Question,
    estimate: CostEstimate,
    *,
    limit: float,
    prices: Pricing,
    endpoint: str | None,
    table: Path,
    other_cost: float = 0.0,
) -> float:
    """Refuse a question that is likely to cost more than a limit.

    Args:
        ask: The question.
        estimate: The tokens that it is likely to take.
        limit: US dollars.
        prices: The prices of models.
        endpoint: The endpoint's name.
        table: The file with the user's own prices, for the error.
        other_cost: US dollars for the same question to other models, which count too.

    Returns:
        The cost of the question to all models, in US dollars.

    Raises:
        InvalidRequest: The question may cost more, or the price of its model is unknown.
    """
    cost = estimate.cost(ask.model, prices, endpoint)
    if cost is None:
        raise InvalidRequest(
            f"The price of {ask.model} is unknown, so --max-cost cannot be used.",
            f"Add its price to {table}, or leave --max-cost out.",
        )
    cost += other_cost
    if not cost <= limit:  # also where the limit is NaN
        raise InvalidRequest(
            f"The answer may cost ${cost:.2g}, more than --max-cost {limit:g}: "
            f"about {estimate.prompt:,} tokens are sent, {estimate.completion:,} come back.",
            "Allow more, set a lower --max-tokens, or ask a cheaper --model.",
        )
    return cost
