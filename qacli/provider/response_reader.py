"""Read the bytes of a response, a stream of events or one document, into a `ChatResponse`."""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from qacli.errors import BrokenAnswer
from qacli.provider.error_body import WEB_PAGE
from qacli.provider.response import ChatResponse, TextEvent
from qacli.provider.sse import EventParser, ServerSentEvent
from qacli.provider.transport import parse_json_or_text

if TYPE_CHECKING:
    from qacli.provider.api import Api

END_OF_STREAM = "[DONE]"
DOCUMENT_STARTS = frozenset({b"{", b"[", b"<"})
"""The first bytes of a document; a stream of events begins with another one."""

BLANK = b"\xef\xbb\xbf \t\r\n"
"""The bytes before that: white space, and the byte order mark in UTF-8."""


class ResponseReader:
    """Reads a response in pieces of any size; its content type is often wrong and has no effect.

    Args:
        api: The API of the response.
        response: Filled in.
        on_event: Called with each piece of text and reasoning.
    """

    def __init__(
        self, api: "Api", response: ChatResponse, on_event: Callable[[TextEvent], None]
    ) -> None:
        self._api = api
        self._response = response
        self._on_event = on_event
        self._pieces: list[bytes] = []
        self._is_document = False
        self._events: EventParser | None = None

    def feed(self, chunk: bytes) -> None:
        """Read some bytes.

        Raises:
            BrokenAnswer: They are not of this API.
            ErrorInAnswer: They are an error of the provider.
            ValueError: They are not JSON.
        """
        if self._events is None:
            self._pieces.append(chunk)
            if self._is_document:
                return
            start = b"".join(self._pieces).lstrip(BLANK)
            self._is_document = start[:1] in DOCUMENT_STARTS
            if not start or self._is_document:
                return
            self._events, chunk = EventParser(), b"".join(self._pieces)
        self._read(self._events.feed(chunk))

    def close(self) -> None:
        """Read what is left at the end of the response.

        Raises:
            BrokenAnswer: As `feed`; or the response is not a complete answer.
            ErrorInAnswer: As `feed`.
            ValueError: As `feed`.
        """
        if self._events is None:
            document = _parse_document(b"".join(self._pieces))
            for event in self._api.read_document(document, self._response):
                self._on_event(event)
        elif not self._response.is_done:
            with suppress(ValueError):  # the last event was cut
                self._read(self._events.close())
        for event in self._response.close():
            self._on_event(event)
        if self._events is not None:
            self._response.require_complete()

    def _read(self, events: Iterable[ServerSentEvent]) -> None:
        for event in events:
            data = event.data.strip()
            if data == END_OF_STREAM:
                self._response.is_done = True
                return
            if not data:
                continue
            document = parse_json_or_text(data) if event.type == "error" else json.loads(data)
            for text in self._api.read_event(event.type, document, self._response):
                self._on_event(text)


def web_page_error() -> BrokenAnswer:
    """Return the error for an HTML page with status 200."""
    return BrokenAnswer(
        "The provider answered with a web page instead of an API response.",
        "Check that OPENAI_BASE_URL is an OpenAI-compatible endpoint; it usually ends in /v1.",
    )


def _parse_document(content: bytes) -> object:
    text = content.decode("utf-8-sig", "replace")
    if WEB_PAGE.match(text):
        raise web_page_error()
    return json.loads(text)
