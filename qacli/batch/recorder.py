"""The recorder of a batch: the shared one, for an event loop that does not wait for each record.

It differs from `Recorder` in four ways; docs/adr/0005-group-commit.md says why. Records
wait a moment to share a transaction; a database that is away is tried again for a while; output is
written after each transaction; and the event loop is slowed down where records pile up.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from copy import copy
from typing import Any

from qacli.batch.database import OutageRetry
from qacli.batch.options import BatchOptions, Progress
from qacli.batch.output import SettledOutput
from qacli.db.batches import Batches
from qacli.domain import Outcome, Question
from qacli.errors import DatabaseError, RecordRefused
from qacli.recording.outbox import Outbox
from qacli.recording.recorder import MAX_GROUP, Recorder, WriteRequest

COMMIT_SECONDS = 0.5
MAX_WAITING = 4 * MAX_GROUP
UNSAFE_SECONDS = 10.0
"""How long to wait for a database that is away when no journal has the results either."""


class BatchRecorder(Recorder):
    """Keep what one process asks of a batch.

    Args:
        batches: The database.
        outbox: Where the journals are.
        options: The batch, and how long to wait for a database that is away.
        progress: Shows what holds the batch up.
        output: Where results are written.
        on_saved: Called in the event loop with the keys of the items that the database has taken.
        on_unsafe: Called in the event loop once neither a journal nor the database takes a result.
    """

    def __init__(  # noqa: PLR0913 - the parts of it, by name
        self,
        *,
        batches: Batches,
        outbox: Outbox,
        options: BatchOptions,
        progress: Progress,
        output: SettledOutput,
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
        self._ended.set_running_or_notify_cancel()  # who waits for it may be cancelled, it not
        self._loop: asyncio.AbstractEventLoop | None = None
        self._room = asyncio.Event()
        self._waiting = 0
        self._unsafe_uids: set[str] = set()
        self._has_reported_unsafe = False

    @property
    def is_safe(self) -> bool:
        """Whether a journal or the database has every result; else nothing may be asked."""
        return not self._unsafe_uids

    async def enqueue(self, question: Question, outcome: Outcome) -> None:
        """Keep a result: a journal has it at once; then wait while too many are on their way."""
        self._loop = asyncio.get_running_loop()
        self._waiting += 1
        if not self.save(question, outcome):
            self._unsafe_uids.add(question.uid)
        while self._waiting > MAX_WAITING and not self._ended.done():
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        """Let `wait_until_ended` return once everything is kept."""
        self._start()
        self._end()

    async def wait_until_ended(self) -> None:
        """Wait until `end` was called and everything is kept.

        Raises:
            DatabaseError: The database has been away for too long, or output cannot be written.
        """
        self._loop = asyncio.get_running_loop()
        await asyncio.wrap_future(self._ended)

    def close(self) -> None:
        """End the thread; leave in the outbox what the database does not have."""
        self._retry.stop()
        super().close()

    def _run(self) -> None:
        try:
            super()._run()
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)
        self._call_in_loop(self._room.set)

    def _commit(self, group: Sequence[tuple[Question, Outcome]]) -> dict[str, int]:
        upsert = self._store().upsert_items
        self._retry.call(upsert, self._batch_id, group, max_seconds=self._max_seconds)
        return {}

    def _max_seconds(self, error: DatabaseError) -> float:
        """Return how long to wait for the database: less where only it can keep a result."""
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
        """Set a refused record aside; anything else ends the run.

        Raises:
            DatabaseError: The database has been away for too long; says how many are lost.
        """
        if isinstance(error, RecordRefused) and self._save_as_failed(requests, error):
            return
        with self._changed:
            requests = requests + self._queue
        unsafe = [request for request in requests if not request.is_in_outbox]
        if unsafe and not self.save_apart(unsafe):
            cause = error if isinstance(error, DatabaseError) else DatabaseError(str(error))
            raise lost_answers_error(len(unsafe), cause) from error
        raise error

    def _save_as_failed(self, requests: list[WriteRequest], error: RecordRefused) -> bool:
        """Keep a record that says why the database refused the other; returns whether it could.

        The refused record is set aside in a journal of its own, for a person to look into.
        """
        if not self.save_apart(requests):
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
    """Return the error of answers that are lost to the history."""
    answers = "1 answer" if number == 1 else f"{number:,} answers"
    return DatabaseError(
        f"{answers} could be kept neither in the outbox nor in the database, and asking has "
        f"stopped: {error.what}",
        "Make room on the disk and run the same command again: it asks only those again.",
    )
