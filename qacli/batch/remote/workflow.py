"""Send the waiting items of a batch to the provider's Batch API, and collect their results."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from qacli.batch.claims import WorkerClaims
from qacli.batch.database import DatabaseExecutor
from qacli.batch.lease import MARGIN
from qacli.batch.remote.filling import PartFiller
from qacli.batch.remote.steps import MAX_LOOKS, PartSteps
from qacli.batch_states import PartState
from qacli.db.batch_parts import OPEN, BatchParts, PartTaken
from qacli.db.batches import BudgetReached
from qacli.db.extra_models import BatchPart
from qacli.errors import DatabaseError, ProviderError, ProviderRefused
from qacli.provider.batch_api import BatchApi
from qacli.provider.retry import backoff

MAX_ROUNDS = 3
"""Maximum number of times that items are sent again."""

BEFORE_SUBMISSION = frozenset(
    {
        *(PartState.FILLING, PartState.READY, PartState.UPLOADING, PartState.UPLOADED),
        PartState.CREATING,
    }
)


class RemoteRun:
    """Handles the parts of one batch in this process.

    Args:
        batch_id: The batch.
        parts: The database.
        claims: The registration of this process as a worker of the batch.
        database: The thread that calls the database.
        api: The provider's Batch API.
        filler: Makes the parts.
        steps: Takes the steps of the parts.
    """

    def __init__(  # noqa: PLR0913 - the parts of it, by name
        self,
        batch_id: int,
        *,
        parts: BatchParts,
        claims: WorkerClaims,
        database: DatabaseExecutor,
        api: BatchApi,
        filler: PartFiller,
        steps: PartSteps,
    ) -> None:
        self.steps = steps
        self._batch_id = batch_id
        self._parts = parts
        self._claims = claims
        self._run = database.run
        self._api = api
        self._filler = filler
        self._due: dict[int, float] = {}
        self._errors = 0

    async def keep_lease(self, lease_seconds: float, is_cancelled: Callable[[], bool]) -> None:
        """Renew the lease of this process regularly, and stop when a function returns True."""
        while True:
            await asyncio.sleep(lease_seconds * MARGIN)
            with suppress(DatabaseError):
                await self._claims.renew()
                if await self._run(is_cancelled):
                    self.steps.stop()

    async def fill(self, round_number: int = 0) -> int:
        """Make parts from all waiting items; return their number.

        Raises:
            BudgetReached: The budget does not allow a single item.
        """
        number = 0
        try:
            while not self.steps.is_stopped:
                part = await self._run(self._filler.fill, round_number)
                if part is None:
                    break
                number += 1
        except BudgetReached:
            if not number:
                raise
        return number

    async def next_round(self) -> bool:
        """Make parts from the items without an answer; return whether there are any.

        False also if they were sent `MAX_ROUNDS` times again.
        """
        rounds = [part.round for part in await self._run(self._parts.all, self._batch_id)]
        following = max(rounds, default=0) + 1
        if following > MAX_ROUNDS or self.steps.refusal is not None:
            return False
        return bool(await self.fill(following))

    async def submit(self) -> None:
        """Submit all parts; a part for which the provider's queue has no room stays waiting.

        Raises:
            ProviderError: The provider cannot be asked.
        """
        await self._handle(BEFORE_SUBMISSION, wait=False)

    async def collect(self, *, wait: bool) -> bool:
        """Bring all parts as far as possible; return whether all results are stored.

        Args:
            wait: Wait until all parts have ended, or the run is stopped.

        Raises:
            ProviderError: The provider cannot be asked.
        """
        await self._handle({*OPEN, PartState.TAKEN}, wait=wait)
        return not await self._run(self._parts.all, self._batch_id, *OPEN)

    async def _handle(self, states: frozenset[PartState] | set[PartState], *, wait: bool) -> None:
        self._due.clear()
        while not self.steps.is_stopped:
            parts = await self._run(self._parts.all, self._batch_id, *states)
            parts = [part for part in parts if part.id not in self.steps.undeleted]
            following = [part for part in parts if self._is_due(part, wait=wait)]
            if not following:
                if not wait or not parts:
                    return
                await self.steps.sleep(min(self._due[part.id or 0] for part in parts) - time.time())
            for part in following:
                if self.steps.is_stopped:
                    return
                await self._handle_part(part, states, wait=wait)

    def _is_due(self, part: BatchPart, *, wait: bool) -> bool:
        due = self._due.get(part.id or 0)
        return due is None or (wait and due <= time.time())

    async def _handle_part(
        self, part: BatchPart, states: frozenset[PartState] | set[PartState], *, wait: bool
    ) -> None:
        """Take the steps of a part until it has to wait."""
        try:
            pause = await self._take_steps(part, states)
            self._errors = 0
        except PartTaken:
            pause = self.steps.pauses.poll
        except ProviderError as error:
            self._errors += 1
            if not error.retryable or (not wait and self._errors > MAX_LOOKS):
                raise
            pause = self.steps.pause(backoff(self._errors, None))
            self.steps.report(f"{error.what} Trying again.")
            if not wait:
                await self.steps.sleep(pause)
                return
        self._due[part.id or 0] = time.time() + pause

    async def _take_steps(
        self, part: BatchPart, states: frozenset[PartState] | set[PartState]
    ) -> float:
        """Take the steps of a part until it has to wait; return the seconds."""
        if not await self._run(self._parts.take_over, part, self._claims.worker):
            return self.steps.pauses.poll  # another process handles it
        while not self.steps.is_stopped:
            part = await self._run(self._parts.get, part.id or 0)
            if part.state not in states:
                break
            if (pause := part.retry_at - time.time()) > 0:
                return pause
            if (pause := await self.steps.step(part)) > 0:
                return pause
        return self.steps.pauses.max_poll

    async def cancel(self) -> int:
        """Cancel the submitted batches, release the other parts; return the number of batches."""
        number = 0
        for part in await self._run(self._parts.all, self._batch_id, *OPEN):
            with suppress(PartTaken):
                number += await self._cancel_part(part)
        return number

    async def _cancel_part(self, part: BatchPart) -> int:
        # Only the owner of a part can submit it. If another process owns an unsubmitted part, that
        # process does the same as soon as it sees that the batch is cancelled.
        is_own = await self._run(self._parts.take_over, part, self._claims.worker)
        part = await self._run(self._parts.get, part.id or 0)
        if not is_own and part.state is not PartState.SUBMITTED:
            return 0
        if part.state is PartState.CREATING:
            await self.steps.find_batch(part)
            part = await self._run(self._parts.get, part.id or 0)
        if part.state is PartState.SUBMITTED:
            with suppress(ProviderRefused):  # it has ended
                await self._api.cancel(part.remote_id or "")
            return 1
        if part.state is not PartState.ENDED:
            await self._run(self._parts.close, part, PartState.FAILED)
        return 0
