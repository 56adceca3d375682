"""The process beside `qa ask` that keeps what it has asked."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qacli.cli.console import Console
from qacli.cli.store import open_store
from qacli.cli.writer import Writer
from qacli.config.loader import load_settings
from qacli.domain import Outcome, Question, Status
from qacli.errors import DatabaseError

if TYPE_CHECKING:
    from conftest import Program
    from fake_provider import FakeProvider

    from qacli.db.records import Store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no such process")

Records = Callable[..., list[dict[str, Any]]]
Wait = Callable[..., Any]

ANSWERED = Outcome(status=Status.ANSWERED, answer="Someone.")


def children_of(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in listed.split()]


@pytest.fixture
def writer(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    """A writer in a process of its own, whatever threads the other tests have left here."""
    monkeypatch.setattr("threading.active_count", lambda: 1)
    assert home
    before = children_of(os.getpid())
    writer = Writer(load_settings(), Console.from_process())
    assert len(children_of(os.getpid())) == len(before) + 1
    yield writer
    writer.close()


def test_it_keeps_a_record_and_says_which(writer: Writer) -> None:
    question = Question(question="Who am I?")
    kept = writer.upsert(question, ANSWERED)
    assert kept == writer.id_for_uid(question.uid)
    # Without the process, which was for one; the same again changes nothing.
    assert writer.upsert(question, ANSWERED) == kept


def test_one_that_has_come_to_grief_costs_nothing(writer: Writer) -> None:
    for child in children_of(os.getpid()):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    question = Question(question="Who am I?")
    assert writer.upsert(question, ANSWERED) == writer.id_for_uid(question.uid)


def test_what_is_wrong_with_the_database_is_said_here(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threading.active_count", lambda: 1)
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:secret@127.0.0.1:9/none")
    assert home
    writer = Writer(load_settings(), Console.from_process())
    with pytest.raises(DatabaseError, match="cannot be used") as raised:
        writer.upsert(Question(question="Who?"), ANSWERED)
    writer.close()
    assert "secret" not in str(raised.value)
    assert raised.value.exit_code == 7


@pytest.mark.parametrize("has_kept", [True, False])
def test_none_is_left_for_somebody_else_to_look_after(writer: Writer, has_kept: bool) -> None:
    # The first process of a container is often a program that never does.
    (child,) = children_of(os.getpid())
    if has_kept:
        writer.upsert(Question(question="Who am I?"), ANSWERED)
    writer.close()
    assert child not in children_of(os.getpid())


def test_a_database_that_is_back_when_the_answer_is_there_gets_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, wait_for: Wait
) -> None:
    tried = home / "tried"

    def away_at_first(*arguments: Any) -> Store:
        if not tried.exists():
            tried.touch()
            raise DatabaseError("It is away.")
        return open_store(*arguments)

    monkeypatch.setattr("threading.active_count", lambda: 1)
    monkeypatch.setattr("qacli.cli.writer.open_store", away_at_first)
    before = children_of(os.getpid())
    writer = Writer(load_settings(), Console.from_process())
    (child,) = set(children_of(os.getpid())) - set(before)
    wait_for(lambda: tried.exists() and " S " in Path(f"/proc/{child}/stat").read_text())
    question = Question(question="Who am I?")
    assert writer.upsert(question, ANSWERED) == writer.id_for_uid(question.uid)
    writer.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_whoever_does_not_wait_for_the_database_is_told_where_the_answer_is(
    qa: Program, store: Store, records: Records, home: Path, wait_for: Wait
) -> None:
    def outcome_is_noted() -> bool:
        journals = (home / "data").glob("*.outbox/*.jsonl")
        return any('"outcome"' in journal.read_text() for journal in journals)

    with store.transaction(write=True):
        process = qa.start("ask", "Who am I?")
        wait_for(outcome_is_noted)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (out, process.returncode) == (b"Answer to: Who am I?\n", 130)
    assert b"safe in the outbox" in err
    assert b"Traceback" not in err
    assert qa("list").code == 0
    [record] = records()
    assert (record["status"], record["answer"]) == ("answered", "Answer to: Who am I?")


def test_it_outlives_a_kill_and_delivers_what_had_arrived(
    qa: Program, provider: FakeProvider, records: Records, wait_for: Wait
) -> None:
    qa("ask", "First?")
    process = qa.start("ask", "Who am I? [[size=9]] [[delay=0.2]] [[latency=30]]")
    wait_for(lambda: any("Who am I?" in str(each) for each in provider.requests))
    (writer,) = children_of(process.pid)
    process.kill()
    process.communicate()
    # No other command is needed.
    wait_for(lambda: len(records()) == 2)
    assert [record["status"] for record in records()] == ["answered", "interrupted"]
    wait_for(lambda: not Path(f"/proc/{writer}").exists())


def test_it_holds_no_pipe_open(qa: Program, provider: FakeProvider, wait_for: Wait) -> None:
    process = qa.start("ask", "Who am I? [[latency=30]]")
    wait_for(lambda: provider.requests)
    (writer,) = children_of(process.pid)
    os.kill(writer, signal.SIGSTOP)
    try:
        process.kill()
        # Ends when all write ends are closed, which a stopped process would not do.
        process.communicate(timeout=10)
    finally:
        with suppress(ProcessLookupError):
            os.kill(writer, signal.SIGKILL)


def test_a_question_that_is_not_kept_needs_none(
    qa: Program, provider: FakeProvider, wait_for: Wait
) -> None:
    process = qa.start("ask", "--no-save", "Who am I? [[latency=0.5]]")
    wait_for(lambda: provider.requests)
    assert children_of(process.pid) == []
    assert process.communicate(timeout=30)[0]
