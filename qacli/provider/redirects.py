"""Where a redirect leads, and whether the request may follow it.

An HTTP client that follows redirects by itself sends the whole prompt to any host that the answer
names, and turns a POST into a GET after 301 and 302. Here the same request goes to another address
of the same host, and to no other host.
"""

from dataclasses import dataclass

import httpx2

FOLLOWED_STATUS = frozenset({301, 302, 307, 308})
"""RFC 9110, 15.4. 303 means an answer at another address, which no provider gives."""

MOST_REDIRECTS = 5
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a response redirects to.

    Attributes:
        status: Of the response.
        url: The whole address, without a user name and a password.
        keeps_host: Whether scheme, host and port stay, or http becomes https on the same host.
    """

    status: int
    url: httpx2.URL
    keeps_host: bool


def redirect_target(response: httpx2.Response) -> Redirect | None:
    """Where a response redirects to; None where it is no redirect, or names no address."""
    location = response.headers.get("location")
    if response.status_code not in FOLLOWED_STATUS or not location:
        return None
    before = response.request.url
    try:
        url = before.join(location).copy_with(username=None, password=None, fragment=None)
    except (httpx2.InvalidURL, ValueError):
        return None
    upgraded = (before.scheme, url.scheme) == ("http", "https")
    same_scheme = before.scheme == url.scheme
    same_port = _port(before) == _port(url) or (upgraded and before.port == url.port)
    keeps_host = before.host == url.host and (same_scheme or upgraded) and same_port
    return Redirect(response.status_code, url, keeps_host)


def _port(url: httpx2.URL) -> int | None:
    return url.port or PORTS.get(url.scheme)
