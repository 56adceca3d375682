"""Format a request for --verbose: secrets masked, images shortened.

The request is formatted as it is sent, once for each attempt.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

import httpx2

from qacli.redaction import MIN_KEY_LENGTH, hide_header, hide_secrets, mask_url

IMAGE = re.compile(r"(data:[\w.+/-]*;base64,)([\w+/=-]{40,})")
SOUND = re.compile(r"()([A-Za-z0-9+/]{1000,}={0,2})")
IMAGE_PREVIEW_CHARACTERS = 16


def format_request(request: httpx2.Request, secrets: Iterable[str]) -> str:
    """Return the method, the URL, the headers and the body as lines of text.

    Args:
        request: The request that is sent.
        secrets: The provider's key and other secrets, which are masked everywhere.
    """
    headers = [
        f"{name.title()}: {hide_header(name, value)}" for name, value in request.headers.items()
    ]
    lines = [f"{request.method} {mask_url(str(request.url))}", *headers, "", _body(request)]
    return hide_secrets("\n".join(lines), secrets, min_length=MIN_KEY_LENGTH)


def _body(request: httpx2.Request) -> str:
    text = request.content.decode(errors="replace")
    try:
        return json.dumps(_shorten_images(json.loads(text)), ensure_ascii=False, indent=2)
    except ValueError:
        return text


def _shorten_images(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return {name: _shorten_images(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shorten_images(item) for item in value]
    if not isinstance(value, str):
        return value
    sound = SOUND.fullmatch(value)
    return IMAGE.sub(_shorten_image, value) if sound is None else _shorten_image(sound)


def _shorten_image(image: re.Match[str]) -> str:
    return f"{image[1]}{image[2][:IMAGE_PREVIEW_CHARACTERS]}… ({len(image[2]):,} characters)"
