"""The cost of the items of a batch, which the budget in the database must allow."""

from collections.abc import Sequence

from qacli.batch.database import DatabaseExecutor
from qacli.batch.options import BatchOptions
from qacli.batch.progress import ActiveItem, Progress
from qacli.cost import CostEstimate, Pricing
from qacli.db.batches import Batches, ClaimedItem
from qacli.domain import Question
from qacli.errors import InvalidRequest

TOLERANCE = 1.1
"""More is reserved if the likely cost is this many times the reserved cost."""


class Budget:
    """Estimates the costs for the budget of a batch, which all of its workers share.

    Args:
        options: The batch.
        batches: The database, with the budget and the parts of it that are spent and reserved.
        database: The thread that calls the database.
        prices: The prices of the models.
        endpoint: The name of the endpoint; see `Endpoint.name`.
        progress: Has the cost so far; `add` updates it.
    """

    def __init__(  # noqa: PLR0913 - the parts of it, by name
        self,
        options: BatchOptions,
        *,
        batches: Batches,
        database: DatabaseExecutor,
        prices: Pricing,
        endpoint: str,
        progress: Progress,
    ) -> None:
        self._options = options
        self._batches = batches
        self._database = database
        self._prices = prices
        self._endpoint = endpoint
        self._progress = progress
        self._priced = progress.done if progress.cost is not None else 0
        self._mean_cost = (progress.cost or 0.0) / max(self._priced, 1)

    def cost_of(self, item: ClaimedItem) -> float:
        """Return the likely cost of an item in US dollars, to reserve it with the claim."""
        try:
            return self._likely_cost(self._options.question(item.key, item.payload))
        except InvalidRequest:
            return 0.0

    async def reserve(
        self, question: Question, active: ActiveItem, release: Sequence[int] = ()
    ) -> bool:
        """Reserve the likely cost of the next attempt; return False if it exceeds the budget.

        It was reserved with the claim. More is reserved if answers have cost more than expected
        since, or an earlier attempt has been paid for.

        Args:
            question: The question.
            active: Its item.
            release: See `Batches.reserve`.
        """
        cost = active.paid + self._likely_cost(question) if active.cost else 0.0
        if cost <= active.cost * TOLERANCE:
            return True
        arguments = (self._options.batch_id, active.position, cost, release)
        if await self._database.run(self._batches.reserve, *arguments):
            active.cost = cost
            return True
        return False

    @property
    def reserved(self) -> float:
        """The likely cost of the questions that are being asked."""
        return sum(item.cost for item in self._progress.active_items.values())

    def _likely_cost(self, question: Question) -> float:
        """Estimate a cost: the token limit, else the mean of the answers, else a typical answer."""
        limit = question.params.get("max_tokens")
        if limit is None and self._priced:
            return self._mean_cost
        estimate = CostEstimate.of_prompt(
            question.question, question.system or "", max_tokens=limit
        )
        return estimate.cost(question.model, self._prices, self._endpoint) or self._mean_cost

    def add(self, cost: float | None) -> None:
        """Add the cost of an answer, if it is known."""
        if cost is not None:
            self._progress.cost = (self._progress.cost or 0.0) + cost
            self._priced += 1
            self._mean_cost += (cost - self._mean_cost) / self._priced
