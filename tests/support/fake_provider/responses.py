"""The Responses API of the fake provider: the requests that it accepts, and its answers.

tests/unit/provider/test_responses_api.py holds all of it against the types of the openai package.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from .behaviour import Json, Reply, Request
from .wire import Shape, deltas_of, error_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/v1/responses"

PARAMETERS = frozenset(
    {
        *("background", "include", "input", "instructions", "max_output_tokens", "metadata"),
        *("client_metadata", "max_tool_calls", "model", "parallel_tool_calls"),
        *("prompt_cache_key", "reasoning"),
        *("safety_identifier", "service_tier", "store", "stream", "stream_options"),
        *("temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation"),
        "user",
    }
)
MOVED = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
}
STATUSES = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""The finish reasons of an incomplete response, and its reason."""

SOURCES = [
    {"type": "url_citation", "title": "First", "url": "https://example.com/1"},
    {"type": "url_citation", "title": "Second", "url": "https://example.com/2"},
]


def refusal_of(body: Json) -> Reply | None:
    """Return the error for a request that the API does not accept."""
    for name in body:
        if name in MOVED:
            message = (
                f"Unsupported parameter: '{name}'. In the Responses API, this parameter has moved "
                f"to '{MOVED[name]}'. Try again with the new parameter."
            )
            return _refuse(message, name, "unsupported_parameter")
        if name not in PARAMETERS and (name, body[name]) != ("previous_response_id", None):
            return _refuse(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    items = body.get("input")
    is_list = isinstance(items, list) and all(isinstance(item, dict) for item in items)
    if not items or not (is_list or isinstance(items, str)):
        return _refuse(
            "Missing required parameter: 'input'.", "input", "missing_required_parameter"
        )
    return None


def _refuse(message: str, param: str, code: str) -> Reply:
    return Reply(status=400, message=message, param=param, code=code)


def _whole(request: Request, reply: Reply) -> bytes:
    """The body of an answer that is not streamed."""
    if reply.error is not None:
        return json.dumps(error_of(request, replace(reply, status=500))).encode()
    items = _items(request, reply, deltas_of(request, reply)[: reply.end])
    whole = json.dumps(_response(request, reply, _status(reply), items)).encode()
    return {"nothing": b"", "broken": whole[: len(whole) // 2]}.get(reply.body, whole)


def _events(request: Request, reply: Reply) -> tuple[list[str], int, int]:
    """All events of a whole stream, the place of the first content delta, and their number."""
    if reply.body == "nothing":
        return [], 0, 0
    items = _items(request, reply, deltas_of(request, reply))
    events: list[Json] = []
    response_id = _id("resp")
    for name in ("created", "in_progress"):
        response = {**_response(request, reply, "in_progress", []), "usage": None}
        events.append({"type": f"response.{name}", "response": {**response, "id": response_id}})
    first, count = len(events), 0
    for index, item in enumerate(items):
        pieces = deltas_of(request, reply) if item["type"] == "message" else []
        for event in _item_events(item, pieces, lost=reply.lost):
            if event["type"] in {"response.output_text.delta", "response.refusal.delta"}:
                first, count = len(events) if not count else first, count + 1
            events.append({**event, "output_index": index})
    status = _status(reply)
    whole = {**_response(request, reply, status, items), "id": response_id}
    events.append({"type": f"response.{status}", "response": whole})
    fields = [
        f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}"
        for number, event in enumerate(events)
    ]
    if reply.body == "broken":
        broken = first + count - 1
        fields[broken] = fields[broken][: len(fields[broken]) // 2]
    return fields, first, count


def _error_event(error: Json) -> str:
    fields = {name: error["error"][name] for name in ("message", "code", "param")}
    return f"event: error\ndata: {json.dumps({'type': 'error', **fields, 'sequence_number': 9})}"


def _item_events(item: Json, pieces: list[str], *, lost: bool) -> Iterator[Json]:
    added = {**item, "status": "in_progress"} if "status" in item else item
    place = {"item_id": item["id"]}
    if item["type"] == "reasoning":
        (part,) = item["summary"]
        yield {"type": "response.output_item.added", "item": {**item, "summary": []}}
        place["summary_index"] = 0
        name = "response.reasoning_summary"
        empty = {**part, "text": ""}
        yield {"type": f"{name}_part.added", **place, "part": empty}
        yield {"type": f"{name}_text.delta", **place, "delta": part["text"]}
        yield {"type": f"{name}_text.done", **place, "text": part["text"]}
        yield {"type": f"{name}_part.done", **place, "part": part}
    elif item["type"] == "message":
        yield {"type": "response.output_item.added", "item": {**added, "content": []}}
        place["content_index"] = 0
        yield from _part_events(item["content"][0], pieces, place, lost=lost)
    elif item["type"] == "function_call":
        yield {"type": "response.output_item.added", "item": {**added, "arguments": ""}}
        name = "response.function_call_arguments"
        yield {"type": f"{name}.delta", **place, "delta": item["arguments"]}
        fields = {"name": item["name"], "arguments": item["arguments"]}
        yield {"type": f"{name}.done", **place, **fields}
    else:
        yield {"type": "response.output_item.added", "item": added}
        for state in ("in_progress", "searching", "completed"):
            yield {"type": f"response.web_search_call.{state}", **place}
    yield {"type": "response.output_item.done", "item": item}


def _part_events(part: Json, pieces: list[str], place: Json, *, lost: bool) -> Iterator[Json]:
    is_text = part["type"] == "output_text"
    name, field = ("output_text", "text") if is_text else ("refusal", "refusal")
    more = {"logprobs": []} if is_text else {}
    start = {**part, field: "", **({"annotations": []} if is_text else {})}
    yield {"type": "response.content_part.added", **place, "part": start}
    for piece in [] if lost else pieces:
        yield {"type": f"response.{name}.delta", **place, "delta": piece, **more}
    for number, annotation in enumerate(part.get("annotations", ())):
        kind = "response.output_text.annotation.added"
        yield {"type": kind, **place, "annotation_index": number, "annotation": annotation}
    yield {"type": f"response.{name}.done", **place, field: part[field], **more}
    yield {"type": "response.content_part.done", **place, "part": part}


def _items(request: Request, reply: Reply, pieces: list[str]) -> list[Json]:
    """Return the items of the response: reasoning, a search, a function call or a message."""
    if reply.body == "no_choices":
        return []
    items: list[Json] = []
    if reply.reasoning is not None:
        summary = [{"type": "summary_text", "text": reply.reasoning}]
        encrypted = {"encrypted_content": "gAAAAA"}
        items.append({"type": "reasoning", "id": _id("rs"), "summary": summary, **encrypted})
    searches = any(str(tool.get("type")).startswith("web_search") for tool in _tools(request))
    if searches:
        action: Json = {"type": "search", "query": request.question, "queries": [request.question]}
        if "web_search_call.action.sources" in request.body.get("include", ()):
            action["sources"] = [{"type": "url", "url": each["url"]} for each in SOURCES]
        call = {"type": "web_search_call", "status": "completed", "action": action}
        items.append({**call, "id": _id("ws")})
    if reply.tool is not None:
        call = {"type": "function_call", "status": "completed", "call_id": _id("call")}
        fields = {"name": reply.tool, "arguments": reply.arguments}
        return [*items, {**call, **fields, "id": _id("fc")}]
    text = "".join(pieces)
    part: Json = {"type": "refusal", "refusal": text}
    if reply.refusal is None:
        spans = [(0, len(pieces[0]) if pieces else 0), (0, len(text))] if searches else []
        annotations = [
            {**source, "start_index": start, "end_index": end}
            for source, (start, end) in zip(SOURCES, spans, strict=False)
        ]
        part = {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}
    state = "incomplete" if reply.finish_reason in STATUSES else "completed"
    message = {"type": "message", "id": _id("msg"), "role": "assistant", "status": state}
    return [*items, {**message, "content": [part]}]


def _response(request: Request, reply: Reply, status: str, items: list[Json]) -> Json:
    body = request.body
    response: Json = {
        "id": _id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": reply.model if reply.model is not None else f"{body['model']}-2026-01-01",
        "output": items,
        "parallel_tool_calls": True,
        "reasoning": {"effort": None, "summary": None, **body.get("reasoning", {})},
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}, **body.get("text", {})},
        "tool_choice": "auto",
        "tools": _tools(request),
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "metadata": {},
    }
    if status == "failed":
        response["error"] = {
            "code": reply.failed,
            "message": reply.message or "The model failed to answer.",
        }
    if status == "incomplete":
        response["incomplete_details"] = {"reason": STATUSES[reply.finish_reason]}
    if reply.usage and reply.body != "no_choices" and reply.end is None:
        response["usage"] = _usage(request, reply)
    return response


def _usage(request: Request, reply: Reply) -> Json:
    entries = request.body["input"]
    texts = [str(entry.get("content")) for entry in entries] if entries != str(entries) else []
    prompt = sum(len(text.split()) for text in [*texts, request.body.get("instructions") or ""])
    reasoning = len((reply.reasoning or "").split())
    completion = len(deltas_of(request, reply)) + reasoning
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": prompt + completion,
    }


def _status(reply: Reply) -> str:
    if reply.failed is not None:
        return "failed"
    return "incomplete" if reply.finish_reason in STATUSES else "completed"


def _tools(request: Request) -> list[Json]:
    tools: list[Json] = request.body.get("tools", [])
    return tools


def _id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


SHAPE = Shape(_whole, _events, _error_event)
