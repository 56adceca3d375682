"""Parse a stream of server-sent events, as the WHATWG's HTML standard defines it (9.2.6)."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

BYTE_ORDER_MARK = "\ufeff"

JSON_STARTS = ("{", "[{", "[DONE]")
"""The beginnings of a line that is no field but data; see `EventParser`."""

JSON_CONTINUATIONS = (" ", "\t", "}", "]", '"')
"""The beginnings of the next lines of JSON that is indented."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """An event with data.

    Attributes:
        type: The value of the field `event`; `message` if there is none.
        data: The values of the fields `data`, joined by line ends.
    """

    type: str
    data: str


class EventParser:
    """Parses server-sent events from chunks of bytes.

    A chunk can have a part of an event, or several events.

    Comments, events without data, and the fields `id` and `retry` have no effect.

    Not in the standard: JSON without the field `data`. It comes as a stream of JSON lines, or
    from a gateway that fails after its first comment or event and writes the error, indented or
    not, as it would write it without a stream.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[str] = []
        self._is_start = True
        self._ends_with_cr = False
        self._type = ""
        self._data: list[str] = []
        self._is_json = False

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that these bytes complete."""
        yield from self._read_text(self._decoder.decode(chunk))

    def close(self) -> Iterator[ServerSentEvent]:
        """Yield the event that the end of the stream completes.

        The standard drops it. Some endpoints send no empty line after their last event.
        """
        yield from self._read_text(self._decoder.decode(b"", final=True) + "\n\n")

    def _read_text(self, text: str) -> Iterator[ServerSentEvent]:
        if self._is_start and text:
            text, self._is_start = text.removeprefix(BYTE_ORDER_MARK), False
        if self._ends_with_cr and text:
            # A line end of two characters that came in two pieces.
            text, self._ends_with_cr = text.removeprefix("\n"), False
        self._ends_with_cr = text.endswith("\r") or (self._ends_with_cr and not text)
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in lines:
            whole = "".join([*self._pieces, line])
            self._pieces.clear()
            if self._begins_next(whole):
                yield self._take_event()
            event = self._read_line(whole)
            if event is not None:
                yield event
        if rest:
            self._pieces.append(rest)

    def _read_line(self, line: str) -> ServerSentEvent | None:
        if not line:
            has_data = bool(self._data)
            event = self._take_event()
            return event if has_data else None
        is_start = line.startswith(JSON_STARTS) or line == "["
        if is_start or (self._is_json and line.startswith(JSON_CONTINUATIONS)):
            self._data.append(line)
            self._is_json = True
            return None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "error":  # not in the standard: older servers of llama.cpp
            self._type = "error"
            self._data.append(value)
        elif name == "event":
            self._type = value
        return None

    def _take_event(self) -> ServerSentEvent:
        event = ServerSentEvent(self._type or "message", "\n".join(self._data))
        self._type, self._data, self._is_json = "", [], False
        return event

    def _begins_next(self, line: str) -> bool:
        """Return whether a line begins an event although no empty line has ended the one before.

        Not in the standard, which would join the two. After the end of a JSON object, no JSON
        goes on with `{` or `[`.
        """
        if not self._data or not self._data[-1].rstrip().endswith("}"):
            return False
        name, _, value = line.partition(":")
        if name == "event":
            return bool(self._type)
        start = value.lstrip() if name == "data" else line
        return start.startswith(("{", "["))
