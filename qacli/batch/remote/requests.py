"""Write the items of a batch as request lines of OpenAI's Batch API."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from qacli.batch.options import BatchOptions
from qacli.cost import CostEstimate, Pricing
from qacli.db.batches import ClaimedItem
from qacli.domain import Question
from qacli.price_table import DISCOUNTS
from qacli.provider.batch_lines import BATCH_TIER, RequestLine, request_line
from qacli.provider.endpoint import Endpoint
from qacli.provider.refused_features import RefusedFeatures

PLAIN_ID = re.compile(r"(?!qa-item-)[A-Za-z0-9_.:-]{1,64}")
"""The keys that are sent as they are. Providers limit the length and the characters of an id."""

POSITION_ID = re.compile(r"qa-item-([0-9]{1,18})")


def custom_id_of(item: ClaimedItem) -> str:
    """Return the id of an item's request: its key, or its position if the key is not plain."""
    is_plain = PLAIN_ID.fullmatch(item.key) is not None
    return item.key if is_plain else f"qa-item-{item.position + 1}"


def position_of(custom_id: str) -> int | None:
    """Return the position of an item from the id of its request; None if the id is its key."""
    match = POSITION_ID.fullmatch(custom_id)
    return int(match[1]) - 1 if match else None


@dataclass(frozen=True, slots=True)
class RequestLines:
    """Builds the request lines of a batch.

    Attributes:
        options: The options of the batch.
        endpoint: The endpoint whose names of parameters are used.
        api: The setting `QA_API`.
        refused: The features that endpoints refuse.
        prices: The prices, for `cost`.
    """

    options: BatchOptions
    endpoint: Endpoint
    api: str
    refused: RefusedFeatures
    prices: Pricing

    def line(self, item: ClaimedItem) -> RequestLine:
        """Return the line of an item.

        Raises:
            InvalidRequest: The item cannot be asked.
        """
        question = self.options.question(item.key, item.payload)
        refused = self.refused.get(self.endpoint.base_url, question.model)
        return request_line(
            question,
            custom_id_of(item),
            api=self.api,
            refused=refused,
            official=self.endpoint.is_openai,
        )

    def lines(self, items: list[ClaimedItem]) -> Iterator[bytes]:
        """Yield the lines of items that can be asked."""
        for item in items:
            if "error" not in item.payload:
                yield self.line(item).content

    def cost(self, item: ClaimedItem) -> float:
        """Return the likely cost of an item in US dollars; 0 if the price is unknown."""
        question = self.options.question(item.key, item.payload)
        estimate = CostEstimate.of_prompt(
            prompt_of(question), question.system or "", max_tokens=question.params.get("max_tokens")
        )
        cost = estimate.cost(question.model, self.prices, self.endpoint.name) or 0.0
        return cost * DISCOUNTS[BATCH_TIER]


def prompt_of(question: Question) -> str:
    """Return the text that is sent: the messages of a Batch API line, or the question."""
    messages = question.params.get("messages")
    return str(messages) if messages else question.question
