"""Decide whether a request to the provider may follow a redirect.

An HTTP client that follows redirects itself sends the prompt to any host in the response, and
changes POST to GET after 301 and 302. Here the same request is sent again, and only to the same
host.
"""

from dataclasses import dataclass

import httpx2

FOLLOWED_STATUS = frozenset({301, 302, 307, 308})
"""RFC 9110, 15.4. Not 303, which would be followed by a GET request."""

MAX_REDIRECTS = 5
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Redirect:
    """The target of a redirect.

    Attributes:
        status: The HTTP status of the response.
        url: The absolute URL, without user, password and fragment.
        keeps_host: Scheme, host and port are the same, or http becomes https on the same host.
    """

    status: int
    url: httpx2.URL
    keeps_host: bool


def redirect_target(response: httpx2.Response) -> Redirect | None:
    """Return the target of a redirect; None if the response is not one or has no valid URL."""
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
