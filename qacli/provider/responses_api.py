"""The Responses API (`POST /v1/responses`): build its requests, and read its responses.

OpenAI's newest models accept tools only through this API, and some have no other API. A stream
has events of many types (https://platform.openai.com/docs/api-reference/responses-streaming);
those that are not named here have no effect. Its last event has the whole response.
"""

from collections.abc import Iterator
from typing import Any

from qacli.domain import ChatRequest
from qacli.errors import BrokenAnswer
from qacli.provider.chat_completions import ChatCompletions
from qacli.provider.error_body import ErrorBody, parse_error
from qacli.provider.json_values import as_dict, as_list
from qacli.provider.refused_features import Feature
from qacli.provider.response import ChatResponse, ErrorInAnswer, TextEvent
from qacli.provider.responses_body import translate_body
from qacli.provider.tool_calls import call_of_item
from qacli.provider.usage import add_usage
from qacli.validation import sanitize_text

PATH = "/responses"

TEXT_DELTAS = frozenset({"response.output_text.delta", "response.refusal.delta"})
REASONING_DELTAS = frozenset(
    {
        *("response.reasoning_summary_text.delta", "response.reasoning_text.delta"),
        "response.reasoning.delta",  # OpenRouter
    }
)
LAST_EVENTS = frozenset(
    f"response.{status}" for status in ("completed", "incomplete", "failed", "cancelled", "done")
)
"""The last one, `done`, is of OpenRouter, for any status."""

ERROR_EVENTS = frozenset({"error", "response.error"})
"""The second one is of gateways, such as the one of Codex."""

UNFINISHED = frozenset({"queued", "in_progress"})

KNOWN_FIELDS = frozenset(
    {
        *("id", "object", "created_at", "completed_at", "model", "status", "error"),
        *("incomplete_details", "output", "output_text", "usage"),
    }
)
ECHOED_FIELDS = frozenset(
    {
        *("background", "conversation", "include", "instructions", "max_output_tokens"),
        *("max_tool_calls", "metadata", "parallel_tool_calls", "previous_response_id", "prompt"),
        *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning"),
        *("safety_identifier", "store", "temperature", "text", "tool_choice", "tools"),
        *("frequency_penalty", "presence_penalty", "top_logprobs", "top_p", "truncation", "user"),
    }
)
"""The fields of a response that repeat the request."""

FINISH_REASONS = {"max_output_tokens": "length"}
"""The reasons of an incomplete response whose names in Chat Completions are different."""

COMMENTARY = "commentary"
"""The phase of a message in which a model announces its next steps; not part of the answer."""


