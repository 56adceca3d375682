"""Files that are put before a question: text with its name marked, and images.

A file is read whole, or refused with its size and the limit, before anything is asked. What it
holds goes to the provider beside the question; the record keeps its name, size and SHA-256, so
that a follow-up can tell that there was a file, and not what was in it.
"""

import codecs
import html
import os
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

from qacli.domain import ContextPart
from qacli.errors import InvalidRequest

TEXT_LIMIT = 1_000_000
IMAGE_LIMIT = 20_000_000
FETCH_SECONDS = 30.0
INPUT = "-"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file as it was read.

    Attributes:
        name: As it was given; of an address without user, password and query, which can be secret.
        size: In bytes.
        sha256: Of its bytes.
        part: What goes to the provider.
    """

    name: str
    size: int
    sha256: str
    part: ContextPart

    def to_dict(self) -> dict[str, Any]:
        """What the record keeps of it."""
        return {"name": self.name, "size": self.size, "sha256": self.sha256}


def read_attachment(
    sources: Sequence[str], stdin: IO[bytes] | None, *, seconds: float = FETCH_SECONDS
) -> list[Attachment]:
    """Read what is to be put before a question.

    Args:
        sources: Paths, addresses that begin with http:// or https://, and - for standard input.
        stdin: Standard input, where there is one.
        seconds: How long each address may take, all of it.

    Raises:
        InvalidRequest: One of them cannot be read or sent; says which, and why.
    """
    if sources.count(INPUT) > 1:
        raise InvalidRequest("Standard input can be attached once.", "Say -f - once.")
    found = []
    for source in sources:
        charset = None
        if source == INPUT:
            name, data = "standard input", _bytes_of(stdin)
        elif source.partition("://")[0].lower() in {"http", "https"}:
            name = redact_url(source)
            data, charset = _fetch(source, name, seconds)
        else:
            # A name need not be text at all; what is not is shown as such.
            name, data = os.fsencode(source).decode(errors="replace"), _bytes_at(source)
        found.append(_attachment(name, data, charset))
    return found


def placeholder_parts(stored: Iterable[dict[str, Any]]) -> list[ContextPart]:
    """What a follow-up can say of the files of an earlier record: that they were there."""
    return [
        ContextPart(f"<file name={_quote(str(file.get('name')))} omitted />") for file in stored
    ]


def _bytes_of(file: IO[bytes] | None) -> bytes:
    # One byte more than there may be tells that it is too many.
    return b"" if file is None else file.read(IMAGE_LIMIT + 1)


def _bytes_at(path: str) -> bytes:
    try:
        # A pipe, as in <(command), is as good as a file.
        with open(path, "rb") as file:  # noqa: PTH123 - a Path would make /dev/fd/63 no different
            size = os.fstat(file.fileno()).st_size
            if size > IMAGE_LIMIT:
                raise _too_large_error(path, format_size(size))
            return _bytes_of(file)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidRequest(
            f"The file {path} cannot be read: {why}.", "Name a file of text, or an image."
        ) from None


def _attachment(name: str, data: bytes, charset: str | None) -> Attachment:
    size = len(data)
    if size > IMAGE_LIMIT:
        raise _too_large_error(name, f"more than {format_size(IMAGE_LIMIT)}")
    kind = _image_type(data)
    if kind is not None:
        url = f"data:{kind};base64,{b64encode(data).decode()}"
        part = ContextPart(f"<image name={_quote(name)} />", url)
    else:
        text = _text(name, data, charset)
        end = "" if text.endswith("\n") else "\n"
        part = ContextPart(f"<file name={_quote(name)}>\n{text}{end}</file>")
    return Attachment(name, size, sha256(data).hexdigest(), part)


def _text(name: str, data: bytes, charset: str | None) -> str:
    size = format_size(len(data))
    try:
        text = data.decode("utf-8-sig" if charset is None else charset)
    except (UnicodeError, LookupError):
        text = "\0"
    if "\0" in text:
        raise InvalidRequest(
            f"{name} ({size}) is neither UTF-8 text nor a PNG, JPEG, WebP or GIF image.",
            f"Attach text of at most {format_size(TEXT_LIMIT)}, or an image of at most "
            f"{format_size(IMAGE_LIMIT)}.",
        )
    if len(data) > TEXT_LIMIT:
        raise InvalidRequest(
            f"{name} has {size} of text; the limit is {format_size(TEXT_LIMIT)}.",
            "Attach a part of it.",
        )
    return text


def _image_type(data: bytes) -> str | None:
    """The media type by the first bytes; what a file is called does not matter."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def _fetch(url: str, name: str, seconds: float) -> tuple[bytes, str | None]:
    """What is at an address, and the encoding that its server names."""
    import asyncio

    import httpx2

    async def fetch() -> tuple[bytes, str | None]:
        data = bytearray()
        # One strict limit for all of it: a client's own only hold for one read.
        async with (
            asyncio.timeout(seconds),
            httpx2.AsyncClient(follow_redirects=True, max_redirects=5, timeout=None) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != httpx2.codes.OK:
                raise InvalidRequest(
                    f"{name} answered {response.status_code}.", "See that the address is right."
                )
            async for chunk in response.aiter_bytes():
                data += chunk
                if len(data) > IMAGE_LIMIT:
                    break
            return bytes(data), _detect_type(response.charset_encoding)

    try:
        return asyncio.run(fetch())
    except TimeoutError:
        raise InvalidRequest(
            f"{name} did not come within {seconds:g} s.", "Download it first."
        ) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        raise InvalidRequest(
            f"{name} cannot be fetched: {str(error).rstrip('.') or type(error).__name__}.",
            "See that the address is right and the network is up.",
        ) from None


def _detect_type(charset: str | None) -> str | None:
    """The encoding, where Python knows it and it is another than UTF-8."""
    try:
        found = codecs.lookup(charset or "utf-8")
    except LookupError:
        return None
    return None if found.name == "utf-8" else found.name


def redact_url(url: str) -> str:
    """An address without user, password and query."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "", ""))
    except ValueError:
        return url.partition("?")[0].rpartition("@")[2]


def _quote(name: str) -> str:
    return f'"{html.escape(name)}"'


def _too_large_error(name: str, size: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name} has {size}; the limit is {format_size(TEXT_LIMIT)} for text and "
        f"{format_size(IMAGE_LIMIT)} for an image.",
        "Attach a part of it.",
    )


def format_size(size: int) -> str:
    """A number of bytes as people say it."""
    value = float(size)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000 or unit == "MB":  # noqa: PLR2004 - of these units
            break
        value /= 1000
    if unit == "bytes":
        return f"{size} byte" if size == 1 else f"{size} bytes"
    # Rounded up: what is too large must not be shown as large as the limit.
    tenths = -(-size * 10 // (1000 if unit == "kB" else 1_000_000))
    return f"{tenths / 10:g} {unit}"
