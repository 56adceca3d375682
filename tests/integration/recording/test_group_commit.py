"""Group commit: the questions of many threads in one transaction, with separate errors."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import OperationalError

from qacli.db.records import Store
from qacli.domain import Delta, Outcome, Question, Status
from qacli.errors import DatabaseError, OutboxUnwritable, RecordRefused
from qacli.recording.journal_format import completed_entry, question_entry, text_entry
from qacli.recording.journal_writer import JournalEntry, JournalWriter
from qacli.recording.outbox import Outbox
from qacli.recording.recorder import Recorder
from qacli.recording.recovery import recover_outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import sqlalchemy as sa

    from qacli.config.settings import Settings

MANY = 60


class FailingStore(Store):
    """A store that counts its writes, and fails on demand.

    Attributes:
        writes: The number of transactions that have written.
        hold: An event for which each of them waits after its commit.
        is_down: Fail each transaction.
        breaks: Break the connection after the next commit.
    """

    writes = 0
    hold: threading.Event | None = None
    is_down = False
    breaks = False

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[sa.Connection]:
        with self._watch(super().transaction(write=write), write=write) as connection:
            yield connection

    @contextmanager
    def writing_one(self) -> Iterator[sa.Connection]:
        with self._watch(super().writing_one(), write=True) as connection:
            yield connection

    @contextmanager
    def _watch(
        self, opened: AbstractContextManager[sa.Connection], *, write: bool
    ) -> Iterator[sa.Connection]:
        if self.is_down:
            raise DatabaseError("It is down.")
        with opened as connection:
            yield connection
        if write:
            self.writes += 1
            if self.hold is not None:
                self.hold.wait(10)
        if write and self.breaks:
            self.breaks = False
            lost = OperationalError("COMMIT", None, Exception(), connection_invalidated=True)
            raise DatabaseError("It broke.") from lost


@dataclass
class Recording:
    """A recorder with its store and its outbox."""

    store: FailingStore
    outbox: Outbox
    recorder: Recorder

    def records(self) -> list[dict[str, Any]]:
        return [record.to_dict() for record in self.store.page(limit=1000)]

    def files(self) -> list[Path]:
        return list(self.outbox.directory.iterdir())


@pytest.fixture
def recording(store: Store, settings: Settings) -> Iterator[Recording]:
    own = FailingStore(store.url, connections=2)
    outbox = Outbox(settings.outbox_path)
    yield Recording(own, outbox, Recorder(outbox, lambda: own))
    own.close()


def answered(text: str) -> Outcome:
    return Outcome(status=Status.ANSWERED, answer=text, prompt_tokens=3)


def call_in_threads(calls: list[Callable[[], Any]]) -> list[Any]:
    """Make each call in a thread of its own, all at once; return the results."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(20) for future in [pool.submit(call) for call in calls]]


def test_recorder_reserved_question_is_answered_under_its_id(
    recording: Recording, wait_for: Callable[..., Any]
) -> None:
    ask = Question(question="Who?", tags=["a"])
    record_id = recording.recorder.begin(ask, reserve=True)
    assert [(r["id"], r["status"]) for r in recording.records()] == [(record_id, "asking")]
    recording.recorder.append(ask.uid, Delta("I "))
    recording.recorder.append(ask.uid, Delta("am."))
    [entry] = wait_for(lambda: [e for e in recording.outbox.pending() if len(e.texts) == 2])
    assert (entry.question, entry.outcome().answer) == (ask, "I am.")
    assert recording.recorder.finish(ask, answered("I am.")) == (record_id, None)
    [record] = recording.records()
    assert (record["id"], record["answer"], record["tags"]) == (record_id, "I am.", ["a"])
    assert (record["status"], record["prompt_tokens"]) == ("answered", 3)
    wait_for(lambda: recording.outbox.pending() == [])
    # The journal has no entry left, so it is deleted.
    wait_for(lambda: [file.stat().st_size for file in recording.files()] == [0])


def test_recorder_journaled_question_has_a_record_at_its_end(recording: Recording) -> None:
    ask = Question(question="Who?")
    assert recording.recorder.begin(ask, reserve=False) is None
    assert recording.records() == []
    record_id, failure = recording.recorder.finish(ask, answered("I."))
    assert failure is None
    assert [record["id"] for record in recording.records()] == [record_id]


