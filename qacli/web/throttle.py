"""Limit the rate of wrong tokens from one address.

Only wrong tokens are counted and refused: a correct token from the same address is always
accepted, so one client behind a shared address cannot lock out the others. Each worker process
counts its own requests, with its share of the limit, for a limited number of addresses.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from time import monotonic

from qacli.errors import RateLimited

FAILURES = 20
"""Wrong tokens that one address may send in a window; later ones get 429 instead of 401."""

WINDOW_SECONDS = 60.0

CAPACITY = 10_000
"""Maximum number of addresses that are counted; the oldest entry makes room for a new one."""

IPV6_PREFIX_BITS = 64
"""An IPv6 network of this size belongs to one customer (RFC 6177), so it counts as one address."""


class FailureLimiter:
    """Count the wrong tokens of each address.

    Args:
        limit: Wrong tokens in a window that get 401; later ones get 429.
        window: Seconds, from the first wrong token on.
        capacity: Maximum number of addresses that are counted.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        limit: int = FAILURES,
        window: float = WINDOW_SECONDS,
        capacity: int = CAPACITY,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._limit = limit
        self._window = window
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        # All windows are equally long: the first entry is the first to end.
        self._windows: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def count(self, address: str | None) -> None:
        """Count a wrong token.

        Args:
            address: The client's address, as Flask's `remote_addr` gives it.

        Raises:
            RateLimited: The address has sent too many of them.
        """
        key, now = network_of(address or ""), self._clock()
        with self._lock:
            while self._windows and next(iter(self._windows.values()))[1] <= now:
                self._windows.popitem(last=False)
            failures, ends = self._windows.get(key, (0, now + self._window))
            self._windows[key] = (failures + 1, ends)
            if len(self._windows) > self._capacity:
                self._windows.popitem(last=False)
        if failures >= self._limit:
            seconds = max(round(ends - now + 0.5), 1)
            raise RateLimited(
                "This address has sent too many wrong tokens.",
                f"Try again in {seconds} seconds, with the right token.",
                retry_after=seconds,
            )


def network_of(address: str) -> str:
    """Return the key that an address counts under: an IPv4 address, or an IPv6 network."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if (ipv4 := parsed.ipv4_mapped) is not None:
            return str(ipv4)
        return str(IPv6Address(int(parsed) >> IPV6_PREFIX_BITS << IPV6_PREFIX_BITS))
    return str(parsed)
