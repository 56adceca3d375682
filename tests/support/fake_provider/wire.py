"""The steps of a reply: bytes to write, seconds to wait, or an abnormal end of the connection."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
import uuid
from dataclasses import dataclass, replace
from enum import Enum
from http.client import responses
from typing import TYPE_CHECKING

from .behaviour import STOPS, Json, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


class End(Enum):
    """The ways in which a connection ends or falls silent."""

    HANG = "hang"
    CLOSE = "close"
    RESET = "reset"


Step = bytes | float | End


@dataclass(frozen=True, slots=True)
class Shape:
    """The form of the responses of an API; `CHAT` is the one of Chat Completions."""

    whole: Callable[[Request, Reply], bytes]  # the body of an answer that is not streamed
    # The fields of all events of a stream, the place of the first content delta, their number.
    events: Callable[[Request, Reply], tuple[list[str], int, int]]
    error: Callable[[Json], str]  # the fields of the event for an error


_ERRORS = {  # status: message, type, code
    400: ("Invalid request.", "invalid_request_error", None),
    401: (
        "Incorrect API key provided: {masked_key}. You can find your API key in your settings.",
        "invalid_request_error",
        "invalid_api_key",
    ),
    404: ("The model does not exist.", "invalid_request_error", "model_not_found"),
    429: ("Rate limit reached for requests.", "requests", "rate_limit_exceeded"),
    503: ("The server is overloaded or not ready yet.", "server_error", None),
}
_REFUSED = ("The request was refused.", "invalid_request_error", None)
_SERVER_ERROR = ("The server had an error while processing your request.", "server_error", None)
_HTML = b"<!DOCTYPE html><html><head><title>Bad gateway</title></head><body>Oops</body></html>\n"
_DELTA = re.compile(r"\s*\S+|\s+")
_OK, _SERVER_FAULT = 200, 500
_SHORT_KEY = 16


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Return the status line and the headers."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    first = f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}"
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1", "replace")


def steps(
    request: Request,
    reply: Reply,
    limits: Mapping[str, str],
    answer: Json | bytes | None,
    shape: Shape,
) -> Iterator[Step]:
    """Yield the steps for one request.

    Args:
        request: The request.
        reply: The reply to it.
        limits: The headers of the rate limit.
        answer: JSON, or the content of a file, to send instead of an answer of the API.
        shape: The API of the request.
    """
    headers = {"x-request-id": f"req_{uuid.uuid4().hex}", **limits}
    if reply.retry_after is not None:
        headers["retry-after"] = f"{reply.retry_after:g}"
    if reply.retry_date is not None:
        when = math.ceil(time.time() + reply.latency + reply.retry_date)
        headers["retry-after"] = email.utils.formatdate(when, usegmt=True)
    content = _content(request, reply, answer, shape)
    if content is None:
        headers |= {"content-type": "text/event-stream; charset=utf-8"}
        headers |= {"cache-control": "no-cache", "transfer-encoding": "chunked"}
        body = _stream(request, reply, shape)
        yield reply.latency
    else:
        media = "text/html; charset=utf-8" if reply.body == "html" else "application/json"
        headers |= {"content-type": media, "content-length": str(len(content))}
        body = _whole(content, reply)
        words = (
            len(deltas_of(request, reply)) + len(_thoughts(reply))
            if reply.delay and reply.status == _OK
            else 0
        )
        yield reply.latency + reply.first_token_delay + reply.delay * words
    if ending := {"hang": End.HANG, "reset": End.RESET, "drop": End.CLOSE}.get(reply.outcome):
        yield ending
    closes = request.headers.get("connection", "").lower() == "close"
    if closes:
        headers["connection"] = "close"
    yield head(reply.status, headers | dict(reply.headers))
    yield from _dribble(body, reply.dribble) if reply.dribble else body
    if closes or reply.close:
        yield End.CLOSE


def _content(
    request: Request, reply: Reply, answer: Json | bytes | None, shape: Shape
) -> bytes | None:
    """Return the body; None for a stream."""
    if reply.body == "html":
        return _HTML
    if reply.status != _OK:
        return json.dumps(error_of(request, reply)).encode()
    if isinstance(answer, bytes):
        return answer
    if answer is not None:
        return json.dumps(answer).encode()
    if not request.body.get("stream") or reply.body == "json":
        return shape.whole(request, reply)
    return None


def _whole(content: bytes, reply: Reply) -> Iterator[Step]:
    if reply.cut is not None or reply.stall is not None:
        yield content[: len(content) // 2]
        yield End.CLOSE if reply.cut is not None else End.HANG
    yield content


def _stream(request: Request, reply: Reply, shape: Shape) -> Iterator[Step]:
    """Yield the events, each as one HTTP chunk, up to the last one or the fault."""

    def frame(fields: str) -> bytes:
        event = f"{fields}\n\n".encode()
        return b"%x\r\n%b\r\n" % (len(event), event)

    events, first, deltas = shape.events(request, reply)
    after = next((n for n in (getattr(reply, name) for name in STOPS) if n is not None), None)
    stop = None if after is None else min(first + after, len(events) - 1)
    yield reply.first_token_delay
    for index, fields in enumerate(events):
        if first <= index < first + deltas:
            yield reply.delay
        if index != stop:
            yield frame(fields)
            continue
        if reply.cut is not None:
            yield frame(fields)[: len(fields) // 2]
            yield End.CLOSE
        if reply.stall is not None:
            yield End.HANG
        if reply.error is not None:
            yield frame(shape.error(error_of(request, replace(reply, status=500))))
        break
    yield b"0\r\n\r\n"


def _dribble(body: Iterable[Step], pause: float) -> Iterator[Step]:
    for step in body:
        for part in [bytes((byte,)) for byte in step] if isinstance(step, bytes) else [step]:
            yield pause
            yield part


def error_of(request: Request, reply: Reply) -> Json:
    """The body of an error."""
    other = _SERVER_ERROR if reply.status >= _SERVER_FAULT else _REFUSED
    message, kind, code = _ERRORS.get(reply.status, other)
    message = reply.message or message
    message = message.replace("{key}", request.key).replace("{masked_key}", _mask(request.key))
    kind, code = reply.type or kind, reply.code or code
    return {"error": {"message": message, "type": kind, "param": reply.param, "code": code}}


def _mask(key: str) -> str:
    """Return the key as OpenAI shows it: the first 8 and last 4 characters, stars between."""
    first, last = (8, 4) if len(key) > _SHORT_KEY else (len(key) // 4, 0)
    return key[:first] + "*" * (len(key) - first - last) + key[len(key) - last :]


def deltas_of(request: Request, reply: Reply) -> list[str]:
    """Return the words of the answer with their white space; joined, they are the text."""
    if reply.tool is not None:
        return []
    text = reply.refusal if reply.refusal is not None else reply.text
    if reply.echo:
        text = request.question
    elif reply.size:
        text = (("x" * 999 + " ") * (reply.size // 1000 + 1))[: reply.size]
    elif text is None:
        text = f"Answer to: {request.question}"
    return _DELTA.findall(f"{text} NUL \0 surrogate \ud800 end" if reply.nasty else text)


def _thoughts(reply: Reply) -> list[str]:
    """The words of the reasoning, as those of the answer."""
    return _DELTA.findall(reply.reasoning or "")


def _annotations(reply: Reply) -> list[Json]:
    if reply.citation is None:
        return []
    citation = {"url": reply.citation, "title": "A cited page", "start_index": 0, "end_index": 1}
    return [{"type": "url_citation", "url_citation": citation}]


def _tool_calls(reply: Reply) -> list[Json]:
    function = {"name": reply.tool, "arguments": reply.arguments}
    call = {"index": 0, "id": f"call_{uuid.uuid4().hex[:24]}", "type": "function"}
    return [{**call, "function": function}]


def _usage(request: Request, reply: Reply, deltas: list[str]) -> Json:
    prompt = sum(len(str(item.get("content")).split()) for item in request.body["messages"])
    thoughts = len(_thoughts(reply))
    completion = len(deltas) + thoughts
    counts: Json = {"prompt_tokens": prompt, "completion_tokens": completion}
    if thoughts:
        counts["completion_tokens_details"] = {"reasoning_tokens": thoughts}
    return {**counts, "total_tokens": prompt + completion}


def _identity(request: Request, reply: Reply, kind: str) -> Json:
    model = reply.model if reply.model is not None else f"{request.body['model']}-2026-01-01"
    identity = {"id": f"chatcmpl-{uuid.uuid4().hex[:29]}", "created": int(time.time())}
    identity |= {"object": kind}
    return {**identity, "model": model, "service_tier": "default", "system_fingerprint": "fp_fake"}


def _finish_reason(reply: Reply) -> str:
    return reply.finish_reason if reply.tool is None else "tool_calls"


def _completion(request: Request, reply: Reply) -> bytes:
    """Return the body of an answer without streaming."""
    if reply.error is not None:
        return json.dumps(error_of(request, replace(reply, status=500))).encode()
    deltas = deltas_of(request, reply)
    text = "".join(deltas[: reply.end])
    message: Json = {"role": "assistant", "content": text, "refusal": None}
    message["annotations"] = _annotations(reply)
    if reply.reasoning is not None:
        message["reasoning_content"] = reply.reasoning
    if reply.refusal is not None:
        message |= {"content": None, "refusal": text}
    if reply.tool is not None:
        message |= {"content": None, "tool_calls": _tool_calls(reply)}
    finish = _finish_reason(reply) if reply.end is None else None
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    completion = _identity(request, reply, "chat.completion")
    others = [
        {**choice, "index": index, "message": {**message, "content": f"{text} ({index})"}}
        for index in range(1, request.body.get("n") or 1)
    ]
    completion["choices"] = [] if reply.body == "no_choices" else [choice, *others]
    if reply.usage:
        completion["usage"] = _usage(request, reply, deltas)
    whole = json.dumps(completion).encode()
    return {"nothing": b"", "broken": whole[: len(whole) // 2]}.get(reply.body, whole)


def _events(request: Request, reply: Reply) -> tuple[list[str], int, int]:
    """Return all events of a whole stream; see `Shape`."""
    data, deltas = _data(request, reply)
    return [f"data: {item}" for item in data], 1, deltas


def _data(request: Request, reply: Reply) -> tuple[list[str], int]:
    """Return the data of each event of a whole stream, and the number of content deltas."""
    options = request.body.get("stream_options")
    with_usage = reply.usage and isinstance(options, dict) and options.get("include_usage")
    common = json.dumps(_identity(request, reply, "chat.completion.chunk"))[:-1]
    tail = ', "usage": null}' if with_usage else "}"

    # Without json.dumps of the whole: no other function is called as often.
    def chunk(delta: str, finish: str | None = None) -> str:
        choice = f'{{"index": 0, "delta": {{{delta}}}, "logprobs": null, "finish_reason": '
        return f'{common}, "choices": [{choice}{json.dumps(finish)}}}]{tail}'

    if reply.body == "nothing":
        return [], 0
    if reply.body == "no_choices":
        return [f'{common}, "choices": []}}', "[DONE]"], 0
    deltas = deltas_of(request, reply)
    first, name = '"content": "", "refusal": null', "content"
    if reply.refusal is not None:
        first, name = '"content": null, "refusal": ""', "refusal"
    events = [chunk(f'"role": "assistant", {first}')]
    thoughts = _thoughts(reply)
    events += [chunk(f'"reasoning_content": {json.dumps(word)}') for word in thoughts]
    events += [chunk(f'"{name}": {json.dumps(delta)}') for delta in deltas]
    if reply.citation is not None:
        events.append(chunk(f'"annotations": {json.dumps(_annotations(reply))}'))
    if reply.tool is not None:  # as OpenAI sends it: first the name, then the arguments
        arguments = [{"index": 0, "function": {"arguments": reply.arguments}}]
        for part in (_tool_calls(replace(reply, arguments="")), arguments):
            events.append(chunk(f'"tool_calls": {json.dumps(part)}'))
    if reply.body == "broken":
        events[-1] = events[-1][: len(events[-1]) // 2]
    events.append(chunk("", _finish_reason(reply)))
    if with_usage:
        usage = json.dumps(_usage(request, reply, deltas))
        events.append(f'{common}, "choices": [], "usage": {usage}}}')
    return [*events, "[DONE]"], len(thoughts) + len(deltas)


CHAT = Shape(_completion, _events, lambda error: f"data: {json.dumps(error)}")
