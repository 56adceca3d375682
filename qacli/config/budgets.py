"""The budgets of the callers of `qa serve`, in the setting `budgets`."""

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from qacli.config.parsers import Parser, parse_list

if TYPE_CHECKING:
    from datetime import datetime

PERIODS = ("day", "week", "month", "total")
EVERY_CALLER = "*"


class Budget(NamedTuple):
    """The money that a caller may spend in a period.

    Attributes:
        amount: US dollars.
        period: One of `PERIODS`; all but `total` begin at midnight UTC, a week on Monday.
    """

    amount: float
    period: str

    def __str__(self) -> str:
        """Return the text of the setting."""
        return f"{self.amount:g}/{self.period}"

    def begin(self, now: "datetime") -> "datetime | None":
        """Return the time when the present period began; None for `total`."""
        from datetime import timedelta

        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        match self.period:
            case "day":
                return day
            case "week":
                return day - timedelta(days=day.weekday())
            case "month":
                return day.replace(day=1)
        return None

    def end(self, now: "datetime") -> "datetime | None":
        """Return the time when the next period begins; None for `total`."""
        from datetime import timedelta

        begin = self.begin(now)
        if begin is None:
            return None
        days = {"day": 1, "week": 7, "month": 31}[self.period]
        return Budget(0, self.period).begin(begin + timedelta(days=days))


def budgets_of(text: str | None) -> dict[str, Budget]:
    """Parse `alice=5.00/day,*=1/month` into the budgets by the names of their callers.

    Raises:
        ValueError: A name, an amount or a period is missing or not valid, or a name occurs twice.
    """
    budgets: dict[str, Budget] = {}
    for part in parse_list(text):
        match = re.fullmatch(r"([\w.@*-]{1,64})\s*=\s*\$?([0-9.]+)\s*/\s*(\w+)", part, re.ASCII)
        if match is None or match[3] not in PERIODS or match[1] in budgets:
            raise ValueError
        amount = float(match[2])
        if not math.isfinite(amount):
            raise ValueError
        budgets[match[1]] = Budget(amount, match[3])
    return budgets


def parse_budgets(text: str) -> str:
    """Check the syntax of `alice=5.00/day,*=1/month`.

    Raises:
        ValueError: See `budgets_of`.
    """
    if not budgets_of(text):
        raise ValueError
    return text


BUDGETS = Parser(
    parse_budgets,
    "budgets of different callers, each as name=DOLLARS/PERIOD with the period day, week, month "
    "or total, separated by commas",
)
