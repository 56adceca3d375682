"""The provider for threads: they wait, and one thread with an event loop sends all requests."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager, nullcontext
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from qacli.cancellation import Cancellation
from qacli.config.settings import Settings
from qacli.domain import ChatRequest, Delta, Heartbeat, ReasoningDelta
from qacli.errors import Cancelled
from qacli.provider.client import AsyncProvider
from qacli.provider.endpoint import Endpoint
from qacli.provider.gate import Gate
from qacli.provider.response import ChatResponse, TextEvent
from qacli.provider.retry import Retry

if TYPE_CHECKING:
    from qacli.provider.relay import RawEvent
    from qacli.raw_request import RawRequest, RelayEvent

    Ask = Callable[[Callable[[RawEvent], None]], Coroutine[Any, Any, None]]
    """Returns the coroutine that asks, and calls the function with each event."""


class SyncProvider:
    """A provider, ready to be asked by any number of threads. See `AsyncProvider`."""

    def __init__(  # noqa: PLR0913 - the callbacks, by name
        self,
        endpoint: Endpoint,
        settings: Settings,
        on_retry: Callable[[Retry], None] = lambda _retry: None,
        on_request: Callable[[str], None] | None = None,
        on_notice: Callable[[str], None] = lambda _notice: None,
        *,
        connections: int | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._provider = AsyncProvider(
            endpoint,
            settings,
            on_retry,
            on_request,
            on_notice,
            connections=connections,
            gate=gate,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="qa-provider", daemon=True)
        self._thread.start()

    def stream(  # noqa: PLR0913 - as `AsyncProvider.ask`
        self,
        request: ChatRequest,
        response: ChatResponse,
        *,
        on_arrival: Callable[[TextEvent], None] = lambda _event: None,
        heartbeat_seconds: float | None = None,
        deltas: bool = True,
        seconds: float | None = None,
        retries: int | None = None,
    ) -> "Generator[RawEvent | Heartbeat]":
        """Ask, and yield the text and the reasoning, or a raw response, as they arrive.

        The answer arrives and is recorded however slowly the generator is read; closing the
        generator early ends the request.

        Args:
            request: The request.
            response: Filled in while the answer arrives, so that it holds the part that came
                before an error.
            on_arrival: Called with each piece of text and reasoning as it arrives, in another
                thread.
            heartbeat_seconds: Seconds of silence after which a `Heartbeat` is yielded, again and
                again, so that the reader can handle signals; None yields none.
            deltas: Yield text and reasoning; otherwise they are only in `response`, and this
                thread is woken for heartbeats and at the end of the answer.
            seconds: See `AsyncProvider.ask`.
            retries: How often the request may be sent again.

        Raises:
            ProviderError: There is no usable answer; the leaves of the class say why.
            Cancelled: Another thread has cancelled the request.
        """

        def ask(put: "Callable[[RawEvent], None]") -> Coroutine[Any, Any, None]:
            def on_event(event: "RawEvent") -> None:
                if isinstance(event, Delta | ReasoningDelta):
                    on_arrival(event)
                    if not deltas or request.raw is not None:
                        return
                put(event)

            if request.raw is not None:
                return self._provider.relay(
                    request.raw, response, on_event=on_event, seconds=seconds
                )
            return self._provider.ask(
                request, response, on_event=on_event, seconds=seconds, retries=retries
            )

        if request.raw is not None and heartbeat_seconds is None:
            yield from self._events_at_end(ask, request.cancellation)
        else:
            yield from self._events(ask, heartbeat_seconds, request.cancellation)

    def relay(
        self,
        request: "RawRequest",
        *,
        heartbeat_seconds: float | None = None,
        seconds: float | None = None,
    ) -> "Generator[RelayEvent | Heartbeat]":
        """Send a client's request, and yield the parts of the response as they arrive.

        Args:
            request: The request.
            heartbeat_seconds: See `stream`; None yields all parts at the end.
            seconds: The time for the response; None means that of the settings.

        Raises:
            ProviderError: See `AsyncProvider.relay`.
        """

        def send(put: "Callable[[RawEvent], None]") -> Coroutine[Any, Any, None]:
            return self._provider.relay(request, ChatResponse(), on_event=put, seconds=seconds)

        is_whole = heartbeat_seconds is None
        for event in (
            self._events_at_end(send) if is_whole else self._events(send, heartbeat_seconds)
        ):
            if not isinstance(event, Delta | ReasoningDelta):
                yield event

    def _events(
        self, ask: "Ask", heartbeat_seconds: float | None, cancellation: Cancellation | None = None
    ) -> "Generator[RawEvent | Heartbeat]":
        """Yield the events of a coroutine as they come. Closing this cancels it."""
        arrived: SimpleQueue[RawEvent | None] = SimpleQueue()
        with self._running(ask(arrived.put), cancellation) as future:
            future.add_done_callback(lambda _future: arrived.put(None))
            while (event := _next(arrived, heartbeat_seconds)) is not None:
                yield event
            future.result()

    def _events_at_end(
        self, ask: "Ask", cancellation: Cancellation | None = None
    ) -> "Generator[RawEvent]":
        """Yield the events of a coroutine once it has ended: this thread is woken once."""
        arrived: list[RawEvent] = []
        with self._running(ask(arrived.append), cancellation) as future:
            wait([future])
            yield from arrived
            future.result()

    @contextmanager
    def _running(
        self, coroutine: Coroutine[Any, Any, None], cancellation: Cancellation | None
    ) -> Iterator[Future[None]]:
        """Run a coroutine in the event loop, until it ends, is cancelled or this context ends."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            with cancellation.calling(future.cancel) if cancellation else nullcontext():
                yield future
        except CancelledError:
            raise Cancelled("The answer was cancelled.", "Ask again.") from None
        finally:
            future.cancel()

    def models(self) -> list[dict[str, Any]]:
        """The models that the provider lists. See `AsyncProvider`."""
        return asyncio.run_coroutine_threadsafe(self._provider.models(), self._loop).result()

    def close(self) -> None:
        """Cancel the requests in flight, and close the connections."""
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


def _next(
    arrived: "SimpleQueue[RawEvent | None]", heartbeat_seconds: float | None
) -> "RawEvent | Heartbeat | None":
    try:
        return arrived.get(timeout=heartbeat_seconds)
    except Empty:
        return Heartbeat()
