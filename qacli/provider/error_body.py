"""Parse the error in a response; each provider writes errors in its own format.

`{"error": {...}}` is OpenAI's; the same in a list is Gemini's; `{"detail": ...}` with a text or a
list of `{"loc": [...], "msg": ...}` is FastAPI's; others write a `message`, a text or a web page.
Gateways put the error of the endpoint behind them into theirs, often as JSON in a text.
"""

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from qacli.provider.json_values import as_dict, as_list
from qacli.provider.retry_after import parse_seconds, retry_after
from qacli.provider.sse import EventParser
from qacli.validation import sanitize_text

WEB_PAGE = r"(?i)\s*<(!doctype|!--|html|head|body|center|h1|\?xml)"
PAGE_TITLE = r"(?i)<(?:title|message)>([^<]*)"
"""The title of an HTML page, or the message of an XML document (Amazon S3, Google)."""

EVENTS = r"(data|event|):"
"""The beginning of server-sent events: some gateways write each error as they would in a stream."""

NO_VALUE = frozenset({"", "None", "null"})
"""The texts that LiteLLM and others write for a field without a value."""

MESSAGE_NAMES = (
    *("message", "msg", "error_msg", "error_message", "errorMessage", "Message", "status_msg"),
    *("faultstring", "error_description", "reason", "title"),
)
CODE_NAMES = ("code", "error_code", "errorCode", "status_code")
WRAPPERS = ("error", "errors", "fault", "base_resp")
"""The fields that hold an error: OpenAI's, Cloudflare's, Apigee's, MiniMax's."""

MESSAGE_END_CHARS = 8_000
"""The length of each of the two ends of a very long message that are read."""

MAX_DEPTH = 5
"""The errors in errors that are read."""

STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "BadRequestError": 400,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "content_filter": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "insufficient_quota": 429,
    "permission_error": 403,
    "not_found_error": 404,
    "NotFoundError": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
    "1002": 429,
    "1004": 401,
    "2013": 400,
    "2049": 401,
}
"""The HTTP statuses that belong to codes and types of OpenAI, Anthropic, vLLM and llama.cpp, and to
the codes of MiniMax: too many requests, no login, invalid parameters, invalid key."""

RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error as the provider describes it.

    Attributes:
        message: Its text; empty if there is none.
        code: Its code, such as `context_length_exceeded` or `402`.
        type: Its type, such as `invalid_request_error`.
        param: The parameter of the request that it is about.
        retry_after: Seconds after which to ask again, where the body has them: of Gemini,
            OpenRouter, and of Hugging Face while a model is loaded.
        is_page: It is an HTML page: something else than the API has answered.
    """

    message: str
    code: str | None = None
    type: str | None = None
    param: str | None = None
    retry_after: float | None = None
    is_page: bool = False

    @property
    def status(self) -> int | None:
        """The HTTP status of its code or type; some endpoints send such an error with 200."""
        if self.code is not None and re.fullmatch(r"[45]\d\d", self.code):
            return int(self.code)
        return STATUS_OF_TYPE.get(self.code or "") or STATUS_OF_TYPE.get(self.type or "")

    def details(self) -> dict[str, str]:
        """Return the code, the type and the parameter, if they are known."""
        values = {"code": self.code, "type": self.type, "param": self.param}
        return {name: value for name, value in values.items() if value}


def parse_error(body: object) -> ErrorBody:
    """Return the error in the body of a response: JSON of any kind, or text."""
    error = find_error(body)
    if error is None:
        error = ErrorBody(_as_text(body) if isinstance(body, dict) and body else "")
    # If an error repeats the question, its message is before or after the question.
    if len(error.message) > 2 * MESSAGE_END_CHARS:
        ends = error.message[:MESSAGE_END_CHARS], error.message[-MESSAGE_END_CHARS:]
        error = replace(error, message=" … ".join(ends))
    return error


def find_error(body: object, depth: int = 0) -> ErrorBody | None:
    """Return the error in a body; None if it has no message and no code."""
    if isinstance(body, list):
        return _join([find_error(item, depth + 1) for item in body]) if depth < MAX_DEPTH else None
    if isinstance(body, str):
        return _read_text(body, depth)
    if not isinstance(body, dict):
        return None
    inner = next((body[name] for name in WRAPPERS if is_error(body.get(name))), None)
    if inner is not None:
        return _read_wrapped(inner, body, depth)
    if "detail" in body and _first_text(body, *MESSAGE_NAMES[:-1]) is None:
        return _read_detail(body["detail"], depth)
    return _read_fields(body, depth)


def is_error(value: object) -> bool:
    """Return whether a wrapper has an error.

    MiniMax sends one with the status 0 for success; others send `"error": true` with a message.
    """
    if isinstance(value, dict):
        return bool(value) and value.get("status_code") != 0
    return isinstance(value, str | list) and bool(value)


def _read_wrapped(inner: object, body: dict[str, Any], depth: int) -> ErrorBody:
    """Read the error in a field; other fields may have more of it."""
    error = find_error(inner, depth + 1) if depth < MAX_DEPTH else None
    if error is None:
        code = _code(inner) if isinstance(inner, dict) else None
        return ErrorBody(_as_text(inner), code or _code(body))
    if isinstance(inner, str):
        # `{"error": "Not Found", "message": "..."}`: the message, or a list of them, says more.
        rest = {name: body[name] for name in ("message", "detail") if body.get(name)}
        more = find_error(rest, depth + 1) or error
        kind = more.type or error.type or _text(body.get("error_type"))
        delay = more.retry_after or parse_seconds(body.get("estimated_time"))
        error = replace(more, code=more.code or error.code, type=kind, retry_after=delay)
    return replace(error, code=error.code or _code(body))


def _read_fields(fields: dict[str, Any], depth: int) -> ErrorBody | None:
    name = next((name for name in MESSAGE_NAMES if fields.get(name)), None)
    inner = find_error(fields[name], depth + 1) if name and depth < MAX_DEPTH else None
    if inner is None:
        return None
    return ErrorBody(
        _with_upstream(fields, inner.message, depth),
        _code(fields) or inner.code,
        _text(fields.get("type"))
        or _text(fields.get("error_type"))
        or _text(fields.get("status"))
        or inner.type,
        _text(fields.get("param")) or inner.param,
        _retry_delay(fields) or inner.retry_after,
    )


def _with_upstream(fields: dict[str, Any], message: str, depth: int) -> str:
    """Add the message of the provider behind a gateway; OpenRouter has it in `metadata.raw`."""
    metadata = fields.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    upstream = find_error(raw, depth + 1) if depth < MAX_DEPTH else None
    return message if upstream is None else f"{message}: {upstream.message}"


def _read_detail(detail: object, depth: int) -> ErrorBody:
    problems = [item for item in detail if _is_problem(item)] if isinstance(detail, list) else []
    if not problems:
        error = find_error(detail, depth + 1) if depth < MAX_DEPTH else None
        return error or ErrorBody(_as_text(detail))
    messages = []
    for problem in problems:
        path = ".".join(map(str, problem.get("loc", [])[1:]))
        messages.append(": ".join(part for part in (path, str(problem.get("msg", ""))) if part))
    location = problems[0].get("loc", [])
    param = str(location[1]) if len(location) > 1 else None
    return ErrorBody("; ".join(messages), _text(problems[0].get("type")), None, param)


def _is_problem(item: object) -> bool:
    """Return whether this is a problem of FastAPI."""
    return isinstance(item, dict) and "msg" in item and isinstance(item.get("loc", []), list)


def _read_text(text: str, depth: int) -> ErrorBody | None:
    """Read a text: a web page, server-sent events, or a sentence."""
    if not text.strip():
        return None
    if re.match(WEB_PAGE, text):
        import html

        title = re.search(PAGE_TITLE, text)
        name = " ".join(html.unescape(title[1]).split()) if title else ""
        suffix = f" titled {name!r}" if name else ""
        is_page = not text.lstrip().startswith("<?xml")  # Amazon's and Google's APIs write XML
        return ErrorBody(f"a web page{suffix} instead of an API response", is_page=is_page)
    if re.match(EVENTS, text) and depth < MAX_DEPTH:
        return _read_events(text, depth)
    return _read_sentence(text, depth)


def _read_sentence(text: str, depth: int) -> ErrorBody:
    """Read a sentence, which may contain another error as JSON."""
    start = text.find("{")
    if start < 0 or depth >= MAX_DEPTH:
        return ErrorBody(text)
    try:
        inner, length = json.JSONDecoder().raw_decode(text[start:])
    except (ValueError, RecursionError):
        return ErrorBody(text)
    error = find_error(inner, depth + 1)
    if error is None:
        return ErrorBody(text)
    before, after = text[:start], text[start + length :]
    parts = (before.strip(" \n-:b'\""), error.message, after.strip(" \n'\"]"))
    return replace(error, message=": ".join(filter(None, parts)))


def _read_events(text: str, depth: int) -> ErrorBody | None:
    """Read the error in server-sent events."""
    parser = EventParser()
    events = [*parser.feed(text.encode(errors="replace")), *parser.close()]
    texts = [event.data for event in events if event.data.strip() != "[DONE]"]
    return _join([find_error(data, depth + 1) for data in texts])


def _join(bodies: list[ErrorBody | None]) -> ErrorBody | None:
    """Return the first error, with the messages of all."""
    errors = [body for body in bodies if body is not None]
    if not errors:
        return None
    return replace(errors[0], message="; ".join(error.message for error in errors))


def _retry_delay(fields: dict[str, Any]) -> float | None:
    """Return the seconds of Google's `RetryInfo`, such as `{"retryDelay": "31s"}`.

    OpenRouter has the headers of the limit in `metadata`.
    """
    for item in as_list(fields.get("details")):
        if isinstance(item, dict) and item.get("@type") == RETRY_INFO:
            return parse_seconds(item.get("retryDelay"))
    headers = as_dict(as_dict(fields.get("metadata")).get("headers"))
    return retry_after({name.lower(): str(value) for name, value in headers.items()})


def _code(fields: dict[str, Any]) -> str | None:
    for name in CODE_NAMES:
        code = fields.get(name)
        if isinstance(code, int) and not isinstance(code, bool):
            return str(code)
        if text := _text(code):
            return text
    return None


def _first_text(fields: dict[str, Any], *names: str) -> str | None:
    values = (fields.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value.strip()), None)


def _text(value: object) -> str | None:
    return sanitize_text(value) if isinstance(value, str) and value not in NO_VALUE else None


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (RecursionError, ValueError, TypeError):
        return "an error that is nested too deeply to show"
