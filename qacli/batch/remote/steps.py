"""The steps of a part of a batch on its way through the provider's Batch API.

    filling -> ready -> uploading -> uploaded -> creating -> submitted -> ended -> taken -> done
                 ^          |           ^           |            |
                 |          |           |           |            +-- no room in the queue
                 |          |           +-----------+-- no batch of the part
                 +----------+-- no file of the name

The state is stored before and after each request that changes something at the provider. After a
kill, or an error that leaves open whether the request has arrived, the file is looked for by its
name and the batch by its metadata or its input file, so that no part is submitted twice. A part for
which the queue has no room is halved, unless other parts of the batch fill the queue, and waits.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from tempfile import TemporaryFile

from qacli.batch.claims import WorkerClaims
from qacli.batch.database import DatabaseExecutor
from qacli.batch.remote.filling import PartFiller, item_at_line
from qacli.batch.remote.limits import Pauses
from qacli.batch.remote.marks import METADATA_PART, file_name, is_of, reason
from qacli.batch.remote.results import ResultPage, ResultReader, TakenCounts
from qacli.batch_states import PartState
from qacli.db.batch_parts import BatchParts, PartTaken
from qacli.db.extra_models import BatchPart
from qacli.domain import Outcome, Status, now
from qacli.errors import InvalidRequest, ProviderError, ProviderRefused
from qacli.provider.batch_api import (
    BatchApi,
    RemoteBatch,
    is_file_missing,
    is_full_queue,
    is_missing,
)
from qacli.provider.batch_lines import split_lines

CLOCK_MARGIN = 3600.0
"""Seconds by which the clocks of this machine and of the provider may differ."""

MAX_LOOKS = 3
MAX_MISSING = 10
"""The number of attempts to find a file or a batch that must exist."""


class PartSteps:
    """Takes the next step of a part.

    Args:
        parts: The database.
        claims: The registration of this process as a worker of the batch.
        database: The thread that calls the database.
        api: The provider's Batch API.
        filler: Writes the files of parts.
        reader: Reads the results.
        report: Called with a sentence on each change.
        pauses: The times to wait.

    Attributes:
        counts: The effects of the results of this run.
        refusal: The provider's error for a part that it has refused as a whole; None without one.
        undeleted: The ids of parts whose files could not be deleted in this run.
    """

    def __init__(  # noqa: PLR0913 - the parts of it, by name
        self,
        *,
        parts: BatchParts,
        claims: WorkerClaims,
        database: DatabaseExecutor,
        api: BatchApi,
        filler: PartFiller,
        reader: ResultReader,
        report: Callable[[str], None],
        pauses: Pauses,
    ) -> None:
        self.counts = TakenCounts()
        self.refusal: ProviderError | None = None
        self.undeleted: set[int] = set()
        self.pauses = pauses
        self._batch_id = reader.options.batch_id
        self._parts = parts
        self._claims = claims
        self._run = database.run
        self._api = api
        self._filler = filler
        self._reader = reader
        self.report = report
        self._stopped = asyncio.Event()
        self._polls: dict[int, int] = {}
        self._shown: dict[int, str] = {}
        self._steps: dict[PartState, Callable[[BatchPart], Awaitable[float]]] = {
            PartState.FILLING: self._end_filling,
            PartState.READY: self._upload,
            PartState.UPLOADING: self._find_file,
            PartState.UPLOADED: self._create,
            PartState.CREATING: self.find_batch,
            PartState.SUBMITTED: self._poll,
            PartState.ENDED: self._take,
            PartState.TAKEN: self._delete_files,
        }

    def stop(self) -> None:
        """End after the present step."""
        self._stopped.set()

    @property
    def is_stopped(self) -> bool:
        """True after a call of `stop`."""
        return self._stopped.is_set()

    async def step(self, part: BatchPart) -> float:
        """Take the next step of a part; return the seconds to wait before the one after it.

        Raises:
            PartTaken: Another process has taken the part over, or `stop` was called.
            ProviderError: The provider cannot be asked, or has refused the step.
        """
        return await self._steps[part.state](part)

    async def _end_filling(self, part: BatchPart) -> float:
        """Continue after a kill during the filling of a part, with the items that it has."""
        await self._change(part, state=PartState.READY if part.items else PartState.DONE)
        return 0

    async def _upload(self, part: BatchPart) -> float:
        with TemporaryFile(prefix="qa-batch-") as file:
            count = await self._run(self._filler.write, part, file)
            if not count:  # all of its items were answered in another way
                await self._run(lambda: self._parts.close(part, PartState.DONE))
                return 0
            part = await self._change(part, state=PartState.UPLOADING, items=count)
            await self._check_lease()
            try:
                file_id = await self._api.upload(file_name(part), file)
            except ProviderError as error:
                if error.retryable or error.provider_status is None:
                    raise  # it may have arrived: `_find_file` is the next step
                await self._release(part, error.what)
                if is_missing(error):
                    error.todo = "This endpoint has no Batch API. Leave out --via batch-api."
                raise
        await self._change(part, state=PartState.UPLOADED, file_id=file_id)
        return 0

    async def _find_file(self, part: BatchPart) -> float:
        """Look for the file of an upload whose end is unknown; upload it again if there is none."""
        file_id = None
        with suppress(ProviderRefused):  # files cannot be listed; a second file costs nothing
            file_id = await self._api.find_file(file_name(part))
        if file_id is None:
            await self._change(part, state=PartState.READY)
        else:
            await self._change(part, state=PartState.UPLOADED, file_id=file_id)
        return 0

    async def _create(self, part: BatchPart) -> float:
        submitted_at = part.submitted_at or now()
        part = await self._change(part, state=PartState.CREATING, submitted_at=submitted_at)
        await self._check_lease()
        try:
            batch = await self._api.create(
                part.file_id or "",
                path=part.path,
                window=part.completion_window,
                metadata={METADATA_PART: part.uid},
            )
        except ProviderError as error:
            if is_full_queue(error):
                return await self._wait_for_room(part, error.what)
            if error.provider_status is None or error.retryable:
                raise  # it may have been created: `_find_batch` is the next step
            part = await self._change(part, state=PartState.UPLOADED, error=error.what)
            if is_file_missing(error) and part.attempts < MAX_MISSING:
                return await self._look_again(part)
            raise
        await self._note_batch(part, batch)
        return 0

    async def find_batch(self, part: BatchPart) -> float:
        """Look for a batch that may have been created by a request without an answer.

        Without one, change the state of the part to `UPLOADED`, so that it is submitted again.
        """
        began = (part.submitted_at or part.created_at).timestamp()
        for look in range(MAX_LOOKS):
            try:
                batch = await self._api.find_batch(
                    lambda batch: is_of(batch, part), created_after=began - CLOCK_MARGIN
                )
            except ProviderRefused as error:
                error.todo = (
                    "Whether the questions were submitted cannot be found out here. Look for the "
                    f"file {file_name(part)} on the provider's page before you remove the batch."
                )
                raise
            if batch is not None:
                await self._note_batch(part, batch)
                return 0
            if look + 1 < MAX_LOOKS:
                await self.sleep(self.pause(self.pauses.look))
        await self._change(part, state=PartState.UPLOADED)
        return 0

    async def _note_batch(self, part: BatchPart, batch: RemoteBatch) -> None:
        await self._change(
            part,
            state=PartState.SUBMITTED,
            remote_id=batch.id,
            remote_status=batch.status,
            error=None,
            attempts=0,
            retry_at=0.0,
        )
        self.report(f"Part {part.id}: {part.items:,} questions submitted as {batch.id}.")

    async def _poll(self, part: BatchPart) -> float:
        try:
            batch = await self._api.get(part.remote_id or "")
        except ProviderError as error:
            if not is_missing(error):
                raise
            if part.attempts < MAX_LOOKS and part.remote_completed is None:
                # It may not be visible yet.
                return await self._look_again(part)
            error.todo = (
                f"The batch {part.remote_id} belongs to another key or project, or was deleted. "
                "Use the key with which it was submitted."
            )
            raise
        if batch.is_refused_as_full:
            return await self._wait_for_room(part, reason(batch))
        has_results = batch.output_file_id or batch.error_file_id
        if batch.is_ended and batch.completed and not has_results and part.attempts < MAX_LOOKS:
            # The files of an ended batch may appear a moment later.
            return await self._look_again(part)
        values = {
            "remote_status": batch.status,
            "remote_completed": batch.completed,
            "remote_failed": batch.failed,
        }
        if not batch.is_ended:
            await self._change(part, **values)
            self._show(part, batch)
            return self._poll_pause(part)
        self._show(part, batch)
        if batch.status == "failed":
            await self._store_line_errors(part, batch)
        await self._change(
            part,
            state=PartState.ENDED,
            attempts=0,
            output_file_id=batch.output_file_id,
            error_file_id=batch.error_file_id,
            error=reason(batch) or None,
            **values,
        )
        return 0

    async def _store_line_errors(self, part: BatchPart, batch: RemoteBatch) -> None:
        """Store the items in whose lines the provider found an error as failed."""
        errors = {error.line: error for error in batch.errors if error.line is not None}
        if not errors:
            return
        item_at = await self._run(item_at_line, self._parts, part)
        results = []
        for line, error in errors.items():
            if (item := item_at(line)) is not None:
                outcome = Outcome()
                outcome.fail(
                    ProviderRefused(
                        f"The provider refused the request: {error.message}",
                        details={"code": error.code},
                    )
                )
                with suppress(InvalidRequest):
                    question = self._reader.options.question(item.key, item.payload)
                    results.append((question, outcome))
        stored = await self._run(self._parts.store_results, self._batch_id, results, part.id)
        self.counts.failed += stored.get(Status.FAILED, 0)

    async def _take(self, part: BatchPart) -> float:
        """Store the results of both files, then release the items without a result."""
        counts = TakenCounts()
        for file_id in (part.output_file_id, part.error_file_id):
            if file_id is not None:
                counts.add(await self._take_file(part, file_id))
        self.counts.add(counts)
        part = await self._run(self._parts.get, part.id or 0)
        if part.remote_status == "failed" and not part.taken:
            text = part.error or "no reason"
            await self._release(part, text)
            self.refusal = ProviderRefused(
                f"The provider refused the batch {part.remote_id}: {text}",
                "Correct the cause and run the same command again; nothing was charged.",
            )
            return 0
        part = await self._run(lambda: self._parts.close(part, PartState.TAKEN))
        self.report(f"Part {part.id}: {counts.answered:,} answers, {counts.failed:,} refused.")
        return 0

    async def _take_file(self, part: BatchPart, file_id: str) -> TakenCounts:
        total = TakenCounts()
        page = ResultPage()
        async for line in split_lines(self._api.content(file_id)):
            page.add(line)
            if page.is_full:
                total.add(await self._run(page.store, self._parts, self._reader, part))
                page = ResultPage()
                # A stop between two pages: the next run reads the rest again.
                if self.is_stopped:
                    raise PartTaken
        total.add(await self._run(page.store, self._parts, self._reader, part))
        return total

    async def _delete_files(self, part: BatchPart) -> float:
        """Delete the provider's files, whose results are stored; a failure is tried again later."""
        try:
            for file_id in (part.file_id, part.output_file_id, part.error_file_id):
                if file_id is not None:
                    await self._api.delete_file(file_id)
        except ProviderError as error:
            self.report(f"The provider's files could not be deleted: {error.what}")
            self.undeleted.add(part.id or 0)
            return self.pauses.max_poll
        await self._change(part, state=PartState.DONE)
        return 0

    async def _release(self, part: BatchPart, reason: str) -> None:
        """Release the items of a part that the provider has refused, and delete its file."""
        await self._run(lambda: self._parts.close(part, PartState.FAILED, error=reason))
        if part.file_id is not None:
            with suppress(ProviderError):
                await self._api.delete_file(part.file_id)

    async def _wait_for_room(self, part: BatchPart, reason: str) -> float:
        """Wait with a part that the full queue has refused; see the module."""
        pauses = self.pauses
        seconds = self.pause(min(pauses.queue * 2.0 ** min(part.attempts, 20), pauses.max_queue))
        retry_at = time.time() + seconds
        is_halved = await self._run(
            lambda: self._parts.wait_for_room(part, retry_at=retry_at, error=reason)
        )
        if is_halved and part.file_id is not None:
            with suppress(ProviderError):
                await self._api.delete_file(part.file_id)
        halved = "is halved and waits" if is_halved else "waits"
        self.report(f"Part {part.id} {halved} {seconds:.0f} s: {reason}")
        return seconds

    async def _look_again(self, part: BatchPart) -> float:
        """Count an attempt and wait a moment for a file or batch that is not visible yet."""
        await self._change(part, attempts=part.attempts + 1)
        await self.sleep(self.pause(self.pauses.look))
        return 0

    async def _change(self, part: BatchPart, **values: object) -> BatchPart:
        return await self._run(lambda: self._parts.change(part, **values))

    async def _check_lease(self) -> None:
        """Check, before something is submitted, that no other process can own the part by now."""
        if not self._claims.are_valid:
            await self._claims.renew()
            raise PartTaken

    def pause(self, default: float) -> float:
        """Return the seconds that the last response has asked for, or else the default."""
        return self._api.retry_after or default

    def _poll_pause(self, part: BatchPart) -> float:
        polls = self._polls[part.id or 0] = self._polls.get(part.id or 0, 0) + 1
        return self.pause(min(self.pauses.poll * 1.2**polls, self.pauses.max_poll))

    def _show(self, part: BatchPart, batch: RemoteBatch) -> None:
        done = (batch.completed or 0) + (batch.failed or 0)
        text = f"Part {part.id}: {batch.status}, {done:,} of {part.items:,}."
        if self._shown.get(part.id or 0) != text:
            self._shown[part.id or 0] = text
            self.report(text)

    async def sleep(self, seconds: float) -> None:
        """Wait for this time, or until `stop` is called."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.001)):
                await self._stopped.wait()
