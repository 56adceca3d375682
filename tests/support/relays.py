"""A proxy and a TLS server in front of the fake provider, on loopback."""

from __future__ import annotations

import asyncio
import base64
import ssl
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import trustme

LOGIN = "user:pass-word"


class Relay:
    """A server in a thread that forwards each connection to a port on loopback.

    Args:
        port: The port of the target, whatever host a client names.
        context: Speak TLS with clients.
    """

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.target = port
        self.port = 0
        self.hosts: list[str] = []
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        async def serve() -> None:
            server = await asyncio.start_server(self._guarded, "127.0.0.1", 0, ssl=self._context)
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await self._stop.wait()
            server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.01)  # asyncio closes a TLS connection in a later step

        self._loop.set_exception_handler(lambda *_: None)
        self._loop.run_until_complete(serve())
        self._loop.close()

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, EOFError, asyncio.CancelledError):
                await self.handle(reader, writer)
        finally:
            writer.close()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        await self.join(reader, writer)

    async def join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b""
    ) -> None:
        """Forward a connection to the target; `first` is sent to the target first."""
        other_reader, other = await asyncio.open_connection("127.0.0.1", self.target)
        other.write(first)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            except OSError:
                pass
            finally:
                target.close()

        await asyncio.gather(copy(reader, other), copy(other_reader, writer))


class Proxy(Relay):
    """An HTTP proxy: CONNECT and whole URLs; with `login`, for a user with a password only."""

    login = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        expected = base64.b64encode(self.login.encode())
        if self.login and b"proxy-authorization: basic " + expected.lower() not in head.lower():
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        elif method == b"CONNECT":
            self.hosts.append(target.decode())
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await self.join(reader, writer)
        else:
            scheme, _, rest = target.partition(b"://")
            host, _, path = rest.partition(b"/")
            self.hosts.append(f"{scheme.decode()}://{host.decode()}")
            await self.join(reader, writer, head.replace(target, b"/" + path, 1))


class SocksProxy(Relay):
    """A SOCKS5 proxy (RFC 1928) without authentication."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        await reader.readexactly(count)
        writer.write(b"\x05\x00")
        _, _, _, kind = await reader.readexactly(4)
        assert kind == 3, "a host's name"
        (length,) = await reader.readexactly(1)
        host = await reader.readexactly(length)
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        self.hosts.append(f"{host.decode()}:{port}")
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        await self.join(reader, writer)


def tls_relay(port: int, authority: trustme.CA, *names: str) -> Relay:
    """Return a TLS server for these host names, with a certificate of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return Relay(port, context)
