"""Workers of one batch on several machines: a data directory each, one database, one host name."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import sleep
from typing import TYPE_CHECKING, Any

import pytest
from conftest import KEY
from provider_process import count_logged, logged_questions, provider_process

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Postgres, Program

Records = Callable[..., list[dict[str, Any]]]
Worker = subprocess.Popen[bytes]

LATENCY = 0.3
JOBS = 6
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def begin(qa: Program, tmp_path: Path, log: Path) -> Iterator[Callable[..., Any]]:
    """Begin a batch, of which one question is asked, and start workers that join it."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with ExitStack() as stack:

        def start(
            workers: int,
            questions: list[str],
            provider: tuple[str, ...] = (),
            options: tuple[str, ...] = (),
            **env: str,
        ) -> list[Worker]:
            url = stack.enter_context(
                provider_process("--latency", str(LATENCY), "--log", str(log), *provider)
            )
            env = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": KEY, **env}
            (tmp_path / "questions.txt").write_text("\n".join(questions))
            first = qa.start(
                "batch", "questions.txt", "--name", "n", "-j", "1", *options, env=env, **quiet
            )
            while not count_logged(log):
                sleep(0.02)
            first.send_signal(signal.SIGINT)
            assert first.wait(60) == 130
            processes = []
            for number in range(workers):
                own = {**env, "QA_DATA_DIR": str(tmp_path / f"machine{number}")}
                process = qa.start("batch", "work", "n", "-j", str(JOBS), env=own, **quiet)
                processes.append(process)
                stack.callback(end, process)
            return processes

        yield start


def end(process: Worker) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
    process.communicate(timeout=60)


def claims(qa: Program, **env: str) -> list[dict[str, Any]]:
    """The workers that have claimed items."""
    shown = json.loads(qa("batch", "show", "n", "--json", **env).out)
    return [worker for worker in shown["workers"] if worker["claimed"]]


def all_are_answered_once(records: list[dict[str, Any]], questions: list[str]) -> None:
    assert Counter(record["question"] for record in records) == Counter(questions)
    assert {record["status"] for record in records} == {"answered"}


def codes_of(processes: list[Worker], seconds: float = 120) -> list[int]:
    return [process.wait(seconds) for process in processes]


@on_postgresql
def test_workers_one_killed_loses_nothing_and_asks_again_only_what_was_in_flight(
    qa: Program,
    begin: Callable[..., list[Worker]],
    database_url: str,
    records: Records,
    log: Path,
    wait_for: Callable[..., Any],
) -> None:
    questions = [f"Question {n}" for n in range(240)]
    processes = begin(3, questions, QA_LEASE="4")
    wait_for(lambda: len(claims(qa)) == 3 or count_logged(log) > 200, 60)
    processes[1].kill()
    assert codes_of([processes[0], processes[2]]) == [0, 0]
    all_are_answered_once(records(database_url), questions)
    asked = logged_questions(log)
    # And the answers of its last half second, which are only in a journal on its machine.
    assert sum(asked.values()) - len(questions) <= 3 * JOBS
    assert max(asked.values()) <= 2


@on_postgresql
def test_workers_one_frozen_for_two_leases_asks_nothing_that_is_no_longer_its_own(
    qa: Program,
    begin: Callable[..., list[Worker]],
    database_url: str,
    records: Records,
    log: Path,
    wait_for: Callable[..., Any],
) -> None:
    questions = [f"Question {n}" for n in range(500)]
    processes = begin(3, questions, QA_LEASE="3")
    wait_for(lambda: len(claims(qa)) == 3 or count_logged(log) > 300, 60)
    frozen = processes[1]
    frozen.send_signal(signal.SIGSTOP)
    sleep(6)
    frozen.send_signal(signal.SIGCONT)
    assert codes_of(processes) == [0, 0, 0]
    all_are_answered_once(records(database_url), questions)
    asked = logged_questions(log)
    assert sum(asked.values()) - len(questions) <= JOBS + 1
    assert max(asked.values()) <= 2


@on_sqlite
def test_workers_with_a_database_that_restarts_ask_nothing_twice(
    qa: Program,
    begin: Callable[..., list[Worker]],
    own_postgres: Postgres,
    records: Records,
    log: Path,
    wait_for: Callable[..., Any],
) -> None:
    own_postgres.psql("CREATE DATABASE batches")
    url = own_postgres.get_uri("batches")
    assert qa("migrate", DATABASE_URL=url).code == 0
    qa.env["DATABASE_URL"] = url
    questions = [f"Question {n}" for n in range(300)]
    processes = begin(3, questions)
    wait_for(lambda: len(claims(qa)) == 3 or count_logged(log) > 200, 60)
    own_postgres.stop()
    try:
        sleep(2)
    finally:
        own_postgres.start()
    assert codes_of(processes) == [0, 0, 0]
    all_are_answered_once(records(url), questions)
    asked = logged_questions(log)
    # The first process was stopped while it asked one question.
    assert sum(asked.values()) - len(questions) <= 1


def test_workers_keep_one_limit_together(
    begin: Callable[..., list[Worker]],
    database_url: str,
    records: Records,
    log: Path,
) -> None:
    questions = [f"Question {n}" for n in range(120)]
    # Without the limit three workers with six jobs would send 60 a second.
    processes = begin(3, questions, ("--rpm", "900", "--burst", "15"), ("--rpm", "900"))
    assert codes_of(processes) == [0, 0, 0]
    all_are_answered_once(records(database_url), questions)
    assert count_logged(log) - len(questions) <= 3


@pytest.mark.slow
@on_postgresql
def test_workers_keep_one_budget_together(
    qa: Program, begin: Callable[..., list[Worker]], tmp_path: Path, log: Path
) -> None:
    # An answer of three tokens costs a thousandth of a dollar.
    (tmp_path / "prices.toml").write_text('"test-model" = [0.0, 333.333333333]\n')
    questions = [f"{n:03}" for n in range(150)]
    processes = begin(3, questions, options=("--max-cost", "0.0505"))
    assert codes_of(processes) == [8, 8, 8]
    shown = json.loads(qa("batch", "show", "n", "--json").out)
    assert (shown["max_cost_usd"], shown["reserved_usd"]) == (0.0505, 0)
    assert 0.04 <= shown["spent_usd"] <= 0.0505
    # The first process was stopped while it asked one question.
    assert count_logged(log) <= 51
