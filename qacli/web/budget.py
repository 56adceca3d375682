"""Refuse the questions of a caller whose budget is spent.

The money is the cost of the caller's records in the database, so the budget holds for all workers
and servers of that database. A question that is in flight when a budget is spent
is answered and counted.
"""

import math
from datetime import datetime
from typing import TYPE_CHECKING

from flask import Flask

from qacli.config.budgets import EVERY_CALLER, Budget, budgets_of
from qacli.db.records import Store
from qacli.db.spending import first_record_id, total_cost
from qacli.domain import now
from qacli.errors import BudgetSpent
from qacli.web.request_context import current_context
from qacli.web.route_policy import is_question

if TYPE_CHECKING:
    from qacli.config.settings import Settings


def init_app(app: Flask, settings: "Settings", store: Store) -> None:
    """Check the budget of the caller before each request that asks.

    Args:
        app: The application; its requests are authenticated before they are checked.
        settings: The budgets.
        store: The records of all callers.
    """
    budgets = budgets_of(settings.budgets)
    if not budgets:
        return
    spending = Spending(store)

    def check() -> None:
        if not is_question():
            return
        caller = current_context().caller
        budget = budgets.get(caller or "", budgets.get(EVERY_CALLER))
        if caller is None or budget is None:
            return
        clock = now()
        if spending.of(caller, budget, clock) < budget.amount:
            return
        end = budget.end(clock)
        what = f"The budget of {caller}, {budget.amount:g} US dollars"
        if end is None:
            raise BudgetSpent(f"{what} in all, is spent.", "The server's operator can raise it.")
        raise BudgetSpent(
            f"{what} a {budget.period}, is spent.",
            f"Ask again after {end:%Y-%m-%d %H:%M} UTC, or have the server's operator raise it.",
            retry_after=math.ceil((end - clock).total_seconds()),
        )

    app.before_request(check)


class Spending:
    """The cost of the callers' records.

    Args:
        store: The records of all callers.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # The begin of each caller's period, and the first id in it.
        self._first_ids: dict[str, tuple[datetime | None, int]] = {}

    def of(self, caller: str, budget: Budget, clock: datetime) -> float:
        """Return the US dollars that a caller has spent in the present period.

        Raises:
            DatabaseError: The database cannot be read.
        """
        begin = budget.begin(clock)
        known_begin, first_id = self._first_ids.get(caller, (None, None))
        if first_id is None or known_begin != begin:
            first_id = first_record_id(self._store, caller, begin)
            if first_id is None:
                return 0.0
            self._first_ids[caller] = (begin, first_id)
        return total_cost(self._store, caller, first_id)
