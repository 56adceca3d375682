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
    """One request as received; `times` is how often its question has now been seen, from 1."""

    received_at: float  # time.time()
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: Json  # {} if it is not a JSON object
    question: str  # the text of the last user message
    times: int

    @property
    def key(self) -> str:
        """The API key that was sent, or nothing."""
        return self.headers.get("authorization", "").removeprefix("Bearer ").strip()


@dataclass(frozen=True, slots=True)
class Reply:
    """What to do with one request: `Reply()` is a good answer, every field makes it differ.

    N in `cut`, `end`, `stall` and `error` is how many content deltas are sent before; past the last
    one it counts on (finish_reason, usage, [DONE]). Without streaming, half the body is sent before
    a `cut` or `stall`, `end` gives N deltas of text without finish_reason, and `error` a 200 whose
    JSON is an error.
    """

    text: str | None = None  # default: "Answer to: <question>"
    echo: bool = False  # the text is the question itself
    size: int = 0  # the text is this many characters long
    nasty: bool = False  # the text also has a NUL and a lone surrogate
    refusal: str | None = None  # instead of a text
    tool: str | None = None  # instead of a text: a call of this tool
    arguments: str = "{}"  # of that call, as JSON
    reasoning: str | None = None  # before the text
    failed: str | None = None  # Responses: the response ends as failed, with this code
    lost: bool = False  # Responses: no delta has text, only the last event has
    model: str | None = None  # default: "<requested model>-2026-01-01"
    finish_reason: str = "stop"
    usage: bool = True  # False: no usage, not even when asked for
    latency: float = 0.0  # seconds before the headers
    first_token_delay: float = 0.0  # seconds between the headers and the first event
    delay: float = 0.0  # seconds before each content delta
    times: int = 0  # only the first N times a question is seen; then a good answer
    # Errors over HTTP. {key} and {masked_key} in the message stand for the key that was sent.
    status: int = _OK
    message: str | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None  # seconds
    retry_date: float | None = None  # seconds from now, sent as an HTTP date
    headers: Mapping[str, str] = field(default_factory=dict)
    # Wrong bodies: an HTML page; JSON cut short; JSON although a stream was asked for; not one byte
    # or event; `choices: []`.
    body: Body = ""
    # Broken connections.
    hang: bool = False  # never a byte
    reset: bool = False  # RST before the headers
    drop: bool = False  # FIN before the headers
    cut: int | None = None  # after N deltas, closed in the middle of an event
    end: int | None = None  # after N deltas, ends cleanly: no finish_reason, no [DONE]
    stall: int | None = None  # after N deltas, silence
    error: int | None = None  # after N deltas, `data: {"error": ...}`
    dribble: float = 0.0  # seconds before each byte of the body
    close: bool = False  # after the reply, closes the kept-alive connection without notice

    @classmethod
    def parse(cls, spec: str) -> Reply:
        """Read e.g. `status=429 retry_after=1 x-any-header=2`; ValueError if not understood."""
        return cls(**_parse(spec))

    @property
    def outcome(self) -> str:
        """The name under which `FakeProvider.stats` counts it."""
        for name in ("hang", "reset", "drop"):
            if getattr(self, name):
                return name
        if self.status != _OK:
            return str(self.status)
        if self.failed is not None:
            return "failed"
        return self.body or next((each for each in STOPS if getattr(self, each) is not None), "ok")


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
    """The fields of Reply that a spec sets; a bare name is a preset, or means `name=1`."""
    types = {each.name: str(each.type).partition(" ")[0] for each in fields(Reply)}
    found: Json = {}
    for word in shlex.split(spec):
        name, equals, value = word.partition("=")
        if name in PRESETS and not equals:
            found |= _parse(PRESETS[name])
        elif "-" in name:
            found["headers"] = {**found.get("headers", {}), name: value}
        elif name == "body" and value in get_args(Body):
            found["body"] = value
        elif types.get(name) in _CONVERT:
            found[name] = _CONVERT[types[name]](value if equals else "1")
        else:
            msg = f"fake_provider does not understand {word!r}"
            raise ValueError(msg)
    return found


def change(reply: Reply, spec: str, times: int = 1) -> Reply:
    """The reply with what a spec says, unless the spec is only for the first times."""
    said = _parse(spec)
    return reply if 0 < said.get("times", 0) < times else replace(reply, **said)


def directives(question: str) -> str:
    """What the question itself demands, in `[[...]]`."""
    return " ".join(_DIRECTIVE.findall(question)) if "[[" in question else ""


def resolve(behaviour: Behaviour, request: Request) -> Reply:
    """What a behaviour comes to for this request."""
    chosen = behaviour(request) if callable(behaviour) else behaviour
    reply = Reply.parse(chosen) if isinstance(chosen, str) else chosen
    return Reply() if 0 < reply.times < request.times else reply
