"""What all requests of a worker ask is kept together, and each as if it were alone."""

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


class Watched(Store):
    """A store that counts what it writes, and fails when it is told to.

    Attributes:
        writes: How many transactions have written.
        hold: What the first of them waits for.
        away: Whether it cannot be reached.
        breaks: Whether the connection breaks after the commit.
    """

    writes = 0
    hold: threading.Event | None = None
    away = False
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
        if self.away:
            raise DatabaseError("It is away.")
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
class House:
    store: Watched
    outbox: Outbox
    keeper: Recorder

    def records(self) -> list[dict[str, Any]]:
        return [record.to_dict() for record in self.store.page(limit=1000)]

    def files(self) -> list[Path]:
        return list(self.outbox.directory.iterdir())


@pytest.fixture
def house(store: Store, settings: Settings) -> Iterator[House]:
    watched = Watched(store.url, connections=2)
    outbox = Outbox(settings.outbox_path)
    yield House(watched, outbox, Recorder(outbox, lambda: watched))
    watched.close()


def answered(text: str) -> Outcome:
    return Outcome(status=Status.ANSWERED, answer=text, prompt_tokens=3)


def side_by_side(calls: list[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(20) for future in [pool.submit(call) for call in calls]]


def test_recorder_reserved_question_is_answered_under_its_id(
    house: House, wait_for: Callable[..., Any]
) -> None:
    ask = Question(question="Who?", tags=["a"])
    record_id = house.keeper.begin(ask, reserve=True)
    assert [(r["id"], r["status"]) for r in house.records()] == [(record_id, "asking")]
    house.keeper.append(ask.uid, Delta("I "))
    house.keeper.append(ask.uid, Delta("am."))
    [entry] = wait_for(lambda: [e for e in house.outbox.pending() if len(e.texts) == 2])
    assert (entry.question, entry.outcome().answer) == (ask, "I am.")
    assert house.keeper.finish(ask, answered("I am.")) == (record_id, None)
    [record] = house.records()
    assert (record["id"], record["answer"], record["tags"]) == (record_id, "I am.", ["a"])
    assert (record["status"], record["prompt_tokens"]) == ("answered", 3)
    wait_for(lambda: house.outbox.pending() == [])
    # What nothing waits in holds nothing.
    wait_for(lambda: [file.stat().st_size for file in house.files()] == [0])


def test_recorder_journaled_question_has_a_record_at_its_end(house: House) -> None:
    ask = Question(question="Who?")
    assert house.keeper.begin(ask, reserve=False) is None
    assert house.records() == []
    record_id, failure = house.keeper.finish(ask, answered("I."))
    assert failure is None
    assert [record["id"] for record in house.records()] == [record_id]


def test_recorder_many_writes_at_once_take_few_transactions(
    house: House, wait_for: Callable[..., Any]
) -> None:
    asks = [Question(question=f"Number {number}") for number in range(MANY)]
    house.store.hold = threading.Event()
    with ThreadPoolExecutor(MANY) as pool:
        begun = [pool.submit(house.keeper.begin, ask, reserve=True) for ask in asks]
        wait_for(lambda: len(house.outbox.pending()) == MANY)
        house.store.hold.set()
        ids = [future.result(20) for future in begun]
    assert len(set(ids)) == MANY
    assert house.store.writes < MANY / 4
    outcomes = [answered(f"It is {ask.question}.") for ask in asks]
    ended = side_by_side(
        [lambda a=a, o=o: house.keeper.finish(a, o) for a, o in zip(asks, outcomes, strict=True)]
    )
    assert ended == [(record_id, None) for record_id in ids]
    found = {record["id"]: record for record in house.records()}
    assert len(found) == MANY
    for ask, record_id in zip(asks, ids, strict=True):
        assert found[record_id]["answer"] == f"It is {ask.question}."
    assert len(house.files()) == 1


def test_recorder_refused_record_leaves_the_others(
    house: House, wait_for: Callable[..., Any]
) -> None:
    asks = [Question(question=str(n), idempotency_key="k" if n < 2 else None) for n in range(20)]
    house.store.hold = threading.Event()
    with ThreadPoolExecutor(len(asks)) as pool:
        begun = [pool.submit(house.keeper.begin, ask, reserve=True) for ask in asks]
        wait_for(lambda: len(house.outbox.pending()) == len(asks))
        house.store.hold.set()
        errors = [future.exception(20) for future in begun]
    assert [type(error) for error in errors if error is not None] == [RecordRefused]
    assert len(house.records()) == len(asks) - 1
    # The one that was refused is not asked, so nothing waits to say that it was.
    wait_for(lambda: len(house.outbox.pending()) == len(asks) - 1)


def test_recorder_errors_are_separate_for_each_record(house: House) -> None:
    house.store.away = True

    def begin(number: int) -> BaseException:
        with pytest.raises(DatabaseError) as caught:
            house.keeper.begin(Question(question=str(number)), reserve=True)
        return caught.value

    errors = side_by_side([lambda n=n: begin(n) for n in range(8)])
    assert len({id(error) for error in errors}) == len(errors)
    assert {str(error) for error in errors} == {"It is away."}


def test_recorder_answer_in_the_outbox_is_delivered_by_the_next(
    house: House, wait_for: Callable[..., Any]
) -> None:
    ask, other = Question(question="Who?"), Question(question="And who else?")
    record_id = house.keeper.begin(ask, reserve=True)
    house.keeper.begin(other, reserve=True)
    house.store.away = True
    nothing, failure = house.keeper.finish(ask, answered("I."))
    assert (nothing, type(failure)) == (None, DatabaseError)
    with pytest.raises(DatabaseError):
        house.keeper.begin(Question(question="Now?"), reserve=True)
    house.store.away = False
    wait_for(lambda: len(house.outbox.pending()) == 2)
    # The worker lives on, and still has a question in flight.
    assert recover_outbox(house.outbox, house.store) == 1
    assert recover_outbox(house.outbox, house.store) == 0
    first, second = house.records()
    assert (first["id"], first["status"], first["answer"]) == (record_id, "answered", "I.")
    assert second["status"] == "asking"
    assert [entry.question for entry in house.outbox.pending()] == [other]
    house.keeper.finish(other, answered("You."))


def test_recorder_reserved_record_not_asked_is_deleted(
    house: House, wait_for: Callable[..., Any]
) -> None:
    house.store.breaks = True
    with pytest.raises(DatabaseError, match="It broke"):
        house.keeper.begin(Question(question="Lost?"), reserve=True)
    wait_for(lambda: house.records() == [])
    ask = Question(question="Who?")
    house.keeper.begin(ask, reserve=True)
    assert [record["question"] for record in house.records()] == ["Who?"]


def test_recorder_record_removed_while_asked_becomes_a_new_record(house: House) -> None:
    ask = Question(question="Who?")
    first = house.keeper.begin(ask, reserve=True)
    assert first is not None
    house.store.remove(first)
    record_id, _ = house.keeper.finish(ask, answered("I."))
    assert [(r["id"], r["answer"]) for r in house.records()] == [(record_id, "I.")]


def test_recorder_finished_and_removed_record_does_not_return(
    house: House, wait_for: Callable[..., Any]
) -> None:
    ask, other = Question(question="Who?"), Question(question="And who else?")
    record_id = house.keeper.begin(ask, reserve=True)
    house.keeper.begin(other, reserve=True)
    house.keeper.finish(ask, answered("I."))
    wait_for(lambda: [entry.question for entry in house.outbox.pending()] == [other])
    assert record_id is not None
    house.store.remove(record_id)
    # What a kill would leave now.
    [journal] = house.files()
    (copy := journal.with_name("copy.jsonl")).write_bytes(journal.read_bytes())
    assert recover_outbox(house.outbox, house.store) == 1
    assert not copy.exists()
    assert [record["question"] for record in house.records()] == ["And who else?"]


def test_recorder_without_a_writable_journal_asks_nothing(house: House) -> None:
    house.outbox.directory.parent.mkdir(parents=True, exist_ok=True)
    house.outbox.directory.write_text("not a directory")
    with pytest.raises(OutboxUnwritable):
        house.keeper.begin(Question(question="Who?"), reserve=True)
    assert house.records() == []
    house.outbox.directory.unlink()
    assert house.keeper.begin(Question(question="And now?"), reserve=True) is not None


class Noting:
    """A writer of journals, with the questions that it has written."""

    def __init__(self, outbox: Outbox) -> None:
        self.notes = JournalWriter(outbox, max_bytes=1)

    def begin(self, question: str) -> Question:
        ask = Question(question=question)
        self.notes.write(JournalEntry(ask.uid, (question_entry(ask),), opens=True, sync=True))
        return ask

    def settle(self, ask: Question) -> None:
        line = completed_entry(ask.uid)
        self.notes.enqueue(JournalEntry(ask.uid, (line,), completes=True))


def test_recorder_full_journal_is_deleted_when_all_is_finished(
    home: Path, wait_for: Callable[..., Any]
) -> None:
    outbox = Outbox(home / "outbox")
    noting = Noting(outbox)
    first, second, third = (noting.begin(question) for question in ("1", "2", "3"))
    assert len(list(outbox.directory.iterdir())) == 3
    noting.settle(first)
    wait_for(lambda: len(list(outbox.directory.iterdir())) == 2)
    assert [entry.question for entry in outbox.pending()] == [second, third]
    noting.settle(third)
    noting.settle(second)
    wait_for(lambda: outbox.pending() == [])
    assert list(outbox.orphaned()) == []


def test_journal_writer_failed_entry_does_not_stop_the_next(
    home: Path,
) -> None:
    noting = Noting(Outbox(home / "outbox"))
    with pytest.raises(OutboxUnwritable):
        noting.notes.write(JournalEntry("u", ({"ask": object()},), opens=True, sync=True))
    noting.begin("And now?")


def test_journal_writer_text_during_an_fsync_is_written_after_it(home: Path) -> None:
    outbox = Outbox(home / "outbox")
    noting = Noting(outbox)
    with ThreadPoolExecutor(8) as pool:
        asks = list(pool.map(noting.begin, [str(n) for n in range(40)]))
        for ask in asks:
            pool.submit(
                noting.notes.enqueue, JournalEntry(ask.uid, (text_entry(ask.uid, Delta("A")),))
            )
    entries = {entry.question.uid: entry.texts for entry in outbox.pending()}
    assert entries == {ask.uid: ["A"] for ask in asks}


def test_recorder_deleted_journal_is_replaced(home: Path) -> None:
    outbox = Outbox(home / "outbox")
    noting = Noting(outbox)
    noting.begin("1")
    for file in outbox.directory.iterdir():
        file.unlink()
    second = noting.begin("2")
    assert [entry.question for entry in outbox.pending()] == [second]


class Mistaken(Recorder):
    """A recorder with a mistake about one question."""

    def _commit(self, group: Sequence[tuple[Question, Outcome]]) -> dict[str, int]:
        if any(ask.question == "3" for ask, _ in group):
            raise RecursionError
        return super()._commit(group)


def test_recorder_mistake_about_one_record_keeps_the_others(
    house: House, wait_for: Callable[..., Any]
) -> None:
    recorder = Mistaken(house.outbox, lambda: house.store)
    asks = [Question(question=str(n)) for n in range(20)]
    house.store.hold = threading.Event()
    with ThreadPoolExecutor(len(asks)) as pool:
        begun = [pool.submit(recorder.begin, ask, reserve=True) for ask in asks]
        wait_for(lambda: len(house.outbox.pending()) == len(asks))
        house.store.hold.set()
        errors = [future.exception(20) for future in begun]
    assert [type(error) for error in errors if error is not None] == [RecursionError]
    assert len(house.records()) == len(asks) - 1
