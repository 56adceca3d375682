"""Parse the error in a response; each provider writes errors in its own format.

`{"error": {...}}` is OpenAI's; the same in a list is Gemini's; `{"detail": ...}` with a text or a
list of `{"loc": [...], "msg": ...}` is FastAPI's; others write a `message`, a text or a web page.
"""

import re
from dataclasses import dataclass
from typing import Any

from qacli.validation import sanitize_text

WEB_PAGE = re.compile(r"\s*<(!doctype|html|head|\?xml)", re.IGNORECASE)
PAGE_TITLE = re.compile(r"<title>([^<]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error as the provider describes it.

    Attributes:
        message: Its text; empty where there is none.
        code: Its code, such as `context_length_exceeded` or `402`.
        type: Its type, such as `invalid_request_error`.
        param: The parameter of the request that it is about.
    """

    message: str
    code: str | None = None
    type: str | None = None
    param: str | None = None

    @property
    def status(self) -> int | None:
        """The code, where it is an HTTP status; some endpoints send errors with status 200."""
        is_status = self.code is not None and re.fullmatch(r"[45]\d\d", self.code)
        return int(self.code) if is_status and self.code else None

    def details(self) -> dict[str, str]:
        """Return the code, the type and the parameter, where they are known."""
        values = {"code": self.code, "type": self.type, "param": self.param}
        return {name: value for name, value in values.items() if value}


def parse_error(body: object) -> ErrorBody:
    """Return the error in the body of a response: JSON of any kind, or text."""
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, str):
        return ErrorBody(_text_message(body))
    if not isinstance(body, dict):
        return ErrorBody("")
    error = body.get("error") or body.get("errors")
    if isinstance(error, list) and error:
        error = error[0]
    if isinstance(error, str):
        # `{"error": "Not Found", "message": "..."}`: the message says more.
        return ErrorBody(_first_text(body, "message", "detail") or error, _code(body), param=None)
    fields = error if isinstance(error, dict) else body
    if "detail" in fields and not isinstance(fields.get("message"), str):
        return _parse_detail(fields["detail"])
    message = _first_text(fields, "message", "msg", "title", "error_description")
    return ErrorBody(
        _provider_message(fields) or message or _as_text(error or body),
        _code(fields),
        _text(fields.get("type")),
        _text(fields.get("param")),
    )


def _provider_message(fields: dict[str, Any]) -> str | None:
    """Return what the provider behind a gateway says: OpenRouter has it under `metadata.raw`."""
    metadata = fields.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    message = _first_text(fields, "message")
    if not isinstance(raw, str) or not raw.strip() or message is None:
        return None
    return f"{message}: {raw}"


def _parse_detail(detail: object) -> ErrorBody:
    if isinstance(detail, dict):
        return parse_error(detail)
    if not isinstance(detail, list):
        return ErrorBody(_as_text(detail))
    problems = [item for item in detail if isinstance(item, dict)]
    messages = []
    for problem in problems:
        location = problem.get("loc")
        path = ".".join(map(str, location[1:])) if isinstance(location, list) else ""
        messages.append(": ".join(part for part in (path, str(problem.get("msg", ""))) if part))
    first = problems[0] if problems else {}
    location = first.get("loc")
    param = str(location[1]) if isinstance(location, list) and len(location) > 1 else None
    return ErrorBody("; ".join(messages) or _as_text(detail), _text(first.get("type")), None, param)


def _text_message(text: str) -> str:
    if WEB_PAGE.match(text):
        title = PAGE_TITLE.search(text)
        suffix = f" titled {title[1].strip()!r}" if title else ""
        return f"a web page{suffix} instead of an API response"
    return text


def _code(fields: dict[str, Any]) -> str | None:
    code = fields.get("code")
    if isinstance(code, int) and not isinstance(code, bool):
        return str(code)
    return _text(code)


def _first_text(fields: dict[str, Any], *names: str) -> str | None:
    values = (fields.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value.strip()), None)


def _text(value: object) -> str | None:
    return sanitize_text(value) if isinstance(value, str) and value else None


def _as_text(value: object) -> str:
    try:
        return str(value)
    except RecursionError:
        return "an error that is nested too deeply to show"
