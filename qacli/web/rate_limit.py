"""How often one client may ask.

Counted by the `limits` package: in memory where the server is one process, and else in a file
that all of its processes count in, so that their number does not change what a client may do.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask, Response, g, request
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage, Storage
from limits.strategies import FixedWindowRateLimiter

from qacli.errors import RateLimited
from qacli.web.rate_limit_storage import FileStorage
from qacli.web.request_context import current_context

if TYPE_CHECKING:
    from qacli.config.settings import Settings

ASKING = frozenset({"/ask", "/v1/chat/completions", "/page/ask"})
"""The routes that cost money."""


def init_app(app: Flask, settings: "Settings", shared: Path | None) -> None:
    """Count the questions of each client, and refuse those beyond its rate.

    Args:
        app: The application; its guard has found out by then who calls.
        settings: What is allowed.
        shared: A directory that the server's processes share; None where there is only one.
    """
    if settings.rate_limit is None:
        return
    rates = RateLimiter(
        settings.rate_limit, MemoryStorage() if shared is None else FileStorage(shared)
    )

    def check() -> None:
        rule = request.url_rule
        if request.method != "POST" or rule is None or rule.rule not in ASKING:
            return
        client = current_context().caller or request.remote_addr or ""
        g.rate = rates.count(client)
        if g.rate.is_over:
            raise RateLimited(
                f"A client may ask {g.rate.item.amount} times a {g.rate.item.GRANULARITY.name}.",
                f"Ask again in {g.rate.seconds} seconds.",
                retry_after=g.rate.seconds,
            )

    def tell(response: Response) -> Response:
        if (rate := g.get("rate")) is not None:
            response.headers.update(rate.headers())
        return response

    app.before_request(check)
    app.after_request(tell)


class RateLimit:
    """How one client stands with one of the rates.

    Attributes:
        item: The rate.
        is_over: Whether it has asked too often.
        left: How often it may still ask.
        seconds: Until it may ask as often as ever.
    """

    def __init__(self, item: RateLimitItem, *, is_over: bool, left: int, reset: float) -> None:
        self.item = item
        self.is_over = is_over
        self.left = left
        self.seconds = max(round(reset - time.time() + 0.5), 1)

    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers has them."""
        name = f'"{self.item.amount}-per-{self.item.GRANULARITY.name}"'
        return {
            "RateLimit-Policy": f"{name};q={self.item.amount};w={self.item.get_expiry()}",
            "RateLimit": f"{name};r={self.left};t={self.seconds}",
        }


class RateLimiter:
    """Rates that hold for each client.

    Args:
        text: The setting.
        storage: Where it is counted.
    """

    def __init__(self, text: str, storage: Storage) -> None:
        self._items = sorted(parse_many(text))
        self._limiter = FixedWindowRateLimiter(storage)

    def count(self, client: str) -> RateLimit:
        """Count one question; gives the rate that is over, or else the one with the least left."""
        tightest: RateLimit | None = None
        for item in self._items:
            is_over = not self._limiter.hit(item, client)
            stats = self._limiter.get_window_stats(item, client)
            rate = RateLimit(item, is_over=is_over, left=stats.remaining, reset=stats.reset_time)
            if is_over:
                return rate
            if tightest is None or rate.left < tightest.left:
                tightest = rate
        assert tightest is not None  # noqa: S101 - the setting has at least one
        return tightest
