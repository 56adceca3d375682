"""Attachments of a question: text, images, PDFs and sounds, from paths, URLs or standard input.

An attachment is read completely before the question is asked. An error about its size has the
limit. Its content is sent to the provider before the question. The record stores only its name,
size and SHA-256, so a follow-up sends a placeholder instead of the content.
"""

import codecs
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Any

from qacli.domain import ContextPart
from qacli.errors import InvalidRequest
from qacli.redaction import redact_url

if TYPE_CHECKING:
    import httpx2

MAX_TEXT_BYTES = 1_000_000
MAX_IMAGE_BYTES = 20_000_000
KILOBYTE = 1000
FETCH_SECONDS = 30.0
MAX_REDIRECTS = 5
MP3_START = re.compile(rb"ID3[\x02-\x04]|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
"""An ID3 tag with its version, or a frame of MPEG layer III."""

SIGNATURES = {
    b"%PDF-": "application/pdf",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
RIFF_TYPES = {b"WAVE": "audio/wav", b"WEBP": "image/webp"}
"""The media types of RIFF files, by the bytes 8 to 11."""

STDIN = "-"
"""The source that means standard input."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """An attachment that was read.

    Attributes:
        name: The path, or the URL without user, password and query, which can be secret.
        size: In bytes.
        sha256: Of the bytes, in hexadecimal.
        part: The content for the provider.
    """

    name: str
    size: int
    sha256: str
    part: ContextPart

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that the record stores."""
        return {"name": self.name, "size": self.size, "sha256": self.sha256}


def read_attachment(
    sources: Sequence[str], stdin: IO[bytes] | None, *, seconds: float = FETCH_SECONDS
) -> list[Attachment]:
    """Read the attachments of a question.

    Args:
        sources: Paths, URLs that begin with http:// or https://, and `-` for standard input.
        stdin: Standard input, if there is one.
        seconds: Time limit for fetching each URL.

    Raises:
        InvalidRequest: A source cannot be read or sent; the error has its name and the reason.
    """
    if sources.count(STDIN) > 1:
        raise InvalidRequest("Standard input can only be attached once.", "Give -f - once.")
    attachments = []
    for source in sources:
        charset = None
        if source == STDIN:
            name, data = "standard input", _read_file(stdin)
        elif source.partition("://")[0].lower() in {"http", "https"}:
            name = redact_url(source)
            data, charset = _fetch(source, name, seconds)
        else:
            # A file name may contain bytes that are not UTF-8.
            name, data = os.fsencode(source).decode(errors="replace"), _read_path(source)
        attachments.append(make_attachment(name, data, charset))
    return attachments


def placeholder_parts(stored: Iterable[dict[str, Any]]) -> list[ContextPart]:
    """Return placeholders for the attachments of an earlier record, from its stored fields."""
    return [
        ContextPart(f"<file name={_quote(str(file.get('name')))} omitted />") for file in stored
    ]


def _read_file(file: IO[bytes] | None) -> bytes:
    # One byte more than the limit, so that a larger file is recognised.
    return b"" if file is None else file.read(MAX_IMAGE_BYTES + 1)


def _read_path(path: str) -> bytes:
    try:
        # The path may be a pipe, as in <(command).
        with open(path, "rb") as file:  # noqa: PTH123 - the name as the shell gave it, such as /dev/fd/63
            size = os.fstat(file.fileno()).st_size
            if size > MAX_IMAGE_BYTES:
                raise _too_large_error(path, format_size(size))
            return _read_file(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidRequest(
            f"The file {path} cannot be read: {reason}.",
            "Attach a text file, an image, a PDF or a sound.",
        ) from None


def make_attachment(name: str, data: bytes, charset: str | None = None) -> Attachment:
    """Return a file as an attachment; its type is found in its content.

    Args:
        name: The name that the provider and the record get.
        data: The content. Of a file above the limit, one byte more than the limit is enough.
        charset: The encoding of a text; None means UTF-8.

    Raises:
        InvalidRequest: The file is too large, or neither text nor an image, a PDF or a sound.
    """
    size = len(data)
    if size > MAX_IMAGE_BYTES:
        raise _too_large_error(name, f"more than {format_size(MAX_IMAGE_BYTES)}")
    media_type = _media_type(data)
    if media_type is not None:
        url = f"data:{media_type};base64,{b64encode(data).decode()}"
        kind = media_type.partition("/")[0]
        if kind == "image":
            part = ContextPart(f"<image name={_quote(name)} />", url)
        else:
            tag = "audio" if kind == "audio" else "document"
            file_name = name.rpartition("/")[2] or tag
            part = ContextPart(f"<{tag} name={_quote(name)} />", None, url, file_name)
    else:
        text = _decode_text(name, data, charset)
        end = "" if text.endswith("\n") else "\n"
        part = ContextPart(f"<file name={_quote(name)}>\n{text}{end}</file>")
    return Attachment(name, size, sha256(data).hexdigest(), part)


def _decode_text(name: str, data: bytes, charset: str | None) -> str:
    size = format_size(len(data))
    try:
        text = data.decode("utf-8-sig" if charset is None else charset)
    except (UnicodeError, LookupError):
        text = "\0"
    if "\0" in text:
        raise InvalidRequest(
            f"{name} ({size}) is neither UTF-8 text nor a PNG, JPEG, WebP or GIF image, a PDF, "
            "a WAV or an MP3.",
            f"Attach text of at most {format_size(MAX_TEXT_BYTES)}, or one of these of at most "
            f"{format_size(MAX_IMAGE_BYTES)}.",
        )
    if len(data) > MAX_TEXT_BYTES:
        raise InvalidRequest(
            f"{name} has {size} of text; the limit is {format_size(MAX_TEXT_BYTES)}.",
            "Attach only a part of it.",
        )
    return text


def _media_type(data: bytes) -> str | None:
    """Return the media type of an image, a PDF or a sound by its first bytes; None for others."""
    if data.startswith(b"RIFF"):
        return RIFF_TYPES.get(data[8:12])
    if MP3_START.match(data):
        return "audio/mpeg"
    return next((kind for start, kind in SIGNATURES.items() if data.startswith(start)), None)


def _fetch(url: str, name: str, seconds: float) -> tuple[bytes, str | None]:
    """Return the body of a URL, and the encoding that its server declares."""
    import asyncio

    import httpx2

    async def fetch() -> tuple[bytes, str | None]:
        # A limit for the whole transfer: the client's own timeouts are for a single read.
        async with asyncio.timeout(seconds):
            return await _fetch_all(url, name)

    try:
        return asyncio.run(fetch())
    except TimeoutError:
        raise InvalidRequest(
            f"{name} was not fetched within {seconds:g} s.",
            "Download it and attach the file.",
        ) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        raise InvalidRequest(
            f"{name} cannot be fetched: {str(error).rstrip('.') or type(error).__name__}.",
            "Check the URL and the network.",
        ) from None


async def _fetch_all(address: str, name: str) -> tuple[bytes, str | None]:
    """Follow the redirects of a URL; return its body and encoding."""
    import httpx2

    from qacli.config.network import resolve_route

    for _ in range(MAX_REDIRECTS + 1):
        # Each host has its own route: a redirect may lead to one that needs no proxy.
        route = resolve_route(address)
        async with (
            httpx2.AsyncClient(
                timeout=None,
                trust_env=False,
                proxy=route.proxy,
                verify=route.certificates or True,
            ) as client,
            client.stream("GET", address) as response,
        ):
            if response.next_request is None:
                return await _read_response(response, name)
            address = str(response.next_request.url)
    raise InvalidRequest(
        f"{name} cannot be fetched: it redirects more than {MAX_REDIRECTS} times.",
        "Check the URL.",
    )


async def _read_response(response: "httpx2.Response", name: str) -> tuple[bytes, str | None]:
    """Return the body of a response, cut off above the limit, and its encoding."""
    import httpx2

    if response.status_code != httpx2.codes.OK:
        raise InvalidRequest(f"{name} answered {response.status_code}.", "Check the URL.")
    data = bytearray()
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > MAX_IMAGE_BYTES:
            break
    return bytes(data), _known_encoding(response.charset_encoding)


def _known_encoding(charset: str | None) -> str | None:
    """Return Python's name of the encoding; None if it is unknown or UTF-8."""
    try:
        codec = codecs.lookup(charset or "utf-8")
    except LookupError:
        return None
    return None if codec.name == "utf-8" else codec.name


def _quote(name: str) -> str:
    from html import escape

    return f'"{escape(name)}"'


def _too_large_error(name: str, size: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name} has {size}; the limit is {format_size(MAX_TEXT_BYTES)} for text and "
        f"{format_size(MAX_IMAGE_BYTES)} for an image, a PDF or a sound.",
        "Attach only a part of it.",
    )


def format_size(size: int) -> str:
    """Return a number of bytes in bytes, kB or MB, rounded up.

    So the size of a file above a limit is not shown as the limit.
    """
    if size < KILOBYTE:
        return f"{size} byte" if size == 1 else f"{size} bytes"
    unit, name = (KILOBYTE, "kB") if size < KILOBYTE**2 else (KILOBYTE**2, "MB")
    return f"{-(-size * 10 // unit) / 10:g} {name}"
