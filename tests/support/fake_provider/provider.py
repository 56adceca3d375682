"""The fake provider: a server in a thread, its requests, and its choice of replies."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import socket
import threading
import time
import traceback
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from . import older, responses
from .batches import PREFIXES, BatchApi
from .behaviour import Behaviour, Json, Reply, Request, change, directives, resolve
from .connection import Connection, Hooks, Plan, Received
from .tools import with_tools
from .wire import CHAT, steps

if TYPE_CHECKING:
    from pathlib import Path

_GOOD = Reply()
_FAULTS = ("status=429", "status=500", "status=503", "reset", "cut=2", "hang")
_MINUTE = 60
_SHAPES = {
    "/v1/chat/completions": CHAT,
    responses.PATH: responses.SHAPE,
    older.COMPLETIONS: older.SHAPE,
}


@dataclass(eq=False, kw_only=True)
class FakeProvider:
    """A provider on 127.0.0.1. Use it as a context manager; settings may change while it runs.

    A chat request gets the next behaviour of `script()`, or else `default` (which may fail at
    random), changed by the spec in its question (`[[...]]`). A request refused for its key or for a
    limit takes nothing from the script.
    """

    default: Behaviour = _GOOD
    api_key: str | None = None  # other keys get 401
    rpm: float | None = None  # requests a minute (a token bucket; refused requests cost nothing)
    burst: float | None = None  # the size of the bucket; default: a whole minute
    max_concurrency: int | None = None
    fail_rate: float = 0.0  # depends on seed, question and times, not on the order of requests
    fail_with: tuple[str, ...] = _FAULTS
    seed: int = 0
    models: tuple[str, ...] = ("fake-large", "fake-small")
    models_reply: Behaviour = _GOOD  # a fault for /v1/models
    other_reply: Behaviour = _GOOD  # for all other paths; default: 404
    without: tuple[str, ...] = ()  # paths of APIs that it does not have: they get `other_reply`
    model_fields: dict[str, Json] = field(default_factory=dict)  # more fields of a listed model
    record: bool = True  # False: count requests but do not keep them (for long benchmarks)
    log: Path | None = None  # each question is written here as a line of JSON, before the reply
    port: int = 0  # 0: any free one

    def __post_init__(self) -> None:
        """Check the specs, and set all counts to zero."""
        for behaviour in (self.default, self.models_reply, *self.fail_with):
            if isinstance(behaviour, str):
                Reply.parse(behaviour)
        self._first_default, self._first_without = self.default, self.without
        self._first_other_reply = self.other_reply
        self._first_api_key = self.api_key
        self._lock = threading.Lock()
        self._open: set[Connection] = set()
        self._in_flight = 0
        self._thread: threading.Thread | None = None
        self._log = -1
        self.reset()

    def reset(self) -> None:
        """Forget all requests, counts and the script, and restore the first default and key."""
        with self._lock:
            self.default, self.without = self._first_default, self._first_without
            self.other_reply = self._first_other_reply
            self.api_key = self._first_api_key
            self._script: deque[Behaviour] = deque()
            self._requests: list[Request] = []
            self._asked: Counter[str] = Counter()
            self._stats: Counter[str] = Counter()
            self._max_concurrent, self._connections = self._in_flight, len(self._open)
            self._tokens, self._filled_at = math.inf, time.monotonic()
            self.batch_api = BatchApi(self)

    @property
    def base_url(self) -> str:
        """Return the base URL for a client."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def requests(self) -> list[Request]:
        """Return all requests so far, also refused ones and those to other paths."""
        with self._lock:
            return self._requests.copy()

    @property
    def stats(self) -> dict[str, int]:
        """Count the chat requests by their outcome: ok, 500, cut, client_gone, rate_limited, ..."""
        with self._lock:
            return dict(self._stats)

    @property
    def max_concurrent(self) -> int:
        """Return the largest number of chat requests open at once; refused ones count."""
        return self._max_concurrent

    @property
    def connections(self) -> int:
        """Return the number of connections that were opened."""
        return self._connections

    def asked(self, question: str) -> int:
        """Return the number of requests with exactly this question."""
        with self._lock:
            return self._asked[question]

    def script(self, *behaviours: Behaviour) -> None:
        """Answer the next chat requests with these, one each, in order."""
        self._script.extend(
            Reply.parse(behaviour) if isinstance(behaviour, str) else behaviour
            for behaviour in behaviours
        )

    def start(self) -> Self:
        """Listen; after `stop()` on the same port again."""
        sock = socket.create_server(("127.0.0.1", self.port), backlog=4096)
        self.port = sock.getsockname()[1]
        if self.log:
            self._log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._loop, self._stop = asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(sock,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening, and abort all connections."""
        if self._thread:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._thread = None
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def _run(self, sock: socket.socket) -> None:
        hooks = Hooks(self._answer, self._finished, self._opened, self._open.discard)

        async def serve() -> None:
            server = await self._loop.create_server(
                lambda: Connection(hooks), sock=sock, backlog=4096
            )
            await self._stop.wait()
            server.close()
            for connection in self._open.copy():
                connection.transport.abort()
            await asyncio.sleep(0)

        self._loop.run_until_complete(serve())
        self._loop.close()

    def _opened(self, connection: Connection) -> None:
        self._open.add(connection)
        self._connections += 1

    def _finished(self, outcome: str) -> None:
        with self._lock:
            self._in_flight -= 1
            self._stats[outcome] += 1

    def _answer(self, received: Received) -> Plan:
        """Record a request, and choose its reply."""
        path = received.path.partition("?")[0]
        shape = _SHAPES.get(path, CHAT)
        chat = received.method == "POST" and path in _SHAPES and path not in self.without
        body = _object(received.content)
        question = _question(body)
        with self._lock:
            if chat:
                self._asked[question] += 1
                self._in_flight += 1
                self._max_concurrent = max(self._max_concurrent, self._in_flight)
            request = Request(
                time.time(),
                received.method,
                received.path,
                received.headers,
                body,
                question,
                self._asked[question] if chat else 0,
                received.content,
            )
            if self.record:
                self._requests.append(request)
        if chat and self._log >= 0:
            os.write(self._log, json.dumps(question).encode() + b"\n")
        answer, outcome = None, ""
        try:
            refusal = self._refuse_key(request)
            if refusal:
                reply = refusal
            elif chat:
                reply, outcome = self._refuse(request) or (self._choose(request), "")
            else:
                reply, answer = self._other(request)
        except Exception as problem:  # noqa: BLE001 (a test's own callable may raise anything)
            traceback.print_exception(problem)
            reply = Reply(status=400, message=str(problem), code="fake_provider")
        limits = self._limits(self.rpm) if self.rpm else {}
        outcome = (outcome or reply.outcome) if chat else ""
        return Plan(outcome, steps(request, reply, limits, answer, shape))

    def _refuse_key(self, request: Request) -> Reply | None:
        if self.api_key is None or request.key == self.api_key:
            return None
        return Reply(status=401, message=None if request.key else "You didn't provide an API key.")

    def _refuse(self, request: Request) -> tuple[Reply, str] | None:
        """Return the error for a wrong request or a limit, and its outcome; None if all is well."""
        model = request.body.get("model")
        if request.path.partition("?")[0] == responses.PATH:
            if refusal := responses.refusal_of(request.body):
                return refusal, "400"
            messages: object = [{}]  # they may be one text here
        elif request.path == older.COMPLETIONS:
            messages = [{}] if "prompt" in request.body else None
        else:
            messages = request.body.get("messages")
        valid = isinstance(messages, list) and all(isinstance(item, dict) for item in messages)
        if not (messages and valid and model and isinstance(model, str)):
            return Reply(status=400, message="It must be JSON, with model and messages."), "400"
        if self.max_concurrency is not None and self._in_flight > self.max_concurrency:
            message = f"Too many concurrent requests for {model}."
            return Reply(status=429, retry_after=1, message=message), "concurrency_limited"
        if self.rpm:
            self._fill(self.rpm)
            if self._tokens < 1:
                wait = (1 - self._tokens) * _MINUTE / self.rpm
                exact = {"retry-after-ms": str(math.ceil(wait * 1000))}
                reply = Reply(status=429, retry_after=math.ceil(wait), headers=exact)
                return reply, "rate_limited"
            self._tokens -= 1
        return None

    def _fill(self, rpm: float) -> float:
        """Add the tokens of the time since the last call; return the size of the bucket."""
        now, size = time.monotonic(), self.burst or max(rpm, 1)
        self._tokens = min(self._tokens + (now - self._filled_at) * rpm / _MINUTE, size)
        self._filled_at = now
        return size

    def _limits(self, rpm: float) -> dict[str, str]:
        wait = (self._fill(rpm) - self._tokens) * _MINUTE / rpm
        shown = f"{wait * 1000:.0f}ms" if wait < 1 else f"{wait % _MINUTE:.3f}s"
        return {
            "x-ratelimit-limit-requests": f"{rpm:g}",
            "x-ratelimit-remaining-requests": str(int(self._tokens)),
            "x-ratelimit-reset-requests": (f"{wait // _MINUTE:.0f}m" if wait >= _MINUTE else "")
            + shown,
        }

    def _choose(self, request: Request) -> Reply:
        try:
            reply = resolve(self._script.popleft(), request)
        except IndexError:
            reply = resolve(self.default, request)
            if self.fail_rate:
                key = f"{self.seed} {request.times} {request.question!r}"
                chance = random.Random(key)
                if chance.random() < self.fail_rate:
                    reply = change(reply, chance.choice(self.fail_with))
        spec = directives(request.question)
        reply = change(reply, spec, request.times) if spec else reply
        return with_tools(reply, request) if reply.tools or reply.schema else reply

    def request_of(self, body: Json, path: str) -> Request:
        """Return a request of a batch as if it had come alone."""
        question = _question(body)
        self._asked[question] += 1
        times = self._asked[question]
        return Request(time.time(), "POST", path, {}, body, question, times, b"")

    def choose(self, request: Request) -> Reply:
        """Return the reply to a request of a batch."""
        return self._choose(request)

    def _other(self, request: Request) -> tuple[Reply, Json | bytes | None]:
        """Answer files, batches, /v1/models and /v1/models/NAME; all other paths get 404."""
        if request.path.startswith(PREFIXES) and "/v1/batches" not in self.without:
            return self.batch_api.handle(request)
        common = {"object": "model", "created": 1, "owned_by": "fake"}
        answers = {
            f"/v1/models/{name}": {"id": name, **common, **self.model_fields.get(name, {})}
            for name in self.models
        }
        answers["/v1/models"] = {"object": "list", "data": list(answers.values())}
        if request.method == "GET" and request.path in answers:
            return resolve(self.models_reply, request), answers[request.path]
        if (request.method, request.path) == ("POST", older.EMBEDDINGS):
            if "input" not in request.body or not isinstance(request.body.get("model"), str):
                return Reply(status=400, message="It must be JSON, with model and input."), None
            return Reply(), older.embeddings_of(request.body)
        if self.other_reply != _GOOD:
            return resolve(self.other_reply, request), None
        message = f"Invalid URL ({request.method} {request.path})"
        return Reply(status=404, message=message, code="unknown_url"), None


def _object(content: bytes) -> Json:
    with suppress(ValueError):
        body = json.loads(content)
        if isinstance(body, dict):
            return body
    return {}


def _question(body: Json) -> str:
    """Return the text of the last user message; empty if there is none."""
    with suppress(LookupError, TypeError, AttributeError):
        messages = body.get("messages", body.get("input", body.get("prompt")))
        if isinstance(messages, str):
            return messages
        for message in reversed(messages):
            if message.get("role") == "user":
                parts = message["content"]
                if isinstance(parts, str):
                    return parts
                return "".join(part.get("text", "") for part in parts)
    return ""