class ResponsesApi:
    """The Responses API, with the state of one request; see `qacli.provider.api.Api`."""

    path = PATH

    def __init__(self) -> None:
        self._arrived: list[str] = []
        self._text_place: tuple[object, object] | None = None
        self._text_start = 0
        self._reasoning_place: tuple[object, ...] | None = None
        self._commentary: set[object] = set()
        self._items: list[dict[str, Any]] = []
        self._has_deltas = False

    def build_body(
        self, request: ChatRequest, refused: frozenset[Feature] = frozenset(), *, official: bool
    ) -> dict[str, Any]:
        """Build the JSON body of a request; see `Api.build_body`."""
        chat = ChatCompletions().build_body(request, refused, official=official)
        own = "messages" in request.question.params
        return translate_body(chat, refused, has_own_messages=own)

    def read_document(self, document: object, response: ChatResponse) -> list[TextEvent]:
        """Read a whole answer into the response; see `Api.read_document`."""
        fields = _require_object(document)
        if fields.get("object") == "error" or ("status" not in fields and fields.get("error")):
            raise ErrorInAnswer(parse_error(fields))
        if not isinstance(fields.get("output"), list) and fields.get("object") != "response":
            raise _other_api()
        return self._finish(fields, response)

    def read_event(self, kind: str, document: object, response: ChatResponse) -> list[TextEvent]:
        """Read an event of a stream into the response; see `Api.read_event`."""
        event = _require_object(document)
        kind = _text(event.get("type")) or kind
        if kind in ERROR_EVENTS or (kind == "message" and event.get("error")):
            raise ErrorInAnswer(parse_error(event))
        if event.get("object") == "chat.completion.chunk":
            raise _other_api()
        if kind in TEXT_DELTAS or kind in REASONING_DELTAS:
            self._has_deltas = self._has_deltas or kind in TEXT_DELTAS
            return self._read_delta(kind, event, response)
        if kind == "response.output_text.done" and not self._has_deltas:
            return self._read_delta(kind, {**event, "delta": event.get("text")}, response)
        if kind in LAST_EVENTS:
            status = kind.partition(".")[2]
            events = self._finish(as_dict(event.get("response")), response, status)
            response.is_done = True
            return events
        if kind == "response.output_text.annotation.added":
            annotation = _nest_annotation(event.get("annotation"), self._text_start)
            response.add_detail("annotations", [annotation] if annotation else [], join=True)
        elif kind in {"response.output_item.added", "response.output_item.done"}:
            item = as_dict(event.get("item"))
            if item.get("phase") == COMMENTARY:
                self._commentary |= {event.get("output_index"), item.get("id")} - {None}
            if kind == "response.output_item.done":
                self._items.append(item)
        else:
            _read_identity(as_dict(event.get("response")), response)
        return []

    def _read_delta(
        self, kind: str, event: dict[str, Any], response: ChatResponse
    ) -> list[TextEvent]:
        content_index = event.get("content_index")
        # llama.cpp sends no indices.
        index = event.get("output_index", event.get("item_id"))
        if kind in REASONING_DELTAS or index in self._commentary:
            place = (kind, index, event.get("summary_index"), content_index)
            return self._add_reasoning(place, event.get("delta"), response)
        if kind == "response.refusal.delta":
            response.add_detail("refusal", value=True)
        return self._add_text((index, content_index), event.get("delta"), response)

    def _finish(
        self, fields: dict[str, Any], response: ChatResponse, status: str = "completed"
    ) -> list[TextEvent]:
        """Read the whole response; return the events of the text that had not arrived.

        Args:
            fields: The response.
            response: The answer as far as it has arrived.
            status: The status of a response that has none.
        """
        _read_identity(fields, response)
        for name, value in fields.items():
            if name not in KNOWN_FIELDS and name not in ECHOED_FIELDS:
                response.add_detail(name, value)
        items = [item for item in as_list(fields.get("output")) if isinstance(item, dict)]
        items = items or self._items
        if not items:  # gateways that send the text alone
            text = next((v for v in map(fields.get, ("output", "output_text")) if _text(v)), None)
            items = [{"type": "message", "content": text}] if text else []
        _read_tool_calls(items, response)
        status = _text(fields.get("status")) or status
        if status in {"failed", "cancelled"}:
            error = fields.get("error")
            raise ErrorInAnswer(
                parse_error({"error": error}) if error else ErrorBody(f"the response was {status}")
            )
        if status in UNFINISHED:
            raise BrokenAnswer(
                f"The provider has not answered yet: the status of the response is {status}.",
                "Leave out the option `background`.",
            )
        events: list[TextEvent] = []
        if not response.reasoning_texts:
            for place, text in enumerate(_reasoning_of(items)):
                events += self._add_reasoning((place,), text, response)
        events += self._add_missing_text(items, response)
        if status == "incomplete":
            reason = _text(as_dict(fields.get("incomplete_details")).get("reason")) or status
            response.finish_reason = FINISH_REASONS.get(reason, reason)
        else:
            is_call = "tool_calls" in response.details and not response.texts
            response.finish_reason = "tool_calls" if is_call else "stop"
        return events

    def _add_missing_text(
        self, items: list[dict[str, Any]], response: ChatResponse
    ) -> list[TextEvent]:
        """Add the text that the last event has and that no delta had; and the annotations."""
        messages = [item for item in items if item.get("type") == "message"]
        answers = [item for item in messages if item.get("phase") != COMMENTARY]
        if not any(_part_text(part) for _, part in _parts(answers)):
            answers = messages
        text = "".join(_part_text(part) for _, part in _parts(answers))
        arrived = "".join(self._arrived)
        events: list[TextEvent] = []
        if text and text != arrived:
            if arrived and text.startswith(arrived):
                events += response.add_content(text[len(arrived) :])
            else:
                # If deltas in the middle were lost, the text on the screen is wrong; the record is
                # right.
                response.texts.clear()
                self._text_place = None
                for place, part in _parts(answers):
                    events += self._add_text(place, _part_text(part), response)
                events = [] if arrived else events
        _read_annotations(answers, response)
        return events

    def _add_text(
        self, place: tuple[object, object], text: object, response: ChatResponse
    ) -> list[TextEvent]:
        """Add a piece of the part at this place; an empty line stands before a second message."""
        if not isinstance(text, str) or not text:
            return []
        events: list[TextEvent] = []
        if place != self._text_place:
            if self._text_place is not None and place[0] != self._text_place[0]:
                events += response.add_text("\n\n")
            self._text_place, self._text_start = place, len(response.text)
        self._arrived.append(text)
        return [*events, *response.add_content(text)]

    def _add_reasoning(
        self, place: tuple[object, ...], text: object, response: ChatResponse
    ) -> list[TextEvent]:
        """Add a piece of the part at this place; an empty line stands before a second part."""
        events: list[TextEvent] = []
        if text and place != self._reasoning_place:
            if response.reasoning_texts:
                events += response.add_reasoning("\n\n")
            self._reasoning_place = place
        return [*events, *response.add_reasoning(text)]


