"""Read the bytes of a response, a stream of events or one document, into a `ChatResponse`."""

import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from qacli.errors import BrokenAnswer
from qacli.provider.error_body import WEB_PAGE, parse_error
from qacli.provider.response import ChatResponse, ErrorInAnswer, TextEvent, cut_off_error
from qacli.provider.sse import EventParser, ServerSentEvent
from qacli.provider.usage import add_cost_of_headers

if TYPE_CHECKING:
    from qacli.provider.api import Api

END_OF_STREAM = "[DONE]"
DOCUMENT_STARTS = frozenset({b"{", b"[", b"<"})
"""The first bytes of a document; a stream of events begins with another one."""

JSON_BEGINNINGS = ("{", "[{", '"')
"""The beginnings of data that is meant to be JSON, not a sentence."""

EVENT_FIELDS = frozenset({"data", "event", "id", "retry"})
"""The fields of server-sent events."""

ERROR_NAMES = frozenset({"message", "msg", "detail"})
"""The fields of an event that has an error and no code; others have them for a sign of life."""

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
        self._is_first_line = False
        self._events: EventParser | None = None
        self._stray_text = ""

    @property
    def has_document(self) -> bool:
        """The bytes are a whole document; a connection that breaks then costs nothing."""
        return self._events is None and _is_json(b"".join(self._pieces))

    @property
    def is_stream(self) -> bool:
        """The bytes are events, or a JSON object in each line."""
        return self._events is not None

    def feed(self, chunk: bytes) -> None:
        """Read some bytes.

        Raises:
            BrokenAnswer: The bytes are not of this API.
            ErrorInAnswer: The bytes are an error of the provider.
            ValueError: The bytes are not JSON.
        """
        if self._events is None:
            if not self._pieces:  # blanks keep a connection alive before the answer
                chunk = chunk.lstrip(BLANK)
            if chunk:
                self._pieces.append(chunk)
            if not chunk or not self._is_stream(chunk):
                return
            self._events, chunk = EventParser(), b"".join(self._pieces)
        self._read(self._events.feed(chunk))

    def _is_stream(self, chunk: bytes) -> bool:
        """Return whether the first bytes show a stream of events, or of a JSON object in each line.

        Args:
            chunk: The newest of the bytes.
        """
        if self._is_document or (self._is_first_line and b"\n" not in chunk):
            return False
        if len(self._pieces) > 1 and not self._is_first_line and not chunk.strip():
            return False  # more blanks after the first line
        start = b"".join(self._pieces)
        if start[:1] not in DOCUMENT_STARTS:
            return True
        line, line_end, rest = start.partition(b"\n")
        if start[:1] == b"{" and not rest.strip():
            self._is_first_line = not line_end
            return False
        self._is_document = start[:1] != b"{" or not _is_json(line)
        return not self._is_document

    def close(self) -> None:
        """Read the rest at the end of the response.

        Raises:
            BrokenAnswer: As `feed`; or the response is not a complete answer.
            ErrorInAnswer: See `feed`.
            ValueError: See `feed`.
        """
        if self._events is None:
            self._read_document(_parse_document(b"".join(self._pieces)))
        elif not self._response.is_done:
            with suppress(ValueError):  # the last event was cut
                self._read(self._events.close())
        for event in (*self._response.close(), *self._only_choice()):
            self._on_event(event)
        add_cost_of_headers(self._response)
        reason = self._stray_text or self._sentence()
        if reason and not self._response.is_complete:
            raise ErrorInAnswer(parse_error(reason))
        if self._events is not None:
            self._response.require_complete()

    def _only_choice(self) -> list[TextEvent]:
        """Read the choices with other numbers as the answer if none has the number 0.

        Gateways number a single choice 1, and older servers of TGI (1646 on GitHub) its tokens.
        """
        response = self._response
        if response.has_begun or response.details.get("tool_calls") or response.finish_reason:
            return []
        others = [choice for _, choice in sorted(response.others.items())]
        response.others.clear()
        events: list[TextEvent] = []
        for choice in others:
            events += response.add_reasoning("".join(choice.reasoning_texts))
            events += response.add_content(choice.text)
            response.details |= choice.details
            response.finish_reason = choice.finish_reason
        return [*events, *response.close()]

    def _sentence(self) -> str:
        """Return a response that is neither events nor a document but text, such as a proxy's."""
        content = b"".join(self._pieces) if self.is_stream else b""
        text = " ".join(content.decode(errors="replace").split())
        is_text = text[:1].isalpha() and text.isprintable() and len(text.split()) > 1
        return text if is_text and text.partition(":")[0] not in EVENT_FIELDS else ""

    def _read_document(self, document: object) -> None:
        if isinstance(document, list) and len(document) > 1:  # the chunks of a stream in one array
            self._events = EventParser()
            for item in document:
                self._read_event("message", item)
            return
        for event in self._api.read_document(document, self._response):
            self._on_event(event)

    def _read(self, events: Iterable[ServerSentEvent]) -> None:
        for event in events:
            data = event.data.strip()
            while data.startswith("data:"):  # a gateway that has put an event into an event
                data = data[5:].lstrip()
            if data.strip('"').upper() == END_OF_STREAM:
                self._response.is_done = True
                return
            if not data:
                continue
            try:
                document = json.loads(data, strict=False)
            except ValueError:
                if event.type == "error":
                    document = data
                elif data.startswith(JSON_BEGINNINGS):
                    raise
                else:  # a sign of life, or the reason if the stream ends here
                    if event.type == "message":
                        self._stray_text = data
                    continue
            if event.type == "message" and _may_be_error(document):
                self._stray_text = data
            self._read_event(event.type, document)

    def _read_event(self, kind: str, document: object) -> None:
        for text in self._api.read_event(kind, document, self._response):
            self._on_event(text)


def web_page_error() -> BrokenAnswer:
    """Return the error for an HTML page with status 200."""
    return BrokenAnswer(
        "The provider answered with a web page instead of an API response.",
        "Check that OPENAI_BASE_URL is an OpenAI-compatible endpoint; it usually ends in /v1.",
    )


def _may_be_error(document: object) -> bool:
    """Return whether an event is an error if no answer comes: a gateway's, without a wrapper."""
    names = document.keys() if isinstance(document, dict) else set()
    return bool(ERROR_NAMES & names) and not {"type", "choices"} & names


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _parse_document(content: bytes) -> object:
    text = content.decode("utf-8-sig", "replace").rstrip()
    if re.match(WEB_PAGE, text):
        raise web_page_error()
    if not text:  # DeepSeek keeps a connection open with blank lines, and may close it so
        raise BrokenAnswer("The provider's answer is empty.", "Ask again.", retryable=True)
    try:
        return json.loads(text, strict=False)
    except ValueError:
        if text.startswith(("{", "[")) and not text.endswith(("}", "]")):
            raise cut_off_error() from None
        raise
