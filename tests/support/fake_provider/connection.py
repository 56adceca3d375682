"""The HTTP/1.1 side of the fake provider: one client connection.

It is an asyncio.Protocol that writes the steps of a reply with timers and without tasks. This
allows thousands of requests a second, and a reply can end at any byte.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from .wire import End, Step, head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECE = 1 << 16
_SILENT = ("hang", "stall")


@dataclass(frozen=True, slots=True)
class Received:
    """One HTTP request, before its JSON is read."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a reply, and the outcome that counts it (empty if it is not counted)."""

    outcome: str
    steps: Iterator[Step]


@dataclass(frozen=True, slots=True)
class Hooks:
    """The functions of the provider that a connection calls."""

    answer: Callable[[Received], Plan]
    finished: Callable[[str], None]  # with the outcome
    opened: Callable[[Connection], None]
    closed: Callable[[Connection], None]


class Connection(asyncio.Protocol):
    """One client connection, kept alive until the client or a reply closes it."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks
        self.buffer = bytearray()
        self.plan: Plan | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.paused = self.continued = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self.transport = cast("asyncio.Transport", transport)
        self.hooks.opened(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Called by asyncio: count the reply that was not finished."""
        if self.timer:
            self.timer.cancel()
        if self.plan:
            silent = self.plan.outcome in _SILENT
            self._finish(self.plan.outcome if silent else "client_gone")
        self.hooks.closed(self)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio; a request that comes before the last reply has ended waits here."""
        self.buffer += data
        self._serve()

    def pause_writing(self) -> None:
        """Called by asyncio, when the client reads too slowly."""
        self.paused = True

    def resume_writing(self) -> None:
        """Called by asyncio, when the client has read enough."""
        self.paused = False
        if self.plan and not self.timer and self.plan.outcome not in _SILENT:
            self._resume()

    def _serve(self) -> None:
        while not self.plan and not self.transport.is_closing():
            try:
                received = self._take()
            except ValueError:  # not HTTP, or a transfer encoding that this server does not read
                self.transport.write(head(400, {"content-length": "0", "connection": "close"}))
                self.transport.close()
                return
            if not received:
                return
            self.plan = self.hooks.answer(received)
            self._play(self.plan)

    def _take(self) -> Received | None:
        """Remove one whole request from the buffer and return it; None while it is incomplete."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        start, length = end + 4, int(headers.get("content-length", "0"))
        if "transfer-encoding" in headers or length < 0:
            raise ValueError
        if len(self.buffer) < start + length:
            if "expect" in headers and not self.continued:
                self.continued = True
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        content = bytes(self.buffer[start : start + length])
        del self.buffer[: start + length]
        self.continued = False
        return Received(method, target, headers, content)

    def _play(self, plan: Plan) -> None:
        """Continue the reply until it waits, blocks or ends."""
        out = bytearray()
        for step in plan.steps:
            if isinstance(step, bytes):
                out += step
                if len(out) >= _PIECE:
                    self.transport.write(bytes(out))
                    out.clear()
                    if self.paused:
                        return
            elif isinstance(step, End):
                self._end(plan, step, bytes(out))
                return
            elif step > 0:
                self.transport.write(bytes(out))
                self.timer = asyncio.get_running_loop().call_later(step, self._resume)
                return
        # Before the last byte: a client that has read the reply finds it counted.
        self._finish(plan.outcome)
        self.transport.write(bytes(out))

    def _resume(self) -> None:
        self.timer = None
        if self.plan:
            self._play(self.plan)
        self._serve()

    def _end(self, plan: Plan, end: End, out: bytes) -> None:
        if end is not End.HANG:
            self._finish(plan.outcome)
        self.transport.write(out)
        if end is End.CLOSE:
            self.transport.close()
        elif end is End.RESET:
            linger = struct.pack("ii", 1, 0)
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()

    def _finish(self, outcome: str) -> None:
        counted = self.plan and self.plan.outcome
        self.plan = None
        if counted:
            self.hooks.finished(outcome)
