"""Keeps the results of a batch: in a journal at once, in the database in groups, in the output.

There are two journals, taken in turn: while the results of one are brought into the database, new
ones go into the other, and one whose results are all kept is emptied. One thread brings them to
the database and writes the output.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, TypeVar

from qacli.batch.options import BatchOptions, Progress
from qacli.batch.writer import ResultWriter
from qacli.db.batches import Batches, Settled
from qacli.domain import Outcome, Question
from qacli.errors import DatabaseError, RecordRefused
from qacli.recording.outbox import Outbox

T = TypeVar("T")

GROUP_SIZE = 500
PAGE = 1000
GROUP_SECONDS = 0.5
MAX_OUTAGE_SECONDS = 60.0
"""How long a database that is away holds the batch up before it ends."""

UNKEPT_SECONDS = 10.0
"""The same where no journal has the results either: nothing is asked in that time."""

END: tuple[Question, Outcome] = (Question(question="end"), Outcome())
"""What ends the writing."""


class DatabaseExecutor:
    """A thread that asks the database, and waits a while for one that is away.

    Args:
        progress: Told what holds it up.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="qa-database")

    async def call(self, call: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401 - the call's
        """Call something in the thread, when all that came before is done.

        Raises:
            DatabaseError: It has been away for too long, or does not take what it is given.
        """
        until, pause = monotonic() + MAX_OUTAGE_SECONDS, 0.5
        while True:
            try:
                done = await self.once(call, *arguments)
            except DatabaseError as error:
                if isinstance(error, RecordRefused) or monotonic() + pause > until:
                    raise
                self._progress.held_up = error.what
                await asyncio.sleep(pause)
                pause = min(pause * 2, 10)
            else:
                self._progress.held_up = ""
                return done

    async def once(self, call: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401 - the call's
        """The same, for what need not be done at any price.

        Raises:
            DatabaseError: It is away.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    def close(self) -> None:
        """End the thread once it is done."""
        self._thread.shutdown()


class BatchRecorder:
    """Keeps what one process asks of a batch.

    Args:
        batches: The database.
        outbox: Where results wait for it.
        plan: The batch, and whether results are written in the order of its items.
        progress: Told what holds it up.
        output: Where results are written; None nowhere.
        on_kept: Called with the keys of the items that the database has taken.
        on_unkept: Called once it is seen that neither the journal nor the database takes a result.
    """

    def __init__(  # noqa: PLR0913 - the parts of it, by name
        self,
        *,
        batches: Batches,
        outbox: Outbox,
        plan: BatchOptions,
        progress: Progress,
        output: ResultWriter | None,
        on_kept: Callable[[list[str]], None] = lambda _keys: None,
        on_unkept: Callable[[DatabaseError], None] = lambda _error: None,
    ) -> None:
        self._progress = progress
        self._on_kept = on_kept
        self._on_unkept = on_unkept
        # Results that no journal has, by uid: only the database can keep them.
        self._unwritten: dict[str, tuple[Question, Outcome]] = {}
        self._batches = batches
        self._plan = plan
        self._output = output
        self._journals = [outbox.open(), outbox.open()]
        self._database = DatabaseExecutor(progress)
        self._results: asyncio.Queue[tuple[Question, Outcome]] = asyncio.Queue()
        self._room = asyncio.Event()
        self._broken = False
        self._due = asyncio.Event()
        self._next = 0
        self._written = bytearray(progress.total if plan.unordered else 0)

    @property
    def journal(self) -> str:
        """The name of a journal that is locked for as long as this process lives."""
        return self._journals[0].name

    async def enqueue(self, ask: Question, outcome: Outcome) -> None:
        """Take a result; it survives a kill from the first step on, then waits where many do."""
        try:
            self._journals[0].append_completed(ask, outcome)
        except OSError:  # a full disk: the database may still take it
            self._unwritten[ask.uid] = ask, outcome
            self._due.set()
        # No waiting between the two: what is in a journal is always in the next group.
        self._results.put_nowait((ask, outcome))
        if self._results.qsize() >= GROUP_SIZE:
            self._due.set()
        while self._results.qsize() > GROUP_SIZE * 4 and not self._broken:
            self._room.clear()
            await self._room.wait()

    @property
    def is_safe(self) -> bool:
        """Whether every result is in a journal or in the database; else nothing may be asked."""
        return not self._unwritten

    @property
    def has_reader(self) -> bool:
        """Whether there is anybody left to write results for."""
        return self._output is None or not self._output.closed

    def flush(self) -> None:
        """Keep what there is at once: nothing more will come for a while."""
        if not self._results.empty():
            self._due.set()

    def end(self) -> None:
        """Let `keep` end once everything that was taken is kept."""
        self._results.put_nowait(END)
        self._due.set()

    def close(self, *, kept: bool) -> None:
        """Close the journals: deleted where all is kept, else left for whoever delivers next."""
        for journal in self._journals:
            journal.discard() if kept else journal.close()
        self._database.close()

    async def save(self) -> None:
        """Keep results in groups, and write the lines that are due, until the end.

        Raises:
            DatabaseError: The database has been away for too long.
        """
        try:
            await self._save()
        finally:
            # Nobody waits for room that will not come.
            self._broken = True
            self._room.set()

    async def _save(self) -> None:
        ended = False
        while not ended:
            results = [await self._results.get()]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GROUP_SECONDS):
                    await self._due.wait()
            self._due.clear()
            while not self._results.empty():
                results.append(self._results.get_nowait())
            # All of these are in this journal; what comes from now on goes into the other.
            self._journals.reverse()
            if ended := results[-1] is END:
                results.pop()
            self._room.set()
            if results:
                await self._store(results)
                self._on_kept([ask.item_key or "" for ask, _ in results])
                await self.write_settled([ask.item_key for ask, _ in results])
            self._journals[1].clear()

    async def _store(self, results: list[tuple[Question, Outcome]]) -> None:
        """Bring results into the database.

        Raises:
            DatabaseError: It has been away for too long; says how many results no journal has.
        """
        keep = (self._batches.store.upsert_items, self._plan.batch_id, results)
        until, pause, is_full = monotonic() + MAX_OUTAGE_SECONDS, 0.5, False
        while True:
            try:
                await self._database.once(*keep)
            except RecordRefused:
                raise
            except DatabaseError as error:
                if self._unwritten and not is_full:
                    is_full, until = True, min(until, monotonic() + UNKEPT_SECONDS)
                    self._on_unkept(error)
                if monotonic() + pause > until:
                    self._write_again()
                    if not self._unwritten:
                        raise
                    raise _unkept(len(self._unwritten), error) from error
                self._progress.held_up = error.what
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
            else:
                self._progress.held_up = ""
                break
        for ask, _ in results:
            self._unwritten.pop(ask.uid, None)

    def _write_again(self) -> None:
        """Try once more to write to a journal what none has."""
        with contextlib.suppress(OSError):
            for uid, result in list(self._unwritten.items()):
                self._journals[1].append_completed(*result)
                del self._unwritten[uid]

    async def write_settled(self, keys: list[str | None] | None = None) -> None:
        """Write the lines that are due by now: of these items, where only they can be new."""
        await self._database.call(self._write_settled, keys)

    def _write_settled(self, keys: list[str | None] | None) -> None:
        if self._output is None:
            return
        batch_id = self._plan.batch_id
        if not self._plan.unordered:
            while settled := self._batches.finished(batch_id, self._next, PAGE):
                self._output.write(settled)
                self._next = settled[-1].position + 1
        elif keys is not None:
            self._write_new(self._batches.finished_by_key(batch_id, keys))
        else:
            for page in self._batches.all_finished(batch_id):
                self._write_new(page)

    def _write_new(self, settled: list[Settled]) -> None:
        """Write those that are not written yet."""
        if self._output is None:
            return
        if settled:
            # Another process may have begun the batch again with a file that has grown.
            more = settled[-1].position + 1 - len(self._written)
            self._written.extend(bytes(max(more, 0)))
        new = [item for item in settled if not self._written[item.position]]
        self._output.write(new)
        for item in new:
            self._written[item.position] = 1


def _unkept(number: int, error: DatabaseError) -> DatabaseError:
    answers = "1 answer" if number == 1 else f"{number:,} answers"
    return DatabaseError(
        f"{answers} could be kept neither in the outbox nor in the database, and asking has "
        f"stopped: {error.what}",
        "Make room on the disk and run the same command again: it asks only those again.",
    )