def test_recorder_many_writes_at_once_take_few_transactions(
    recording: Recording, wait_for: Callable[..., Any]
) -> None:
    asks = [Question(question=f"Number {number}") for number in range(MANY)]
    recording.store.hold = threading.Event()
    with ThreadPoolExecutor(MANY) as pool:
        begun = [pool.submit(recording.recorder.begin, ask, reserve=True) for ask in asks]
        wait_for(lambda: len(recording.outbox.pending()) == MANY)
        recording.store.hold.set()
        ids = [future.result(20) for future in begun]
    assert len(set(ids)) == MANY
    assert recording.store.writes < MANY / 4
    outcomes = [answered(f"It is {ask.question}.") for ask in asks]
    ended = call_in_threads(
        [
            lambda a=a, o=o: recording.recorder.finish(a, o)
            for a, o in zip(asks, outcomes, strict=True)
        ]
    )
    assert ended == [(record_id, None) for record_id in ids]
    found = {record["id"]: record for record in recording.records()}
    assert len(found) == MANY
    for ask, record_id in zip(asks, ids, strict=True):
        assert found[record_id]["answer"] == f"It is {ask.question}."
    assert len(recording.files()) == 1


def test_recorder_refused_record_leaves_the_others(
    recording: Recording, wait_for: Callable[..., Any]
) -> None:
    asks = [Question(question=str(n), idempotency_key="k" if n < 2 else None) for n in range(20)]
    recording.store.hold = threading.Event()
    with ThreadPoolExecutor(len(asks)) as pool:
        begun = [pool.submit(recording.recorder.begin, ask, reserve=True) for ask in asks]
        wait_for(lambda: len(recording.outbox.pending()) == len(asks))
        recording.store.hold.set()
        errors = [future.exception(20) for future in begun]
    assert [type(error) for error in errors if error is not None] == [RecordRefused]
    assert len(recording.records()) == len(asks) - 1
    # The refused question is never asked, so the journal has no entry for it.
    wait_for(lambda: len(recording.outbox.pending()) == len(asks) - 1)


def test_recorder_errors_are_separate_for_each_record(recording: Recording) -> None:
    recording.store.is_down = True

    def begin(number: int) -> BaseException:
        with pytest.raises(DatabaseError) as caught:
            recording.recorder.begin(Question(question=str(number)), reserve=True)
        return caught.value

    errors = call_in_threads([lambda n=n: begin(n) for n in range(8)])
    assert len({id(error) for error in errors}) == len(errors)
    assert {str(error) for error in errors} == {"It is down."}


def test_recorder_answer_in_the_outbox_is_delivered_by_the_next(
    recording: Recording, wait_for: Callable[..., Any]
) -> None:
    ask, other = Question(question="Who?"), Question(question="And who else?")
    record_id = recording.recorder.begin(ask, reserve=True)
    recording.recorder.begin(other, reserve=True)
    recording.store.is_down = True
    nothing, failure = recording.recorder.finish(ask, answered("I."))
    assert (nothing, type(failure)) == (None, DatabaseError)
    with pytest.raises(DatabaseError):
        recording.recorder.begin(Question(question="Now?"), reserve=True)
    recording.store.is_down = False
    wait_for(lambda: len(recording.outbox.pending()) == 2)
    # The worker runs on with a question in flight.
    assert recover_outbox(recording.outbox, recording.store) == 1
    assert recover_outbox(recording.outbox, recording.store) == 0
    first, second = recording.records()
    assert (first["id"], first["status"], first["answer"]) == (record_id, "answered", "I.")
    assert second["status"] == "asking"
    assert [entry.question for entry in recording.outbox.pending()] == [other]
    recording.recorder.finish(other, answered("You."))


def test_recorder_reserved_record_not_asked_is_deleted(
    recording: Recording, wait_for: Callable[..., Any]
) -> None:
    recording.store.breaks = True
    with pytest.raises(DatabaseError, match="It broke"):
        recording.recorder.begin(Question(question="Lost?"), reserve=True)
    wait_for(lambda: recording.records() == [])
    ask = Question(question="Who?")
    recording.recorder.begin(ask, reserve=True)
    assert [record["question"] for record in recording.records()] == ["Who?"]


def test_recorder_record_removed_while_asked_becomes_a_new_record(recording: Recording) -> None:
    ask = Question(question="Who?")
    first = recording.recorder.begin(ask, reserve=True)
    assert first is not None
    recording.store.remove(first)
    record_id, _ = recording.recorder.finish(ask, answered("I."))
    assert [(r["id"], r["answer"]) for r in recording.records()] == [(record_id, "I.")]


