"""Record the outcomes of a batch, from an event loop that does not wait for each record.

`BatchRecorder` differs from `Recorder` in four ways; docs/adr/0005-group-commit.md has the reasons.
Records wait a moment to share a transaction; a transaction is retried while the database cannot be
reached; output is written after each transaction; and `enqueue` waits while the queue is full.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from copy import copy
from typing import Any

from qacli.batch.database import OutageRetry
from qacli.batch.options import BatchOptions
from qacli.batch.output import ResultOutput
from qacli.batch.progress import Progress
from qacli.db.batches import Batches
from qacli.domain import Outcome, Question
from qacli.errors import DatabaseError, RecordRefused
from qacli.recording.outbox import Outbox
from qacli.recording.recorder import MAX_GROUP, Recorder, WriteRequest

COMMIT_SECONDS = 0.5
MAX_WAITING = 4 * MAX_GROUP
"""Records in the queue from which on `enqueue` waits."""

UNSAFE_SECONDS = 10.0
"""Seconds to wait for a database that cannot be reached if no journal has the results either."""


class BatchRecorder(Recorder):
    """Records the questions that this process asks for a batch, with their outcomes.

    Args:
        batches: The database.
        outbox: The directory of the journals.
        options: The batch, and the time to wait for the database.
        progress: Gets the reason while the database is waited for.
        output: Called after each transaction to write the results.
        on_saved: Called in the event loop with the keys of the items that the database has stored.
        on_unsafe: Called in the event loop, once, if neither a journal nor the database can store
            a result.
    """

    def __init__(  # noqa: PLR0913 - the parts of it, by name
        self,
        *,
        batches: Batches,
        outbox: Outbox,
        options: BatchOptions,
        progress: Progress,
        output: ResultOutput,
        on_saved: Callable[[list[str]], None] = lambda _keys: None,
        on_unsafe: Callable[[DatabaseError], None] = lambda _error: None,
    ) -> None:
        super().__init__(outbox, lambda: batches.store, commit_seconds=COMMIT_SECONDS)
        self._batch_id = options.batch_id
        self._max_outage = options.max_outage
        self._output = output
        self._on_saved = on_saved
        self._on_unsafe = on_unsafe
        self._retry = OutageRetry(progress, options.max_outage, max_pause=2.0)
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()  # a cancelled waiter must not cancel it
        self._loop: asyncio.AbstractEventLoop | None = None
        self._room = asyncio.Event()
        self._waiting = 0
        self._unsafe_uids: set[str] = set()
        self._has_reported_unsafe = False

    @property
    def is_safe(self) -> bool:
        """True if a journal or the database has every result; if not, nothing may be sent."""
        return not self._unsafe_uids

    async def enqueue(self, question: Question, outcome: Outcome) -> None:
        """Write a result to a journal and queue it; then wait while the queue is full."""
        self._loop = asyncio.get_running_loop()
        self._waiting += 1
        if not self.save(question, outcome):
            self._unsafe_uids.add(question.uid)
        while self._waiting > MAX_WAITING and not self._ended.done():
            self._room.clear()
            await self._room.wait()

    @property
    def has_stored_all(self) -> bool:
        """True if the database has all results so far."""
        return self._waiting == 0

    def end(self) -> None:
        """Make `wait_until_ended` return once everything is stored."""
        self._start()
        self._end()

    async def wait_until_ended(self) -> None:
        """Wait until `end` was called and everything is stored.

        Raises:
            DatabaseError: The database could not be reached in time, or the output cannot be
                written.
        """
        self._loop = asyncio.get_running_loop()
        await asyncio.wrap_future(self._ended)

    def close(self) -> None:
        """End the thread; the outbox keeps the results that the database does not have."""
        self._retry.stop()
        super().close()

    def _run(self) -> None:
        try:
            super()._run()
        except Exception as error:  # noqa: BLE001 - raised by wait_until_ended
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)
        self._call_in_loop(self._room.set)

    def _commit(self, group: Sequence[tuple[Question, Outcome]]) -> dict[str, int]:
        upsert = self._store().upsert_items
        self._retry.call(upsert, self._batch_id, group, max_seconds=self._max_seconds)
        return {}

    def _max_seconds(self, error: DatabaseError) -> float:
        """Return the seconds to wait for the database: fewer if only it can store a result."""
        if self.is_safe:
            return self._max_outage
        if not self._has_reported_unsafe:
            self._has_reported_unsafe = True
            self._call_in_loop(self._on_unsafe, error)
        return min(self._max_outage, UNSAFE_SECONDS)

    def _on_commit(self, requests: list[WriteRequest]) -> None:
        self._call_in_loop(self._settle, requests)
        keys = [request.question.item_key for request in requests]
        self._retry.call(self._output.write, keys)

    def _settle(self, requests: list[WriteRequest]) -> None:
        self._waiting -= len(requests)
        self._unsafe_uids.difference_update(request.question.uid for request in requests)
        self._room.set()
        self._on_saved([request.question.item_key or "" for request in requests])

    def _fail(self, requests: list[WriteRequest], error: Exception) -> None:
        """Set a refused record aside; any other error ends the run.

        Raises:
            DatabaseError: The database could not be reached in time; the message has the number of
                lost answers, if any.
        """
        if isinstance(error, RecordRefused) and self._save_as_failed(requests, error):
            return
        with self._changed:
            requests = requests + self._queue
        unsafe = [request for request in requests if not request.is_in_outbox]
        if unsafe and not self.move_to_new_journal(unsafe):
            cause = error if isinstance(error, DatabaseError) else DatabaseError(str(error))
            raise lost_answers_error(len(unsafe), cause) from error
        raise error

    def _save_as_failed(self, requests: list[WriteRequest], error: RecordRefused) -> bool:
        """Store a failed record with the reason why the database refused the other one.

        The refused record is moved to a journal of its own, for a person to read. Returns False if
        that journal cannot be written.
        """
        if not self.move_to_new_journal(requests):
            return False
        for request in requests:
            question, outcome = request.question, Outcome()
            outcome.fail(copy(error))
            failed = Question(
                question=question.question,
                created_at=question.created_at,
                batch_id=question.batch_id,
                item_key=question.item_key,
            )
            self._commit([(failed, outcome)])
            request.record_id.set_exception(error)
        self._on_commit(requests)
        return True

    def _call_in_loop(self, function: Callable[..., object], *arguments: Any) -> None:  # noqa: ANN401
        with suppress(RuntimeError):  # the loop is closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function, *arguments)


def lost_answers_error(number: int, error: DatabaseError) -> DatabaseError:
    """Return the error for answers that neither the outbox nor the database could store."""
    answers = "1 answer" if number == 1 else f"{number:,} answers"
    return DatabaseError(
        f"{answers} could be stored neither in the outbox nor in the database, and asking has "
        f"stopped: {error.what}",
        "Make room on the disk and run the same command again: it asks only those again.",
    )
