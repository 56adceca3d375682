"""Workers of one batch on several machines.

The machines are data directories: all workers have the same database and the same host name.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from time import sleep
from typing import TYPE_CHECKING, Any

import pytest
from batch_checks import check_answered_once, count_repeated_requests
from conftest import KEY
from postgres_server import stopped
from provider_process import count_logged, logged_questions, provider_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Postgres, Program, Records

Worker = subprocess.Popen[bytes]
StartWorkers = Callable[..., list[Worker]]

LATENCY = 0.3
WORKERS = 3
JOBS = 6
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def start_workers(
    qa: Program, tmp_path: Path, log: Path, wait_for: Callable[..., Any]
) -> Iterator[StartWorkers]:
    """Return a function that creates a batch, asks its first question, and starts workers."""
    no_output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with ExitStack() as stack:

        def start(
            questions: list[str],
            provider: tuple[str, ...] = (),
            options: tuple[str, ...] = (),
            **env: str,
        ) -> list[Worker]:
            base_url = stack.enter_context(
                provider_process("--latency", str(LATENCY), "--log", str(log), *provider)
            )
            env = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY, **env}
            (tmp_path / "questions.txt").write_text("\n".join(questions))
            arguments = ("batch", "questions.txt", "--name", "n", "-j", "1", *options)
            first = qa.start(*arguments, env=env, **no_output)
            wait_for(lambda: count_logged(log))
            first.send_signal(signal.SIGINT)
            assert first.wait(60) == 130
            workers = []
            for number in range(WORKERS):
                own = {**env, "QA_DATA_DIR": str(tmp_path / f"machine{number}")}
                worker = qa.start("batch", "work", "n", "-j", str(JOBS), env=own, **no_output)
                workers.append(worker)
                stack.callback(kill, worker)
            return workers

        yield start


@pytest.fixture
def wait_for_claims(qa: Program, log: Path, wait_for: Callable[..., Any]) -> Callable[[int], None]:
    """Return a function that waits until all workers have claimed items, or `count` are asked."""

    def all_have_claimed() -> bool:
        shown = json.loads(qa("batch", "show", "n", "--json").out)
        return len([worker for worker in shown["workers"] if worker["claimed"]]) == WORKERS

    return lambda count: wait_for(lambda: all_have_claimed() or count_logged(log) > count, 60)


def kill(worker: Worker) -> None:
    """Kill a worker, also a frozen one, and wait for its end."""
    if worker.poll() is None:
        worker.send_signal(signal.SIGCONT)
        worker.kill()
    worker.communicate(timeout=60)


def exit_codes(workers: list[Worker], seconds: float = 120) -> list[int]:
    """Wait for the end of the workers, and return their exit codes."""
    return [worker.wait(seconds) for worker in workers]


@on_postgresql
def test_workers_one_killed_repeats_only_requests_in_flight(
    start_workers: StartWorkers,
    records: Records,
    log: Path,
    wait_for_claims: Callable[[int], None],
) -> None:
    questions = [f"Question {n}" for n in range(240)]
    workers = start_workers(questions, QA_LEASE="4")
    wait_for_claims(200)
    workers[1].kill()
    assert exit_codes([workers[0], workers[2]]) == [0, 0]
    check_answered_once(records(), questions)
    # Also the answers of its last half second, which only a journal on its machine has.
    assert count_repeated_requests(log, questions) <= 3 * JOBS
    assert max(logged_questions(log).values()) <= 2


@on_postgresql
def test_workers_one_frozen_for_two_leases_asks_no_lost_item(
    start_workers: StartWorkers,
    records: Records,
    log: Path,
    wait_for_claims: Callable[[int], None],
) -> None:
    questions = [f"Question {n}" for n in range(500)]
    workers = start_workers(questions, QA_LEASE="3")
    wait_for_claims(300)
    frozen = workers[1]
    frozen.send_signal(signal.SIGSTOP)
    sleep(6)
    frozen.send_signal(signal.SIGCONT)
    assert exit_codes(workers) == [0, 0, 0]
    check_answered_once(records(), questions)
    assert count_repeated_requests(log, questions) <= JOBS + 1
    assert max(logged_questions(log).values()) <= 2


@on_sqlite
def test_workers_database_restarted_ask_nothing_twice(
    qa: Program,
    start_workers: StartWorkers,
    own_postgres: Postgres,
    own_postgres_url: str,
    records: Records,
    log: Path,
    wait_for_claims: Callable[[int], None],
) -> None:
    qa.env["DATABASE_URL"] = own_postgres_url
    questions = [f"Question {n}" for n in range(300)]
    workers = start_workers(questions)
    wait_for_claims(200)
    with stopped(own_postgres):
        sleep(2)
    assert exit_codes(workers) == [0, 0, 0]
    check_answered_once(records(own_postgres_url), questions)
    # The first process was stopped while it asked one question.
    assert count_repeated_requests(log, questions) <= 1


def test_workers_share_the_rate_limit(
    start_workers: StartWorkers,
    records: Records,
    log: Path,
) -> None:
    questions = [f"Question {n}" for n in range(120)]
    # Without the limit three workers with six jobs would send 60 requests a second.
    workers = start_workers(questions, ("--rpm", "900", "--burst", "15"), ("--rpm", "900"))
    assert exit_codes(workers) == [0, 0, 0]
    check_answered_once(records(), questions)
    assert count_repeated_requests(log, questions) <= 3


@pytest.mark.slow
@on_postgresql
def test_workers_share_the_budget(
    qa: Program, start_workers: StartWorkers, tmp_path: Path, log: Path
) -> None:
    # An answer of three tokens costs a thousandth of a dollar.
    (tmp_path / "prices.toml").write_text('"test-model" = [0.0, 333.333333333]\n')
    questions = [f"{n:03}" for n in range(150)]
    workers = start_workers(questions, options=("--max-cost", "0.0505"))
    assert exit_codes(workers) == [8, 8, 8]
    shown = json.loads(qa("batch", "show", "n", "--json").out)
    assert (shown["max_cost_usd"], shown["reserved_usd"]) == (0.0505, 0)
    assert 0.04 <= shown["spent_usd"] <= 0.0505
    # The first process was stopped while it asked one question.
    assert count_logged(log) <= 51