def test_recorder_finished_and_removed_record_does_not_return(
    recording: Recording, wait_for: Callable[..., Any]
) -> None:
    ask, other = Question(question="Who?"), Question(question="And who else?")
    record_id = recording.recorder.begin(ask, reserve=True)
    recording.recorder.begin(other, reserve=True)
    recording.recorder.finish(ask, answered("I."))
    wait_for(lambda: [entry.question for entry in recording.outbox.pending()] == [other])
    assert record_id is not None
    recording.store.remove(record_id)
    # The state that a kill would leave now.
    [journal] = recording.files()
    (copy := journal.with_name("copy.jsonl")).write_bytes(journal.read_bytes())
    assert recover_outbox(recording.outbox, recording.store) == 1
    assert not copy.exists()
    assert [record["question"] for record in recording.records()] == ["And who else?"]


def test_recorder_without_a_writable_journal_asks_nothing(recording: Recording) -> None:
    recording.outbox.directory.parent.mkdir(parents=True, exist_ok=True)
    recording.outbox.directory.write_text("not a directory")
    with pytest.raises(OutboxUnwritable):
        recording.recorder.begin(Question(question="Who?"), reserve=True)
    assert recording.records() == []
    recording.outbox.directory.unlink()
    assert recording.recorder.begin(Question(question="And now?"), reserve=True) is not None


class SmallJournals:
    """A writer with one journal for each question."""

    def __init__(self, outbox: Outbox) -> None:
        self.writer = JournalWriter(outbox, max_bytes=1)

    def begin(self, question: str) -> Question:
        """Write a question."""
        ask = Question(question=question)
        self.writer.write(JournalEntry(ask.uid, (question_entry(ask),), opens=True, sync=True))
        return ask

    def complete(self, ask: Question) -> None:
        """Write that the question is complete."""
        line = completed_entry(ask.uid)
        self.writer.enqueue(JournalEntry(ask.uid, (line,), completes=True))


def test_recorder_full_journal_is_deleted_when_all_is_finished(
    home: Path, wait_for: Callable[..., Any]
) -> None:
    outbox = Outbox(home / "outbox")
    journals = SmallJournals(outbox)
    first, second, third = (journals.begin(question) for question in ("1", "2", "3"))
    assert len(list(outbox.directory.iterdir())) == 3
    journals.complete(first)
    wait_for(lambda: len(list(outbox.directory.iterdir())) == 2)
    assert [entry.question for entry in outbox.pending()] == [second, third]
    journals.complete(third)
    journals.complete(second)
    wait_for(lambda: outbox.pending() == [])
    assert list(outbox.orphaned()) == []


def test_journal_writer_failed_entry_does_not_stop_the_next(
    home: Path,
) -> None:
    journals = SmallJournals(Outbox(home / "outbox"))
    with pytest.raises(OutboxUnwritable):
        journals.writer.write(JournalEntry("u", ({"ask": object()},), opens=True, sync=True))
    journals.begin("And now?")


def test_journal_writer_text_during_an_fsync_is_written_after_it(home: Path) -> None:
    outbox = Outbox(home / "outbox")
    journals = SmallJournals(outbox)
    with ThreadPoolExecutor(8) as pool:
        asks = list(pool.map(journals.begin, [str(n) for n in range(40)]))
        for ask in asks:
            pool.submit(
                journals.writer.enqueue, JournalEntry(ask.uid, (text_entry(ask.uid, Delta("A")),))
            )
    entries = {entry.question.uid: entry.texts for entry in outbox.pending()}
    assert entries == {ask.uid: ["A"] for ask in asks}


def test_recorder_deleted_journal_is_replaced(home: Path) -> None:
    outbox = Outbox(home / "outbox")
    journals = SmallJournals(outbox)
    journals.begin("1")
    for file in outbox.directory.iterdir():
        file.unlink()
    second = journals.begin("2")
    assert [entry.question for entry in outbox.pending()] == [second]


class BuggyRecorder(Recorder):
    """A recorder with a bug that one question triggers."""

    def _commit(self, group: Sequence[tuple[Question, Outcome]]) -> dict[str, int]:
        if any(ask.question == "3" for ask, _ in group):
            raise RecursionError
        return super()._commit(group)


def test_recorder_mistake_about_one_record_keeps_the_others(
    recording: Recording, wait_for: Callable[..., Any]
) -> None:
    recorder = BuggyRecorder(recording.outbox, lambda: recording.store)
    asks = [Question(question=str(n)) for n in range(20)]
    recording.store.hold = threading.Event()
    with ThreadPoolExecutor(len(asks)) as pool:
        begun = [pool.submit(recorder.begin, ask, reserve=True) for ask in asks]
        wait_for(lambda: len(recording.outbox.pending()) == len(asks))
        recording.store.hold.set()
        errors = [future.exception(20) for future in begun]
    assert [type(error) for error in errors if error is not None] == [RecursionError]
    assert len(recording.records()) == len(asks) - 1
