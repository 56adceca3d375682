"""The behaviour of the fake provider: `Reply`, and the small language that describes it."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

Json = dict[str, Any]
Body = Literal["", "html", "broken", "json", "nothing", "no_choices"]

STOPS = ("cut", "end", "stall", "error")  # the fields of Reply that stop it after N deltas
_OK = 200


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it was received; `times` counts the requests with this question, from 1."""

    received_at: float  # time.time()
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: Json  # {} if it is not a JSON object
    question: str  # the text of the last user message
    times: int
    content: bytes = b""  # the body as it came

    @property
    def key(self) -> str:
        """Return the API key that was sent; empty if there was none."""
        return self.headers.get("authorization", "").removeprefix("Bearer ").strip()


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one request. `Reply()` is a good answer; each field changes one thing of it.

    N in `cut`, `end`, `stall` and `error` is the number of content deltas before the fault. A
    larger N counts the events after the last delta too: finish_reason, usage, [DONE]. Without
    streaming, `cut` and `stall` come after half of the body, `end` sends N deltas of text without a
    finish_reason, and `error` sends a status 200 with an error as its JSON.
    """

    text: str | None = None  # default: "Answer to: <question>"
    echo: bool = False  # the text is the question itself
    size: int = 0  # the text is this many characters long
    nasty: bool = False  # the text also has a NUL and a lone surrogate
    refusal: str | None = None  # instead of a text
    tool: str | None = None  # instead of a text: a call of this tool
    arguments: str = "{}"  # of that call, as JSON
    reasoning: str | None = None  # before the text, as `reasoning_content`; its words are deltas
    citation: str | None = None  # the address of a page that the answer cites
    tools: int = 0  # so many times after a question: calls the first tool of the request
    schema: bool = False  # the text is JSON that fits the schema of the request
    failed: str | None = None  # Responses: the response ends as failed, with this code
    lost: bool = False  # Responses: no delta has text, only the last event has
    model: str | None = None  # default: "<requested model>-2026-01-01"
    finish_reason: str = "stop"
    usage: bool = True  # False: no usage, not even when asked for
    latency: float = 0.0  # seconds before the headers
    first_token_delay: float = 0.0  # seconds between the headers and the first event
    delay: float = 0.0  # seconds before each content delta
    times: int = 0  # only the first N times a question is seen; then a good answer
    # Errors of HTTP. {key} and {masked_key} in the message stand for the key that was sent.
    status: int = _OK
    message: str | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None  # seconds
    retry_date: float | None = None  # seconds from now, sent as an HTTP date
    headers: Mapping[str, str] = field(default_factory=dict)
    # Wrong bodies: an HTML page; cut JSON; JSON instead of a stream; no byte and no event; an empty
    # list of choices.
    body: Body = ""
    # Broken connections.
    hang: bool = False  # no byte is ever sent
    reset: bool = False  # RST before the headers
    drop: bool = False  # FIN before the headers
    cut: int | None = None  # after N deltas, closed in the middle of an event
    end: int | None = None  # after N deltas, ends cleanly: no finish_reason, no [DONE]
    stall: int | None = None  # after N deltas, nothing more is sent
    error: int | None = None  # after N deltas, `data: {"error": ...}`
    dribble: float = 0.0  # seconds before each byte of the body
    close: bool = False  # after the reply, closes the connection without `connection: close`

    @classmethod
    def parse(cls, spec: str) -> Reply:
        """Read for example `status=429 retry_after=1 x-any-header=2`.

        Raises:
            ValueError: A word is no field of a reply, no preset and no header.
        """
        return cls(**_parse(spec))

    @property
    def outcome(self) -> str:
        """Return the name under which `FakeProvider.stats` counts the reply."""
        for name in ("hang", "reset", "drop"):
            if getattr(self, name):
                return name
        if self.status != _OK:
            return str(self.status)
        if self.failed is not None:
            return "failed"
        return self.body or next((stop for stop in STOPS if getattr(self, stop) is not None), "ok")


Behaviour = Reply | str | Callable[[Request], Reply | str]

PRESETS = {
    "quota": (
        "status=429 code=insufficient_quota type=insufficient_quota "
        "message='You exceeded your current quota, please check your plan and billing details.'"
    ),
    "bad_key": "status=401",
    "leak_key": "status=401 message='Incorrect API key provided: {key}.'",
    "html_502": "status=502 body=html",
    "empty": "text=''",
    **{name: f"body={name}" for name in get_args(Body) if name},
}

_DIRECTIVE = re.compile(r"\[\[([a-z][^\[\]]*)\]\]")
_CONVERT: dict[str, Callable[[str], object]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": lambda value: bool(int(value)),
}


@functools.lru_cache(maxsize=1000)
def _parse(spec: str) -> Json:
    """Return the fields of Reply that a spec sets; a bare name is a preset, or means `name=1`."""
    types = {item.name: str(item.type).partition(" ")[0] for item in fields(Reply)}
    values: Json = {}
    for word in shlex.split(spec):
        name, equals, value = word.partition("=")
        if name in PRESETS and not equals:
            values |= _parse(PRESETS[name])
        elif "-" in name:
            values["headers"] = {**values.get("headers", {}), name: value}
        elif name == "body" and value in get_args(Body):
            values["body"] = value
        elif types.get(name) in _CONVERT:
            values[name] = _CONVERT[types[name]](value if equals else "1")
        else:
            msg = f"fake_provider does not understand {word!r}"
            raise ValueError(msg)
    return values


def change(reply: Reply, spec: str, times: int = 1) -> Reply:
    """Return the reply changed by a spec; unchanged once the `times` of the spec are over."""
    values = _parse(spec)
    return reply if 0 < values.get("times", 0) < times else replace(reply, **values)


def directives(question: str) -> str:
    """Return the spec that the question holds in `[[...]]`; empty if there is none."""
    return " ".join(_DIRECTIVE.findall(question)) if "[[" in question else ""


def resolve(behaviour: Behaviour, request: Request) -> Reply:
    """Return the reply that a behaviour gives for this request."""
    value = behaviour(request) if callable(behaviour) else behaviour
    reply = Reply.parse(value) if isinstance(value, str) else value
    return Reply() if 0 < reply.times < request.times else reply
