"""A SQLite history that cannot be written: on a read-only disk, or of another user."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Invoke, Program
from journals import write_question

from qacli.db.record_queries import EVERYTHING
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status
from qacli.recording.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

MOUNTED = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'


@dataclass
class ReadOnly(Program):
    """`qa` with a part of the disk read-only, even to root."""

    path: str = ""

    @property
    def command(self) -> list[str]:
        return [*mounted(self.path), *super().command]


def mounted(path: str) -> list[str]:
    return ["unshare", "-rm", "sh", "-c", MOUNTED, "sh", path]


@pytest.fixture
def history(database_url: str) -> Path:
    """A history with one record."""
    store = Store.open(database_url)
    store.upsert(
        Question(question="Who am I?", params={"model": "m"}),
        Outcome(status=Status.ANSWERED, answer="You are here."),
    )
    store.close()
    return Path(database_url.removeprefix("sqlite:///"))


@pytest.fixture
def mounts(tmp_path: Path) -> None:
    try:
        subprocess.run([*mounted(str(tmp_path)), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system mounts nothing for a test")


@pytest.fixture
def read_only(qa: Program, history: Path, mounts: None) -> ReadOnly:
    assert mounts is None
    return ReadOnly(qa.env, path=str(history.parent))


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["list", "--search", "here"],
        ["list", "--limit", "0", "--format", "jsonl"],
        ["show", "last"],
        ["show", "1", "--thread"],
        ["export"],
        ["stats"],
        ["ask", "--reuse", "--model", "m", "Who am I?"],
    ],
    ids=" ".join,
)
def test_read_only_history_can_be_read(read_only: ReadOnly, arguments: list[str]) -> None:
    done = read_only(*arguments)
    assert (done.code, done.err) == (0, "")
    assert "here." in done.out or arguments == ["stats"]


@pytest.mark.usefixtures("history")
def test_read_only_batches_can_be_read(read_only: ReadOnly, invoke: Invoke, home: Path) -> None:
    (home / "questions.txt").write_text("One?\nTwo?\n", encoding="utf-8")
    assert invoke("batch", "questions.txt", "--name", "two").code == 0
    assert read_only("batch", "list").out.startswith("two")
    done = read_only("batch", "results", "two")
    assert (done.code, len(done.out.splitlines())) == (0, 2)


def test_read_only_history_with_a_pending_journal_can_be_read(
    read_only: ReadOnly, history: Path, invoke: Invoke
) -> None:
    journal = Outbox(history.with_name("history.db.outbox")).open()
    write_question(journal, Question(question="And you?", params={"model": "m"}))
    journal.close()
    assert "Who am I?" in read_only("list").out
    # When the database can be written again, the answer is delivered.
    assert "And you?" in invoke("list").out


@pytest.mark.parametrize("command", ["rm 1", "tag 1 +a", "batch questions.txt", "migrate", "serve"])
def test_read_only_history_refuses_writing_commands(
    read_only: ReadOnly, home: Path, command: str
) -> None:
    (home / "questions.txt").write_text("One?\n", encoding="utf-8")
    done = read_only(*command.split())
    assert (done.code, done.out, done.err.count("\n")) == (7, "", 1)
    assert "DATABASE_URL" in done.err


def test_read_only_directory_asks_nothing(read_only: ReadOnly, provider: Any) -> None:
    done = read_only("ask", "And you?")
    assert (done.code, done.out, provider.requests) == (7, "", [])
    assert "Nothing was asked" in done.err


@pytest.mark.usefixtures("mounts")
def test_read_only_file_leaves_the_answer_in_the_outbox(qa: Program, history: Path) -> None:
    done = ReadOnly(qa.env, path=str(history))("ask", "And you?")
    assert (done.code, done.out) == (0, "Answer to: And you?\n")
    assert "cannot be used: attempt to write a readonly database. The question and its" in done.err
    assert "Answer to: And you?" in qa("list").out


@pytest.fixture
def no_directory_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)


@pytest.fixture
def reader(history: Path, no_directory_to_write: None) -> Iterator[Store]:
    assert no_directory_to_write is None
    store = Store.open(f"sqlite:///{history}")
    yield store
    store.close()


def test_read_only_store_sees_records_of_another_writer(reader: Store, history: Path) -> None:
    assert reader.count(EVERYTHING) == 1
    writer = Store(f"sqlite:///{history}", connections=1)
    for number in range(2, 5):
        # While a writer has the file open, it must not be opened as immutable.
        writer.upsert(Question(question="And you?"), Outcome())
        assert reader.count(EVERYTHING) == number
    writer.close()
    assert reader.count(EVERYTHING) == 4


def test_read_only_store_with_a_pool_sees_later_records(
    history: Path, no_directory_to_write: None
) -> None:
    assert no_directory_to_write is None
    kept = Store(f"sqlite:///{history}", connections=1)
    assert kept.count(EVERYTHING) == 1
    other = Store(f"sqlite:///{history}")
    other.upsert(Question(question="And you?"), Outcome())
    assert kept.count(EVERYTHING) == 2
    kept.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look anywhere")
def test_unreadable_directory_is_named(invoke: Invoke, history: Path) -> None:
    history.parent.chmod(0)
    done = invoke("list")
    history.parent.chmod(0o700)
    assert (done.code, done.out) == (7, "")
    assert "cannot be opened: Permission denied. Set QA_DATA_DIR" in done.err
