"""The budget of a batch: stop before its answers could cost more."""

from qacli.batch.options import ActiveItem, Progress
from qacli.cost import CostEstimate, Pricing
from qacli.domain import Question


class Budget:
    """The budget of one process.

    Args:
        max_cost: US dollars; None is no limit.
        prices: The prices of the models.
        endpoint: The name of the endpoint; see `Endpoint.name`.
        progress: Has the cost so far and the active items; `add` updates it.
    """

    def __init__(
        self, max_cost: float | None, prices: Pricing, endpoint: str, progress: Progress
    ) -> None:
        self._max_cost = max_cost
        self._prices = prices
        self._endpoint = endpoint
        self._progress = progress
        self._priced = progress.done if progress.cost is not None else 0
        self._mean_cost = (progress.cost or 0.0) / max(self._priced, 1)

    def reserve(self, question: Question, active: ActiveItem) -> bool:
        """Reserve the likely cost of a question; return False if it could exceed the budget.

        One question may be asked before the cost of an answer is known, as long as it is alone.
        """
        if self._max_cost is None:
            return True
        active.cost = active.paid + self._likely_cost(question)
        spent = self._progress.cost or 0.0
        if self.reserved + spent <= self._max_cost:
            return True
        is_first = not self._priced and self.reserved == active.cost
        if is_first and spent + active.paid < self._max_cost:
            return True
        active.cost = 0.0
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
