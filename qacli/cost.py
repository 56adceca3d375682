"""What an answer costs, from a table that the user can edit; unknown is None, never 0.

The default table is OpenAI's published prices as of its date. `prices.toml` beside the
configuration file adds to it and goes before it: `"my-model" = [0.25, 2.00]`, US dollars for a
million prompt tokens and for a million completion tokens.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qacli.domain import ContextPart, Question, Turn
from qacli.errors import InvalidRequest, NotConfigured

DATE_SUFFIX = "2025-08"
DEFAULT_PRICES: Mapping[str, tuple[float, float]] = {
    "gpt-5": (1.25, 10.0),
    "gpt-5-mini": (0.25, 2.0),
    "gpt-5-nano": (0.05, 0.40),
    "gpt-4.1": (2.0, 8.0),
    "gpt-4.1-mini": (0.40, 1.60),
    "gpt-4.1-nano": (0.10, 0.40),
    "gpt-4o": (2.50, 10.0),
    "gpt-4o-mini": (0.15, 0.60),
    "o3": (2.0, 8.0),
    "o4-mini": (1.10, 4.40),
}
PER_MILLION = 1_000_000
CHARACTERS_PER_TOKEN = 4
"""Of English text, as OpenAI's documentation puts it: good for an estimate, not for a bill."""

UNREADABLE = (
    *(OSError, ValueError, TypeError, LookupError),
    *(OverflowError, RecursionError),
)
"""What a file of prices raises that is not as it should be."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one answer, as the provider counts them; None where it does not.

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
        own: The user's own, in front of the default ones.
    """

    def __init__(self, own: Mapping[str, tuple[float, float]] | None = None) -> None:
        self._table = {**DEFAULT_PRICES, **(own or {})}

    @classmethod
    def load(cls, file: Path) -> "Pricing":
        """The default prices, and those of a file where it exists.

        Raises:
            NotConfigured: The file is not what it should be.
        """
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8-sig"))
            return cls({name: (float(each[0]), float(each[1])) for name, each in table.items()})
        except FileNotFoundError:
            return cls()
        except UNREADABLE as error:
            raise NotConfigured(
                f"The prices in {file} cannot be read: {error}.",
                'Write them like: "my-model" = [0.25, 2.00]',
            ) from error

    def cost(self, model: str | None, usage: Usage) -> float | None:
        """Return US dollars for an answer; None where the price or the usage is unknown.

        The provider's own price has precedence. A model's dated versions
        (`gpt-5-mini-2025-08-07`) cost the same as the model.
        """
        if usage.cost_usd is not None:
            return usage.cost_usd
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        price = self._price(model or "")
        if price is None or prompt is None or completion is None:
            return None
        return (prompt * price[0] + completion * price[1]) / PER_MILLION

    def has_price(self, model: str) -> bool:
        """Return whether the price of the model is known."""
        return self._price(model) is not None

    def _price(self, model: str) -> tuple[float, float] | None:
        if model in self._table:
            return self._table[model]
        head, _, tail = model.partition("-20")
        return self._table.get(head) if tail else None


IMAGE_TOKENS = 1000
"""The estimate for an image, whatever its size."""

TYPICAL_ANSWER_TOKENS = 1000
"""The estimate for an answer without a token limit."""


def estimate_tokens(*texts: str, images: int = 0) -> int:
    """Return about how many tokens texts and images take together."""
    return sum(map(len, texts)) // CHARACTERS_PER_TOKEN + 1 + images * IMAGE_TOKENS


def turn_tokens(turn: Turn) -> int:
    """Return about how many tokens a turn takes, with what was put before its question."""
    texts = (part.text for part in turn.parts)
    return estimate_tokens(turn.question, turn.answer, *texts, images=_images(turn.parts))


def _images(parts: Sequence[ContextPart]) -> int:
    return sum(part.image_url is not None for part in parts)


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """About what a question takes, in tokens.

    Attributes:
        prompt: All that is sent.
        completion: The answer.
    """

    prompt: int
    completion: int

    @classmethod
    def of_prompt(cls, *texts: str, max_tokens: int | None = None) -> "CostEstimate":
        """Return the estimate for texts; without a token limit the answer is as long as they."""
        prompt = estimate_tokens(*texts)
        return cls(prompt, int(max_tokens or prompt))

    @classmethod
    def of(
        cls, ask: Question, turns: Sequence[Turn] = (), parts: Sequence[ContextPart] = ()
    ) -> "CostEstimate":
        """Return the estimate for a question, what it follows up, and what is put before it.

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

    def cost(self, model: str, prices: Pricing) -> float | None:
        """Return US dollars; None where the price of the model is unknown."""
        return prices.cost(model, Usage(self.prompt, self.completion))


def check_budget(
    ask: Question, estimate: CostEstimate, *, limit: float, prices: Pricing, table: Path
) -> None:
    """Refuse a question that is likely to cost more than a limit.

    Args:
        ask: The question.
        estimate: Its tokens.
        limit: US dollars.
        prices: The prices of models.
        table: The file with the user's own prices.

    Raises:
        InvalidRequest: It may cost more, or the price of its model is unknown.
    """
    cost = estimate.cost(ask.model, prices)
    if cost is None:
        raise InvalidRequest(
            f"The model {ask.model} is unpriced, so --max-cost cannot hold.",
            f"Add its price to {table}, or leave --max-cost out.",
        )
    if not cost <= limit:  # also where the limit is NaN
        raise InvalidRequest(
            f"The answer may cost ${cost:.2g}, more than --max-cost {limit:g}: "
            f"about {estimate.prompt:,} tokens are asked and {estimate.completion:,} answered.",
            "Allow more, set a lower --max-tokens, or ask a cheaper --model.",
        )
