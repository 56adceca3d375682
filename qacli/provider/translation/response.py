"""Translate the bytes of a provider's response into a response of the other API."""

import json
from typing import TYPE_CHECKING, Any, Protocol

from qacli.cost import Usage
from qacli.domain import ReasoningDelta
from qacli.provider.response import ChatResponse, TextEvent
from qacli.provider.response_reader import ResponseReader
from qacli.provider.think_tags import ThinkTagSplitter

if TYPE_CHECKING:
    from qacli.provider.api import Api

ITEM_ADDED = "response.output_item.added"
ARGUMENTS_DELTA = "response.function_call_arguments.delta"


class Writer(Protocol):
    """Writes an answer in the form of an API; see `ResponsesWriter` and `ChatWriter`."""

    response: dict[str, Any]

    def start(self, model: str | None) -> None: ...  # noqa: D102 - see the class
    def add_reasoning(self, text: str) -> None: ...  # noqa: D102
    def add_text(self, text: str, logprobs: list[Any] | None = None) -> None: ...  # noqa: D102
    def add_refusal(self, text: str) -> None: ...  # noqa: D102
    def add_call(self, place: int, call_id: str | None, name: str, arguments: str) -> None: ...  # noqa: D102
    def add_annotations(self, annotations: list[dict[str, Any]]) -> None: ...  # noqa: D102
    def finish(self, finish_reason: str | None, usage: Usage | None) -> None: ...  # noqa: D102
    def take(self) -> bytes: ...  # noqa: D102


class ResponseTranslator:
    """Reads a response with the parser of its API, and writes what arrives with a writer.

    Args:
        api: The parser of the provider's API.
        writer: The writer of the client's API.
        is_streamed: The client gets events, otherwise one document at the end.
    """

    path = ""

    def __init__(self, api: "Api", writer: Writer, *, is_streamed: bool) -> None:
        self._api = api
        self._writer = writer
        self._is_streamed = is_streamed
        self._response = ChatResponse(think_tags=ThinkTagSplitter())
        self._reader = ResponseReader(self, self._response, self._add_text)
        self._calls: list[tuple[str, int]] = []
        """The name and the number of written characters of the arguments of each call."""
        self._call_places: dict[object, int] = {}
        self._logprobs = 0
        self._is_finished = False

    def feed(self, chunk: bytes) -> bytes:
        """Read a chunk of the provider's response; return the bytes for the client.

        Raises:
            BrokenAnswer: The bytes are not of the provider's API.
            ErrorInAnswer: The bytes are an error of the provider.
            ValueError: The bytes are not JSON.
        """
        self._reader.feed(chunk)
        if self._response.is_done:
            return self.close()
        return self.take()

    def take(self) -> bytes:
        """Return the bytes for the client that are written; none if it gets one document."""
        return self._writer.take() if self._is_streamed else b""

    def close(self) -> bytes:
        """Return the last bytes for the client, once.

        Raises:
            BrokenAnswer: As `feed`; or the response is not a complete answer.
            ErrorInAnswer: See `feed`.
            ValueError: See `feed`.
        """
        if self._is_finished:
            return b""
        self._is_finished = True
        response = self._response
        self._reader.close()
        response.require_success()
        self._writer.start(response.model)
        self._write_calls()
        annotations = response.details.get("annotations", [])
        self._writer.add_annotations([item for item in annotations if isinstance(item, dict)])
        self._writer.finish(response.finish_reason, response.usage)
        return (
            self._writer.take()
            if self._is_streamed
            else json.dumps(self._writer.response, separators=(",", ":")).encode()
        )

    def build_body(self, *_arguments: Any, **_options: Any) -> dict[str, Any]:  # noqa: ANN401
        """Raise an error: this parser builds no requests."""
        raise NotImplementedError

    def read_document(self, document: object, response: ChatResponse) -> list[TextEvent]:
        """Read a whole answer; see `Api.read_document`."""
        return self._write(self._api.read_document(document, response))

    def read_event(self, kind: str, document: object, response: ChatResponse) -> list[TextEvent]:
        """Read an event; see `Api.read_event`."""
        events = self._api.read_event(kind, document, response)
        if isinstance(document, dict):
            self._write_call_event(document)
        return self._write(events)

    def _write(self, events: list[TextEvent]) -> list[TextEvent]:
        """Write the events that were read; return an empty list."""
        response = self._response
        if response.model is not None or events:
            self._writer.start(response.model)
        for event in events:
            self._add_text(event)
        self._write_calls()
        return []

    def _write_calls(self) -> None:
        """Write the new parts of the calls."""
        calls = self._response.details.get("tool_calls", [])
        for place, call in enumerate(calls if isinstance(calls, list) else []):
            function = call["function"]
            # A call has its name first, which is whole when its arguments begin.
            if place >= len(self._calls) and not (function["arguments"] or self._is_finished):
                break
            self._add_call(place, call["id"], function["name"], function["arguments"])

    def _add_text(self, event: TextEvent) -> None:
        if isinstance(event, ReasoningDelta):
            self._writer.add_reasoning(event.text)
        elif self._response.details.get("refusal"):
            self._writer.add_refusal(event.text)
        else:
            self._writer.add_text(event.text, self._new_logprobs())

    def _new_logprobs(self) -> list[Any]:
        logprobs = self._response.details.get("logprobs")
        content = logprobs.get("content") if isinstance(logprobs, dict) else None
        if not isinstance(content, list):
            return []
        start, self._logprobs = self._logprobs, len(content)
        return content[start:]

    def _add_call(self, place: int, call_id: str | None, name: str, arguments: str) -> None:
        """Write the part of a call that is not written yet."""
        if place == len(self._calls):
            self._calls.append((name, 0))
            self._writer.start(self._response.model)
            self._writer.add_call(place, call_id, name, "")
        name, written = self._calls[place]
        if arguments[written:]:
            self._writer.add_call(place, call_id, name, arguments[written:])
            self._calls[place] = (name, len(arguments))

    def _write_call_event(self, event: dict[str, Any]) -> None:
        """Write the events of a call in a stream of Responses, which the parser reads at its end.

        The parser's calls are in the same order, so that only the missing parts are written then.
        """
        kind, item = event.get("type"), event.get("item")
        if kind == ITEM_ADDED and isinstance(item, dict) and item.get("type") == "function_call":
            place = len(self._calls)
            self._call_places[item.get("id")] = place
            self._call_places[event.get("output_index")] = place
            self._add_call(place, item.get("call_id"), str(item.get("name") or ""), "")
        elif kind == ARGUMENTS_DELTA and isinstance(event.get("delta"), str):
            places = self._call_places
            place = places.get(event.get("item_id"), places.get(event.get("output_index"), -1))
            if place >= 0:
                name, written = self._calls[place]
                self._writer.add_call(place, None, name, event["delta"])
                self._calls[place] = (name, written + len(event["delta"]))
