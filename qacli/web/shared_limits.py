"""Let the requests of a server wait for the limits that it shares with batches and other servers.

For each model that is asked, the server takes part in the shared limit as a worker of a batch does,
until no request has come for a while; see `qacli.batch.shared_limits`. A request that would wait
too long is not sent: its client gets the status 429 with a `Retry-After` header.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from uuid import uuid4

from qacli.batch.database import DatabaseExecutor
from qacli.batch.limiter import AdaptiveLimiter
from qacli.batch.progress import Progress
from qacli.batch.shared_limits import LimitShare, is_throttled, limit_of
from qacli.cost import CHARACTERS_PER_TOKEN, turn_tokens
from qacli.db.shared_limits import SharedLimits
from qacli.domain import ChatRequest, Turn
from qacli.errors import ProviderError, SharedLimitReached
from qacli.provider.endpoint import Endpoint
from qacli.provider.response import ChatResponse
from qacli.raw_request import RawRequest

LOG = logging.getLogger("qa.web")

IDLE_SECONDS = 10.0
"""Seconds without a request after which the server leaves its part of a limit to the others."""

POLL_SECONDS = 0.05
"""Seconds after which a request that waits looks again."""

MAX_MODEL_LENGTH = 200
"""Characters of a model's name; a longer one is no model, and has no limit."""


class SharedLimitGate:
    """The shared limits of one endpoint and key; used by one event loop.

    Args:
        limits: The limits of the database.
        endpoint: The endpoint, with its key.
        jobs: Maximum requests in flight.
        max_wait: Seconds that a request waits at most.
    """

    def __init__(
        self, limits: SharedLimits, endpoint: Endpoint, *, jobs: int, max_wait: float
    ) -> None:
        self._limits = limits
        self._endpoint = endpoint
        self._jobs = jobs
        self._max_wait = max_wait
        self._models: dict[str, _ModelGate] = {}

    @asynccontextmanager
    async def open(
        self, request: ChatRequest | RawRequest, response: ChatResponse, deadline: float
    ) -> AsyncIterator[None]:
        """Wait until a request may be sent, and learn from its answer; see `Gate.open`."""
        model, tokens = _model_and_tokens(request)
        if not 0 < len(model) <= MAX_MODEL_LENGTH:
            yield
            return
        gate = self._models.get(model)
        if gate is None:
            gate = self._models[model] = _ModelGate(self._jobs)
            gate.start(
                self._limits, limit_of(self._endpoint, model), lambda: self._models.pop(model)
            )
        end = min(deadline, asyncio.get_running_loop().time() + self._max_wait)
        async with gate.open(tokens, response, end):
            yield


class _ModelGate:
    """The share of this process in the limit of one model.

    Args:
        jobs: Maximum requests in flight.
    """

    def __init__(self, jobs: int) -> None:
        self._limiter = AdaptiveLimiter(jobs)
        self._progress = Progress(0)
        self._waiting = 0
        self._share = LimitShare(
            self._limiter, self._progress, lambda: self._waiting, is_prompt=True
        )
        # The first request that waits looks at the limits; the others wait for their turn.
        self._turn = asyncio.Lock()
        self._used_at = 0.0

    def start(
        self, limits: SharedLimits, name: tuple[str, str, str], on_end: Callable[[], object]
    ) -> None:
        """Take part in a shared limit; call `on_end` when no request has come for a while."""
        self._task = asyncio.create_task(self._run(limits, name, on_end))

    async def _run(
        self, limits: SharedLimits, name: tuple[str, str, str], on_end: Callable[[], object]
    ) -> None:
        database = DatabaseExecutor(self._progress, 0.0)
        sharing = asyncio.create_task(self._share.run(limits, database, uuid4().hex, name))
        try:
            is_idle = False
            while not is_idle and not sharing.done():
                await asyncio.wait([sharing], timeout=IDLE_SECONDS / 4)
                is_used = self._waiting or self._limiter.in_flight
                is_idle = not is_used and monotonic() > self._used_at + IDLE_SECONDS
        finally:
            on_end()
            if not sharing.cancelling():
                sharing.cancel()
            await asyncio.wait([sharing])
            database.close()
            if not sharing.cancelled() and (error := sharing.exception()) is not None:
                LOG.error("the shared limit of %s cannot be used", name[2], exc_info=error)

    @asynccontextmanager
    async def open(self, tokens: int, response: ChatResponse, end: float) -> AsyncIterator[None]:
        """Wait until a request may be sent, and learn from its answer.

        Args:
            tokens: Its estimated tokens.
            response: Filled in by the block.
            end: The time of the event loop's clock after which it is not sent.

        Raises:
            SharedLimitReached: The request may not be sent in time.
        """
        self._waiting += 1
        try:
            async with asyncio.timeout_at(end), self._turn:
                await self._wait(end)
                self._share.on_sent(tokens)
                sent_at = self._limiter.on_sent(tokens)
        except TimeoutError:
            raise self._limit_reached() from None
        finally:
            self._waiting -= 1
            self._used_at = monotonic()
        used = 0
        try:
            yield
            used = response.used_tokens
            self._limiter.on_success(response.headers, estimated=tokens, used=used)
        except ProviderError as error:
            if is_throttled(error):
                self._limiter.on_throttled(error.what, response.headers, sent_at)
            raise
        finally:
            self._progress.finished_in_this_run += 1
            self._limiter.on_finished()
            self._share.on_finished(tokens, used)
            self._used_at = monotonic()

    async def _wait(self, end: float) -> None:
        while (delay := self._share.delay()) != 0:
            if asyncio.get_running_loop().time() + self._share.pause[0] > end:
                raise self._limit_reached()
            self._share.take_more()
            await asyncio.sleep(min(delay or POLL_SECONDS, POLL_SECONDS))

    def _limit_reached(self) -> SharedLimitReached:
        pause, reason = self._share.pause
        return SharedLimitReached(
            "The provider's limits, which all processes with the same key share, allow no request "
            + (f"for {pause:.0f} seconds: {reason}" if pause > 0 else "in time."),
            "Ask again later.",
            retry_after=max(pause, 1.0),
            retryable=True,
        )


def _model_and_tokens(request: ChatRequest | RawRequest) -> tuple[str, int]:
    """Return the model that a request asks, and about how many tokens it takes."""
    if isinstance(request, RawRequest):
        return request.model, len(request.body) // CHARACTERS_PER_TOKEN
    question = request.question
    turns = [*request.turns, Turn(question.question, "", request.parts)]
    tokens = sum(map(turn_tokens, turns)) + int(question.params.get("max_tokens") or 0)
    return question.model, tokens
