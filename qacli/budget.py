"""Whether a question may cost more than somebody wants to pay, told before it is asked.

An estimate and not a bill: tokens are counted by characters, and how long an answer will be is
known by its token limit alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qacli.conversation import IMAGE_TOKENS
from qacli.errors import InvalidRequest
from qacli.exchange import Ask, Part, Turn
from qacli.prices import Prices, estimated_tokens

LIKELY_ANSWER = 1000
"""Tokens of an answer that has no limit."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """About what a question takes, in tokens.

    Attributes:
        prompt: All that is sent.
        completion: The answer.
    """

    prompt: int
    completion: int

    @classmethod
    def of(cls, ask: Ask, turns: Sequence[Turn] = (), parts: Sequence[Part] = ()) -> "Estimate":
        """For a question, what it follows up, and what is put before it.

        With a schema it takes twice as much and more: an answer that does not fit goes back once.
        """
        completion = int(ask.params.get("max_tokens") or LIKELY_ANSWER)
        every = [*parts, *(part for turn in turns for part in turn.parts)]
        texts = [ask.system or "", ask.question, *(part.text for part in every)]
        texts += [text for turn in turns for text in (turn.question, turn.answer)]
        schema = ask.params.get("response_format")
        images = sum(part.image_url is not None for part in every)
        prompt = estimated_tokens("".join(texts)) + images * IMAGE_TOKENS
        if schema is None:
            return cls(prompt, completion)
        prompt += estimated_tokens(json.dumps(schema))
        return cls(2 * prompt + completion, 2 * completion)


def refuse_too_expensive(
    ask: Ask, estimate: Estimate, *, limit: float, prices: Prices, table: Path
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
