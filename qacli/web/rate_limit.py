"""Limit the rate of questions of each client, with the `limits` package.

Each worker process counts in memory and allows its share of the limit, so all of them together
allow at most the limit in the setting.
"""

import time
from typing import TYPE_CHECKING

from flask import Flask, Response, g, request
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from qacli.errors import RateLimited
from qacli.web.request_context import current_context
from qacli.web.route_policy import is_question

if TYPE_CHECKING:
    from qacli.config.settings import Settings


def init_app(app: Flask, settings: "Settings") -> None:
    """Count the questions of each client, and refuse those above its rate.

    Args:
        app: The application; its requests are authenticated before they are counted.
        settings: The rate, and the number of worker processes.
    """
    if settings.rate_limit is None:
        return
    rates = RateLimiter(settings.rate_limit, settings.workers)

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
        item: The rate, of all workers together.
        is_over: The client has asked too often.
        remaining: Questions that this worker still accepts from the client.
        seconds: Seconds until the count starts again.
    """

    def __init__(self, item: RateLimitItem, *, is_over: bool, remaining: int, reset: float) -> None:
        self.item = item
        self.is_over = is_over
        self.remaining = remaining
        self.seconds = max(round(reset - time.time() + 0.5), 1)

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
        workers: The number of worker processes; each allows its share of a rate, at least 1.
    """

    def __init__(self, text: str, workers: int = 1) -> None:
        items = sorted(parse_many(text))
        shares = [max(item.amount // workers, 1) for item in items]
        self._rates = [
            (item, type(item)(share, item.multiples, item.namespace))
            for item, share in zip(items, shares, strict=True)
        ]
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def count(self, client: str) -> RateLimit:
        """Count a question; return the exceeded rate, or the one with the fewest remaining."""
        rates: list[RateLimit] = []
        for item, share in self._rates:
            is_over = not self._limiter.hit(share, client)
            stats = self._limiter.get_window_stats(share, client)
            rate = RateLimit(
                item, is_over=is_over, remaining=stats.remaining, reset=stats.reset_time
            )
            if is_over:
                return rate
            rates.append(rate)
        return min(rates, key=lambda rate: rate.remaining)