def _read_identity(fields: dict[str, Any], response: ChatResponse) -> None:
    response.model = _text(fields.get("model")) or response.model
    response.response_id = _text(fields.get("id")) or response.response_id
    add_usage(fields.get("usage"), response)


def _read_tool_calls(items: list[dict[str, Any]], response: ChatResponse) -> None:
    """Add the calls: those for the client in the form of Chat Completions, others as they are."""
    calls: dict[str, list[Any]] = {}
    for item in items:
        kind = _text(item.get("type")) or "output"
        if (call := call_of_item(item)) is not None:
            calls.setdefault("tool_calls", []).append(call)
        if kind == "image_generation_call":
            calls.setdefault("images", []).append(item)
        elif kind not in {"message", "reasoning", "function_call", "custom_tool_call"}:
            calls.setdefault(kind, []).append(item)
    for name, value in calls.items():
        response.add_detail(name, value)


def _read_annotations(messages: list[dict[str, Any]], response: ChatResponse) -> None:
    annotations: list[dict[str, Any]] = []
    logprobs: list[Any] = []
    start, before = 0, None
    for place, part in _parts(messages):
        if before is not None and place[0] != before:
            start += len("\n\n")
        before = place[0]
        nested = [_nest_annotation(item, start) for item in as_list(part.get("annotations"))]
        annotations += [item for item in nested if item]
        logprobs += as_list(part.get("logprobs"))
        if part.get("type") == "refusal":
            response.add_detail("refusal", value=True)
        start += len(_part_text(part))
    response.add_detail("annotations", annotations)
    response.add_detail("logprobs", {"content": logprobs} if logprobs else None)


def _nest_annotation(annotation: object, start: int) -> dict[str, Any] | None:
    """Return an annotation in the form of Chat Completions.

    Args:
        annotation: `{"type": "url_citation", "url": ...}`, as this API has it.
        start: The place in the answer from which its indices count.
    """
    fields = as_dict(annotation)
    kind = _text(fields.get("type"))
    if kind is None:
        return None
    if isinstance(fields.get(kind), dict):
        return fields  # of an endpoint that has the other form
    inner = {name: value for name, value in fields.items() if name != "type"}
    for name in ("start_index", "end_index"):
        if isinstance(inner.get(name), int):
            inner[name] += start
    return {"type": kind, kind: inner}


def _parts(
    messages: list[dict[str, Any]],
) -> Iterator[tuple[tuple[object, object], dict[str, Any]]]:
    """Yield the parts of messages that have text, with their places."""
    for index, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, str):
            content = [{"text": content}]
        for place, part in enumerate(as_list(content)):
            if _part_text(part):
                yield (index, place), part


def _part_text(part: object) -> str:
    fields = as_dict(part)
    text = fields.get("refusal") if fields.get("type") == "refusal" else fields.get("text")
    return text if isinstance(text, str) else ""


def _reasoning_of(items: list[dict[str, Any]]) -> Iterator[object]:
    """Yield the texts of the reasoning; its encrypted form is left out."""
    for item in items:
        if item.get("type") == "reasoning":
            content = item.get("content")
            if isinstance(content, str):
                yield content
            for part in [*as_list(item.get("summary")), *as_list(content)]:
                yield as_dict(part).get("text")


def _other_api() -> BrokenAnswer:
    return BrokenAnswer(
        "The provider's answer is not one of the Responses API.",
        "Check OPENAI_BASE_URL, or set QA_API to chat.",
        retryable=True,
    )


def _require_object(document: object) -> dict[str, Any]:
    if isinstance(document, list) and document and isinstance(document[0], dict):
        document = document[0]  # Gemini writes errors in a list
    if not isinstance(document, dict):
        raise BrokenAnswer(
            "The provider's answer does not have the form of an API.",
            "Check that OPENAI_BASE_URL is an OpenAI-compatible endpoint.",
            retryable=True,
        )
    return document


def _text(value: object) -> str | None:
    return sanitize_text(value) if isinstance(value, str) and value else None
