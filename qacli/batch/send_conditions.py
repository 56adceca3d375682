"""The conditions under which a batch sends a question: limits, safe results, claims, budget."""

import asyncio
from collections.abc import Callable

from qacli.batch.budget import Budget
from qacli.batch.claim_loop import CLAIM_PAUSE_SECONDS, POLL_SECONDS
from qacli.batch.claims import WorkerClaims
from qacli.batch.limiter import AdaptiveLimiter
from qacli.batch.options import StopReason
from qacli.batch.progress import ActiveItem
from qacli.batch.recorder import BatchRecorder
from qacli.batch.shared_limits import LimitShare
from qacli.batch.stop_signal import StopSignal
from qacli.domain import Question


class SendConditions:
    """The conditions of one run; its questions wait for them one after the other.

    Args:
        limiter: The limiter of this process.
        share: The share of this process in the limits of all processes.
        recorder: Stores the results.
        claims: The claims of this process.
        budget: Reserves the cost of a question.
        stop: Ends the waits.
        cancel_items: Called with the keys of items whose claims were released.
    """

    def __init__(  # noqa: PLR0913 - the conditions, by name
        self,
        *,
        limiter: AdaptiveLimiter,
        share: LimitShare,
        recorder: BatchRecorder,
        claims: WorkerClaims,
        budget: Budget,
        stop: StopSignal,
        cancel_items: Callable[[set[str]], None],
    ) -> None:
        self._limiter = limiter
        self._share = share
        self._recorder = recorder
        self._claims = claims
        self._budget = budget
        self._stop = stop
        self._cancel_items = cancel_items
        self._lock = asyncio.Lock()
        self._has_changed = asyncio.Event()

    def check_again(self) -> None:
        """End the wait for the limits, because a request has ended or the run stops."""
        self._has_changed.set()

    async def wait(self, question: Question, active: ActiveItem, tokens: int) -> float | None:
        """Wait until a question may be sent, and count it as sent.

        Args:
            question: The question.
            active: Its item.
            tokens: Its estimated tokens.

        Returns:
            The time by the limiter's clock; None if the run stops.

        Raises:
            CancelledError: Another worker has claimed the item.
        """
        async with self._lock:
            while not self._stop.is_set and (delay := self._share.delay()) != 0:
                if delay is None:
                    self._has_changed.clear()
                    await self._has_changed.wait()
                else:
                    await self._stop.pause(min(delay, POLL_SECONDS))
            await self._wait_until_safe(active)
            await self._reserve_cost(question, active)
            if self._stop.is_set:
                return None
            active.sent = True
            sent_at = self._limiter.on_sent(tokens)
            self._share.on_sent(tokens)
            return sent_at

    async def _wait_until_safe(self, active: ActiveItem) -> None:
        """Wait until all results are stored and this worker's claims are valid.

        Raises:
            CancelledError: Another worker has claimed the item.
        """
        while not self._recorder.is_safe and not self._stop.is_set:
            await self._stop.pause(CLAIM_PAUSE_SECONDS)
        while not self._claims.are_valid and not self._stop.is_set:
            await self._claims.renew()
        if active.lost:
            raise asyncio.CancelledError

    async def _reserve_cost(self, question: Question, active: ActiveItem) -> None:
        """Reserve the likely cost of a question; stop if the budget does not allow it.

        Before that, wait for the requests in flight, which may cost less than is reserved, and
        release the items that were claimed for less than they are now likely to cost.
        """
        while not self._stop.is_set and not await self._budget.reserve(question, active):
            if not self._limiter.in_flight and self._recorder.has_stored_all:
                others = self._claims.drop_all_but(active.key)
                self._cancel_items(set(others))
                if not await self._budget.reserve(question, active, list(others.values())):
                    message = "the budget would be passed; give a larger one"
                    self._stop.set(StopReason.BUDGET, message)
                return
            self._recorder.flush()
            await self._stop.pause(CLAIM_PAUSE_SECONDS)
