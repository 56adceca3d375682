"""An HTTP client that takes little processor time: the measured server runs on the same machine."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

LIMIT_SECONDS = 60


@dataclass(slots=True)
class Burst:
    """Many requests at the same time.

    Attributes:
        statuses: Of each answer; 0 where the connection broke.
        seconds: From the first connection until the last answer.
    """

    statuses: list[int]
    seconds: float


@dataclass(slots=True)
class Timed:
    """Requests one after the other on some connections.

    Attributes:
        latencies: Seconds from a request to the end of its answer, for each that got 200; sorted.
        failed: The number of other requests. One whose connection breaks ends that connection.
        seconds: The length of all.
    """

    latencies: list[float]
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Requests a second that got 200."""
        return len(self.latencies) / self.seconds

    def quantile(self, part: float) -> float:
        """The seconds that this part of the requests took at most; 0.5 is the median."""
        return self.latencies[int(part * (len(self.latencies) - 1))]


def burst(base_url: str, path: str, bodies: Sequence[bytes]) -> Burst:
    """Post all at the same time."""
    return asyncio.run(_burst(base_url, path, bodies))


def rate(base_url: str, path: str, *, connections: int, seconds: float) -> float:
    """Requests a second that get 200, on connections that stay open."""
    return asyncio.run(_rate(base_url, path, connections, seconds))


def timed(  # noqa: PLR0913 - by name
    base_url: str, path: str, body: bytes, *, key: str, connections: int, seconds: float
) -> Timed:
    """Post the same body again and again, on connections that stay open, and read each answer."""
    head = _head(base_url, "POST", path, length=len(body), keep=True)
    request = head[:-2] + f"Authorization: Bearer {key}\r\n\r\n".encode() + body
    return asyncio.run(_timed(base_url, request, connections, seconds))


def join(parts: Sequence[Timed]) -> Timed:
    """Return the figures of several runs as those of one."""
    return Timed(
        sorted(latency for part in parts for latency in part.latencies),
        sum(part.failed for part in parts),
        sum(part.seconds for part in parts),
    )


def get(base_url: str, path: str) -> int:
    """Return the status of one request.

    Raises:
        OSError: There is no answer.
    """
    return asyncio.run(_once(base_url, _head(base_url, "GET", path)))


def _head(base_url: str, method: str, path: str, *, length: int = 0, keep: bool = False) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {urlsplit(base_url).netloc}",
        f"Connection: {'keep-alive' if keep else 'close'}",
    ]
    if length:
        lines += ["Content-Type: application/json", f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


async def _once(base_url: str, request: bytes) -> int:
    address = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(request)
        answer = await reader.read()
    finally:
        writer.close()
    return int(answer[9:12] or 0)


async def _burst(base_url: str, path: str, bodies: Sequence[bytes]) -> Burst:
    requests = [_head(base_url, "POST", path, length=len(body)) + body for body in bodies]

    async def ask(request: bytes) -> int:
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                return await _once(base_url, request)
        except (OSError, TimeoutError):
            return 0

    start = time.perf_counter()
    statuses = await asyncio.gather(*(ask(request) for request in requests))
    return Burst(list(statuses), time.perf_counter() - start)


async def _rate(base_url: str, path: str, connections: int, seconds: float) -> float:
    address, request = urlsplit(base_url), _head(base_url, "GET", path, keep=True)
    end = time.perf_counter() + seconds
    answered = 0

    async def work() -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            while time.perf_counter() < end:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(None, 1)[0])
                await reader.readexactly(length)
                answered += head[9:12] == b"200"
        finally:
            writer.close()

    start = time.perf_counter()
    async with asyncio.timeout(seconds + LIMIT_SECONDS):
        await asyncio.gather(*(work() for _ in range(connections)))
    return answered / (time.perf_counter() - start)


async def _timed(base_url: str, request: bytes, connections: int, seconds: float) -> Timed:
    address = urlsplit(base_url)
    latencies: list[float] = []
    failed = 0
    start = time.perf_counter()

    async def work() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            while (sent_at := time.perf_counter()) < start + seconds:
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await _read_body(reader, head)
                if head[9:12] == b"200":
                    latencies.append(time.perf_counter() - sent_at)
                else:
                    failed += 1
        except (OSError, asyncio.IncompleteReadError):
            failed += 1
        finally:
            writer.close()

    async with asyncio.timeout(seconds + LIMIT_SECONDS):
        await asyncio.gather(*(work() for _ in range(connections)))
    return Timed(sorted(latencies), failed, time.perf_counter() - start)


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> None:
    """Read a body to its end: with a length, or in chunks."""
    _, header, rest = head.partition(b"content-length:")
    if header:
        await reader.readexactly(int(rest.split(None, 1)[0]))
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
    await reader.readuntil(b"\r\n")
