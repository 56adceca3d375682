"""Limit the rate of questions of each client, with the `limits` package.

The counts are in the database, so a rate holds for all workers and servers of that database. While
the database is away, each process counts for itself.

The other 429s: `budget.py`, `shared_limits.py`, `wrong_token_limit.py`.
"""

import time
from typing import TYPE_CHECKING

from flask import Flask, Response, g, request
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from qacli.db.rate_counts import count_event
from qacli.db.records import Store
from qacli.errors import DatabaseError, RateLimited
from qacli.web.request_context import current_context
from qacli.web.route_policy import is_question

if TYPE_CHECKING:
    from qacli.config.settings import Settings


def init_app(app: Flask, settings: "Settings", store: Store) -> None:
    """Count the questions of each client, and refuse those above its rate.

    Args:
        app: The application; its requests are authenticated before they are counted.
        settings: The rate.
        store: The database with the counts.
    """
    if settings.rate_limit is None:
        return
    rates = RateLimiter(settings.rate_limit, store)

    def check() -> None:
        if not is_question():
            return
        client = current_context().caller or request.remote_addr or ""
        g.rate = rates.count(client)
        if g.rate.is_over:
            raise RateLimited(
                f"A client may ask {g.rate.item.amount} times a {g.rate.item.GRANULARITY.name}.",
                f"Ask again in {g.rate.seconds} seconds.",
                retry_after=g.rate.seconds,
            )

    def add_headers(response: Response) -> Response:
        if (rate := g.get("rate")) is not None:
            response.headers.update(rate.headers())
        return response

    app.before_request(check)
    app.after_request(add_headers)


class RateLimit:
    """The state of one client under one rate.

    Attributes:
        item: The rate.
        is_over: The client has asked too often.
        remaining: Questions that the client may still ask.
        seconds: Seconds until the count starts again.
    """

    def __init__(
        self, item: RateLimitItem, *, is_over: bool, remaining: int, seconds: float
    ) -> None:
        self.item = item
        self.is_over = is_over
        self.remaining = remaining
        self.seconds = max(round(seconds + 0.5), 1)

    def headers(self) -> dict[str, str]:
        """Return the headers of draft-ietf-httpapi-ratelimit-headers."""
        name = f'"{self.item.amount}-per-{self.item.GRANULARITY.name}"'
        return {
            "RateLimit-Policy": f"{name};q={self.item.amount};w={self.item.get_expiry()}",
            "RateLimit": f"{name};r={self.remaining};t={self.seconds}",
        }


class RateLimiter:
    """Count the questions of each client under all rates.

    Args:
        text: The rates of the setting, separated by commas.
        store: The database with the counts.
    """

    def __init__(self, text: str, store: Store) -> None:
        self._items = sorted(parse_many(text))
        self._store = store
        # While the database is away: the counts of this process.
        self._own = FixedWindowRateLimiter(MemoryStorage())

    def count(self, client: str) -> RateLimit:
        """Count a question; return the exceeded rate, or the one with the fewest remaining."""
        rates: list[RateLimit] = []
        for item in self._items:
            rate = self._count(item, client)
            if rate.is_over:
                return rate
            rates.append(rate)
        return min(rates, key=lambda rate: rate.remaining)

    def _count(self, item: RateLimitItem, client: str) -> RateLimit:
        try:
            questions, seconds = count_event(self._store, item.key_for(client), item.get_expiry())
        except DatabaseError:
            is_over = not self._own.hit(item, client)
            stats = self._own.get_window_stats(item, client)
            reset = stats.reset_time - time.time()
            return RateLimit(item, is_over=is_over, remaining=stats.remaining, seconds=reset)
        remaining = item.amount - questions
        return RateLimit(item, is_over=remaining < 0, remaining=max(remaining, 0), seconds=seconds)
