"""Every question that was sent is recorded, and every answer that arrived."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from batch_checks import check_answered_once
from postgres_server import stopped
from provider_process import logged_questions, provider_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Postgres, Program, Records
    from fake_provider import FakeProvider

AT_ONCE = 4
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@on_sqlite
@pytest.mark.parametrize("count", [10, pytest.param(60, marks=pytest.mark.slow)])
def test_ask_killed_at_any_time_has_one_record_of_each_question(
    qa: Program,
    database_url: str,
    log: Path,
    records: Records,
    wait_for: Callable[..., Any],
    count: int,
) -> None:
    rng = random.Random(2026)
    questions = [f"Question {number}" for number in range(count)]

    def ask_and_kill(question: str, seconds: float | None, after_sending: bool) -> int:
        process = qa.start(
            *("ask", question), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if after_sending:
            wait_for(lambda: question in logged_questions(log) or process.poll() is not None)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        code: int = process.wait()
        return code

    # An answer takes about a second.
    slow = ("--first-token-delay", "0.1", "--delay", "0.25")
    with provider_process(*slow, "--log", str(log)) as base_url:
        env = {"OPENAI_BASE_URL": base_url}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            # The first ones are not killed: they show how long a question takes on this machine.
            began = monotonic()
            codes = list(
                pool.map(ask_and_kill, questions[:AT_ONCE], [None] * AT_ONCE, [False] * AT_ONCE)
            )
            assert codes == [0] * AT_ONCE
            longest = monotonic() - began
            rest = questions[AT_ONCE:]
            # Half of them are killed at any time, half while the answer arrives.
            half = len(rest) // 2
            seconds = [rng.uniform(longest / 4, longest) for _ in rest[:half]]
            seconds += [rng.uniform(0.2, 1) for _ in rest[half:]]
            codes += pool.map(ask_and_kill, rest, seconds, [False] * half + [True] * len(rest))
    listed = qa("list", "--json", "--limit", "0")
    assert listed.code == 0, listed.err

    sent = logged_questions(log)
    stored = records()
    counts = Counter(record["question"] for record in stored)
    assert set(sent) <= set(counts), "a question was sent, but not recorded"
    assert set(counts.values()) <= {1}, "a question was recorded twice"
    assert set(counts) <= set(questions)
    assert {record["status"] for record in stored} <= {"answered", "interrupted"}
    assert len({record["uid"] for record in stored}) == len(stored)
    for record in stored:
        whole = f"Answer to: {record['question']}"
        assert whole.startswith(record["answer"] or "")
        assert record["status"] == "interrupted" or record["answer"] == whole
    # A process that ended by itself has printed the answer.
    answered = {record["question"] for record in stored if record["status"] == "answered"}
    done = {question for question, code in zip(questions, codes, strict=True) if code == 0}
    assert done <= answered
    # Some were killed in the middle of the answer; the outbox is empty again.
    assert -signal.SIGKILL in codes
    assert any(record["answer"] for record in stored if record["status"] == "interrupted")
    assert not list(Path(f"{database_url.removeprefix('sqlite:///')}.outbox").iterdir())


def ask_all(qa: Program, questions: list[str], at_once: int) -> list[Any]:
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda question: qa("ask", question, timeout=240), questions))


@pytest.mark.parametrize("count", [10, pytest.param(40, marks=pytest.mark.slow)])
def test_ask_in_many_processes_makes_one_record_each(
    qa: Program, records: Records, provider: FakeProvider, count: int
) -> None:
    questions = [f"Question {number} [[latency=0.3]]" for number in range(count)]
    for question, done in zip(questions, ask_all(qa, questions, 10), strict=True):
        assert (done.code, done.out, done.err) == (0, f"Answer to: {question}\n", "")
    check_answered_once(records(), questions)
    assert len(provider.requests) == len(questions)


@pytest.mark.usefixtures("empty_database")
@on_sqlite
def test_qa_first_runs_at_once_create_one_history(
    qa: Program, home: Path, records: Records
) -> None:
    assert not (home / "data").exists()
    processes = [
        qa.start("list", "--json") if number % 2 else qa.start("ask", f"Question {number}")
        for number in range(16)
    ]
    for process in processes:
        _, err = process.communicate(timeout=240)
        assert (process.returncode, err) == (0, b"")
    assert len(records()) == 8
    assert json.loads(qa("migrate", "status", "--json").out)["pending"] == []


@on_sqlite
def test_ask_database_down_before_the_answer_loses_nothing(
    qa: Program,
    provider: FakeProvider,
    own_postgres: Postgres,
    own_postgres_url: str,
    release_answers: Callable[[], None],
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    url = own_postgres_url
    question = "Who am I?"
    process = qa.start("ask", question, env={"DATABASE_URL": url})
    wait_for(lambda: provider.requests, 60)
    with stopped(own_postgres):
        release_answers()
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out.decode()) == (0, f"Answer to: {question}\n")
        assert b"safe in the outbox" in err
        done = qa("list", DATABASE_URL=url)
        assert (done.code, done.out) == (7, "")
    listed = json.loads(qa("list", "--json", DATABASE_URL=url).out)
    assert [record["question"] for record in listed] == [question]
    assert [record["status"] for record in listed] == ["answered"]
    assert qa("list", DATABASE_URL=url).code == 0
    assert len(records(url)) == 1


@on_sqlite
def test_ask_without_a_writable_outbox_asks_nothing(
    qa: Program, provider: FakeProvider, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    url = f"sqlite:///{tmp_path}/file/history.db"
    done = qa("ask", "Who am I?", DATABASE_URL=url)
    assert (done.code, done.out) == (7, "")
    assert "Traceback" not in done.err
    assert provider.requests == []


@on_sqlite
def test_ask_with_a_damaged_history_prints_the_answer(
    qa: Program, home: Path, database_url: str, records: Records
) -> None:
    assert qa("ask", "First?").code == 0
    file = Path(database_url.removeprefix("sqlite:///"))
    content = file.read_bytes()
    for log in (home / "data").glob("history.db-*"):
        log.unlink()
    file.write_bytes(b"This is not a database. " * 1000)
    done = qa("ask", "Who am I?")
    assert (done.code, done.out) == (0, "Answer to: Who am I?\n")
    assert "safe in the outbox" in done.err
    assert qa("list").code == 7
    file.write_bytes(content)
    assert qa("list").code == 0
    assert [record["question"] for record in records()] == ["First?", "Who am I?"]


@on_sqlite
def test_ask_on_a_full_disk_records_the_text_so_far(qa: Program) -> None:
    assert qa("ask", "First?").code == 0
    # The limit for the files of this process: the question fits, its answer does not.
    question = "Who am I? [[size=400000]]"
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 128; exec "$0" ask "$1"', *qa.command, question],
        env=qa.environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert len(done.stdout) == 400001
    assert b"Traceback" not in done.stderr
    assert done.returncode == 7
    assert b"could not be stored" in done.stderr
    # A process without the limit stores the text so far.
    last = json.loads(qa("show", "last", "--json").out)
    assert last["question"] == question
    assert last["answer"].startswith("xxx")
