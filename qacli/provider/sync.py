"""The provider for threads: they wait, and one thread with an event loop asks for all of them."""

import asyncio
import threading
from collections.abc import Callable, Generator
from queue import Empty, SimpleQueue
from typing import Any

from qacli.config.settings import Settings
from qacli.domain import ChatRequest
from qacli.provider.client import AsyncProvider, Retry
from qacli.provider.endpoint import Endpoint
from qacli.provider.response import ChatResponse


class SyncProvider:
    """A provider, ready to be asked by any number of threads. See `AsyncProvider`."""

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        on_retry: Callable[[Retry], None] = lambda _retry: None,
        on_request: Callable[[str], None] | None = None,
        *,
        connections: int | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._provider = AsyncProvider(
            endpoint, settings, on_retry, on_request, connections=connections
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="qa-provider", daemon=True)
        self._thread.start()

    def stream(
        self,
        request: ChatRequest,
        reply: ChatResponse,
        *,
        on_arrival: Callable[[str], None] = lambda _text: None,
        beat: float | None = None,
    ) -> Generator[str, None, None]:
        """Ask, and give the text as it arrives.

        The answer arrives and is recorded however slowly the iterator is read; closing the
        iterator early ends the request.

        Args:
            request: The request.
            reply: Filled in while the answer arrives, so that it holds the part that came before
                an error.
            on_arrival: Called with each piece as it arrives, in another thread.
            beat: Seconds of silence after which an empty text is given, again and again. None
                waits once, for the end of the answer, and gives all of it in one piece.

        Raises:
            ProviderError: There is no usable answer; the leaves of the class say why.
        """
        arrived: SimpleQueue[str | None] = SimpleQueue()

        def take(text: str) -> None:
            on_arrival(text)
            arrived.put(text)

        asked = asyncio.run_coroutine_threadsafe(
            self._provider.ask(request, reply, on_text=on_arrival if beat is None else take),
            self._loop,
        )
        try:
            if beat is None:
                asked.result()
                yield reply.text
                return
            asked.add_done_callback(lambda _asked: arrived.put(None))
            while (text := _next(arrived, beat)) is not None:
                yield text
            asked.result()
        finally:
            asked.cancel()

    def models(self) -> list[dict[str, Any]]:
        """The models that the provider lists. See `AsyncProvider`."""
        return asyncio.run_coroutine_threadsafe(self._provider.models(), self._loop).result()

    def close(self) -> None:
        """End what is asked, and close the connections."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._provider.close()


def _next(arrived: "SimpleQueue[str | None]", beat: float) -> str | None:
    try:
        return arrived.get(timeout=beat)
    except Empty:
        return ""
