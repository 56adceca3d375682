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

    def cost(self, model: str | None, prompt: int | None, completion: int | None) -> float | None:
        """US dollars for so many tokens; None where the price or the usage is unknown.

        A model's dated versions (`gpt-5-mini-2025-08-07`) cost what it costs.
        """
        price = self._price(model or "")
        if price is None or prompt is None or completion is None:
            return None
        return (prompt * price[0] + completion * price[1]) / PER_MILLION

    def _price(self, model: str) -> tuple[float, float] | None:
        if model in self._table:
            return self._table[model]
        head, _, tail = model.partition("-20")
        return self._table.get(head) if tail else None


def estimate_tokens(text: str) -> int:
    """About how many tokens a text is."""
    return len(text) // CHARACTERS_PER_TOKEN + 1


IMAGE_TOKENS = 1000
"""About what an image counts for; its size says nothing of it."""


TYPICAL_ANSWER_TOKENS = 1000
"""Tokens of an answer that has no limit."""


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
    def of(
        cls, ask: Question, turns: Sequence[Turn] = (), parts: Sequence[ContextPart] = ()
    ) -> "CostEstimate":
        """For a question, what it follows up, and what is put before it.

        With a schema it takes twice as much and more: an answer that does not fit goes back once.
        """
        completion = int(ask.params.get("max_tokens") or TYPICAL_ANSWER_TOKENS)
        every = [*parts, *(part for turn in turns for part in turn.parts)]
        texts = [ask.system or "", ask.question, *(part.text for part in every)]
        texts += [text for turn in turns for text in (turn.question, turn.answer)]
        schema = ask.params.get("response_format")
        images = sum(part.image_url is not None for part in every)
        prompt = estimate_tokens("".join(texts)) + images * IMAGE_TOKENS
        if schema is None:
            return cls(prompt, completion)
        prompt += estimate_tokens(json.dumps(schema))
        return cls(2 * prompt + completion, 2 * completion)


def check_budget(
    ask: Question, estimate: CostEstimate, *, limit: float, prices: Pricing, table: Path
) -> None:
    """See that a question is likely to cost no more than a limit.

    Args:
        ask: The question.
        estimate: About what it takes.
        limit: US dollars.
        prices: The prices of models.
        table: Where the user's own are.

    Raises:
        InvalidRequest: It may cost more, or nobody knows what it costs.
    """
    cost = prices.cost(ask.model, estimate.prompt, estimate.completion)
    if cost is None:
        raise InvalidRequest(
            f"The model {ask.model} is unpriced, so --max-cost cannot hold.",
            f"Add its price to {table}, or leave --max-cost out.",
        )
    if not cost <= limit:  # a limit that is no number is none that holds
        raise InvalidRequest(
            f"The answer may cost ${cost:.2g}, more than --max-cost {limit:g}: "
            f"about {estimate.prompt:,} tokens are asked and {estimate.completion:,} answered.",
            "Allow more, set a lower --max-tokens, or ask a cheaper --model.",
        )
