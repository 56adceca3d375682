"""The sources and images of an answer, found in its `details`.

Each provider has its own shape. `details` can hold any JSON: a value of another shape is
left out.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MAX_SOURCES = 100
MAX_IMAGES = 100
MAX_URL_CHARACTERS = 2000
MAX_TITLE_CHARACTERS = 200
UNSAFE_IN_URL = set(' <>"`\\')
"""Characters that RFC 3986 does not allow, and that can end a link in Markdown or HTML."""

BITMAP_URL = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]*={0,2}")

MAX_DEPTH = 6
"""Levels of objects above Gemini's grounding, which gateways put into different places."""


@dataclass(frozen=True, slots=True)
class Source:
    """A web page that an answer cites.

    Attributes:
        url: An http or https address, without spaces and control characters.
        title: Its title in one line, empty if it is unknown; it can hold control characters.
    """

    url: str
    title: str

    @property
    def host(self) -> str:
        """The name of the server, with its port if that is not the usual one."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Image:
    """An image of an answer, whose content is in `details`.

    Attributes:
        media_type: For example `image/png`; empty if it is unknown.
        size: The number of its bytes; None if its content is not in the record.
        url: Its address, if it is an http or https address.
        data_url: Its content as a `data:` URL, if that is a bitmap that a browser can show.
    """

    media_type: str
    size: int | None
    url: str | None = None
    data_url: str | None = field(default=None, compare=False, repr=False)


def sources(details: Mapping[str, Any]) -> list[Source]:
    """Return the sources of an answer, each address once, in the order of the provider.

    These are the annotations of OpenAI (Chat Completions and Responses) and OpenRouter, the
    `citations` and `search_results` of Perplexity and xAI, and the grounding of Gemini. The numbers
    in Perplexity's answers, such as [2], are places in `citations`, so these come first.

    Args:
        details: The field `details` of a record.
    """
    titles: dict[str, str] = {}
    for url, title in _citations(details):
        if is_web_address(url) and (url in titles or len(titles) < MAX_SOURCES):
            text = " ".join(title.split())[:MAX_TITLE_CHARACTERS] if isinstance(title, str) else ""
            titles[url] = titles.get(url) or text
    return [Source(url, title) for url, title in titles.items()]


def images(details: Mapping[str, Any]) -> list[Image]:
    """Return the images of an answer, in the order of the provider; see `sources`."""
    items = (item for item in _list(details.get("images")) if isinstance(item, dict))
    return [_image(item) for item in items][:MAX_IMAGES]


def is_web_address(url: object) -> bool:
    """Return whether a value is an http or https address that is safe to show as a link."""
    if not isinstance(url, str) or len(url) > MAX_URL_CHARACTERS or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return (
        parts.scheme in {"http", "https"} and bool(parts.netloc) and not set(url) & set(" <>\"'`")
    )


def _citations(details: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the address and the title of everything that looks like a citation."""
    for item in _list(details.get("citations")):
        yield (item.get("url"), item.get("title")) if isinstance(item, dict) else (item, None)
    for item in _list(details.get("search_results")):
        if isinstance(item, dict):
            yield item.get("url"), item.get("title")
    for item in _list(details.get("annotations")):
        if isinstance(item, dict) and item.get("type") == "url_citation":
            citation = item.get("url_citation")
            citation = citation if isinstance(citation, dict) else item
            yield citation.get("url"), citation.get("title")
    yield from _grounding(details, MAX_DEPTH)


def _grounding(value: object, depth: int) -> Iterator[tuple[Any, Any]]:
    """Yield the pages of Gemini's grounding: `{"web": {"uri": ..., "title": ...}}`."""
    items = value.items() if isinstance(value, Mapping) else ()
    for name, item in items:
        if name in {"groundingChunks", "grounding_chunks"}:
            for chunk in _list(item):
                page = chunk.get("web") if isinstance(chunk, dict) else None
                if isinstance(page, dict):
                    yield page.get("uri"), page.get("title")
        elif depth:
            for part in item if isinstance(item, list) else [item]:
                yield from _grounding(part, depth - 1)


def _image(item: dict[str, Any]) -> Image:
    """Return an image of Chat Completions: `{"image_url": {"url": ...}}`, often a `data:` URL."""
    address = item.get("image_url") or item.get("url")
    address = address.get("url") if isinstance(address, dict) else address
    if not isinstance(address, str):
        return Image("", None)
    head, comma, data = address.partition(",")
    if not comma or not head.startswith("data:"):
        return Image("", None, address if is_web_address(address) else None)
    media_type, *parameters = head.removeprefix("data:").split(";")
    size = len(data)
    if "base64" in parameters:
        size = size * 3 // 4 - data[-2:].count("=")
    is_bitmap = BITMAP_URL.fullmatch(address) is not None
    return Image(media_type[:MAX_TITLE_CHARACTERS], size, None, address if is_bitmap else None)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
