"""A question and its answer are stored by `qa ask`, or by the next command."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Program, Records
    from fake_provider import FakeProvider

    from qacli.db.records import Store

Wait = Callable[..., Any]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_ask_interrupted_with_a_locked_database_names_the_outbox(
    qa: Program, store: Store, records: Records, home: Path, wait_for: Wait
) -> None:
    def outcome_is_noted() -> bool:
        journals = (home / "data").glob("*.outbox/*.jsonl")
        return any('"outcome"' in journal.read_text() for journal in journals)

    with store.transaction(write=True):
        process = qa.start("ask", "Who am I?")
        wait_for(outcome_is_noted, 30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (out, process.returncode) == (b"Answer to: Who am I?\n", 130)
    assert b"safe in the outbox" in err
    assert b"Traceback" not in err
    assert qa("list").code == 0
    [record] = records()
    assert (record["status"], record["answer"]) == ("answered", "Answer to: Who am I?")


def test_ask_killed_is_delivered_by_the_next_command(
    qa: Program, home: Path, records: Records, wait_for: Wait
) -> None:
    def text_is_noted() -> bool:
        return any('"text"' in path.read_text() for path in home.rglob("*.jsonl"))

    qa("ask", "First?")
    process = qa.start("ask", "Who am I? [[delay=3]]")
    wait_for(text_is_noted, 30)
    process.kill()
    process.communicate()
    assert len(records()) == 1
    assert qa("list").code == 0
    first, killed = records()
    assert (first["status"], killed["status"]) == ("answered", "interrupted")
    assert killed["answer"]


def test_ask_killed_leaves_no_process_with_its_output_open(
    qa: Program, provider: FakeProvider, wait_for: Wait
) -> None:
    process = qa.start("ask", "Who am I? [[latency=30]]")
    wait_for(lambda: provider.requests, 30)
    process.kill()
    # Ends when all write ends of the pipes are closed.
    process.communicate(timeout=10)
