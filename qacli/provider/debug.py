"""A request as a person may see it: all that is sent, but no secret, and no image's thousand lines.

Read from the request that goes out, and not from what it was made of: what is shown is what the
provider gets, of each attempt.
"""

import json
import re
from typing import Any

import httpx2

MASK = "***"
SECRET = re.compile(r"authorization|cookie|key|token|secret", re.IGNORECASE)
"""Headers whose values are not shown."""

IMAGE = re.compile(r"(data:[\w.+/-]*;base64,)([\w+/=-]{40,})")
MIN_KEY_LENGTH = 8
"""What is shorter (`x`, `none`, for an endpoint that wants any) is no secret, but part of words."""

IMAGE_PREVIEW_CHARACTERS = 16
"""How much of an image is shown, in characters."""


def format_request(request: httpx2.Request, key: str) -> str:
    """Method, address, headers and body, in lines.

    Args:
        request: What is about to be sent.
        key: What authenticates it; wherever it stands, it is not shown.
    """
    headers = [f"{_title(name)}: {_value(name, value)}" for name, value in request.headers.items()]
    lines = [f"{request.method} {_address(request.url)}", *headers, "", _body(request)]
    text = "\n".join(lines)
    return text.replace(key, MASK) if len(key) >= MIN_KEY_LENGTH else text


def _title(name: str) -> str:
    return "-".join(word.capitalize() for word in name.split("-"))


def _value(name: str, value: str) -> str:
    if not SECRET.search(name):
        return value
    scheme, space, _ = value.partition(" ")
    return f"{scheme} {MASK}" if space and "authorization" in name.lower() else MASK


def _address(url: httpx2.URL) -> str:
    """Without user and password, and without what a query says."""
    query = "&".join(f"{name}={MASK}" for name, _ in url.params.multi_items())
    bare = str(url.copy_with(username=None, password=None, query=None, fragment=None))
    before, slashes, rest = bare.partition("://")
    user = f"{MASK}@" if url.userinfo else ""
    return f"{before}{slashes}{user}{rest}" + (f"?{query}" if query else "")


def _body(request: httpx2.Request) -> str:
    text = request.content.decode(errors="replace")
    try:
        return json.dumps(_abbreviate(json.loads(text)), ensure_ascii=False, indent=2)
    except ValueError:
        return text


def _abbreviate(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return {name: _abbreviate(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_abbreviate(each) for each in value]
    return IMAGE.sub(_shorten_image, value) if isinstance(value, str) else value


def _shorten_image(image: re.Match[str]) -> str:
    return f"{image[1]}{image[2][:IMAGE_PREVIEW_CHARACTERS]}… ({len(image[2]):,} characters)"
