"""`qa batch` asks each question and stores each answer once, even after a kill or a fault."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import copytree
from time import sleep
from typing import TYPE_CHECKING, Any

import pytest
from batch_checks import check_answered_once, count_repeated_requests
from databases import count_records
from postgres_server import stopped
from provider_process import count_logged, logged_questions, provider_process

if TYPE_CHECKING:
    from conftest import Postgres, Program, Records
    from fake_provider import FakeProvider

WriteQuestions = Callable[[list[str]], str]

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class BatchProcess:
    """A process of `qa batch`. Its stderr goes to a file, in which a test can wait for a line."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: Path) -> None:
        self.process = process
        self._stderr = stderr

    @property
    def err(self) -> str:
        """The text on stderr so far."""
        return self._stderr.read_text()

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the process, which must not have ended before."""
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL, self.err

    def finish(self, code: int = 0) -> str:
        """Wait for the end; check the exit code and that stderr has no traceback; return stderr."""
        assert self.process.wait(240) == code, self.err
        check_no_traceback(self.err)
        return self.err


StartBatch = Callable[..., BatchProcess]


@pytest.fixture
def write_questions(tmp_path: Path) -> WriteQuestions:
    """Return a function that writes questions to a file, and returns its name."""

    def write(questions: list[str]) -> str:
        (tmp_path / "questions.txt").write_text("\n".join(questions))
        return "questions.txt"

    return write


@pytest.fixture
def start_batch(qa: Program, tmp_path: Path) -> Iterator[StartBatch]:
    """Return a function that starts `qa batch`; kill the processes that a test leaves running."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(
        *arguments: str, cwd: Path | None = None, stdin: Any = subprocess.DEVNULL, **env: str
    ) -> BatchProcess:
        path = tmp_path / f"stderr-{len(processes)}.txt"
        with path.open("wb") as stderr:
            process = qa.start(
                *("batch", *arguments),
                env=env,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=cwd,
            )
        processes.append(process)
        return BatchProcess(process, path)

    yield start
    for process in processes:
        process.kill()
        process.wait(60)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Read a file of results, and check that its last line is complete."""
    text = path.read_text()
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def result_questions(path: Path) -> list[str]:
    """Return the questions in a file of results."""
    return [result["question"] for result in lines_of(path)]


def check_no_traceback(err: str) -> None:
    assert "Traceback" not in err
    assert "should not have" not in err
    assert "Exception" not in err
    assert "never retrieved" not in err


def test_batch_killed_twice_joins_each_row_once(
    qa: Program,
    start_batch: StartBatch,
    provider: FakeProvider,
    tmp_path: Path,
    database_url: str,
    wait_for: Callable[..., Any],
) -> None:
    rows = [[f"r{n}", f'w{n} "x", [[schema latency=0.2]]', f" {n}\r\n;"] for n in range(120)]
    with (tmp_path / "words.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "word", "note"], *rows])
    options = ("--column", "word", "--schema", "label, n int", "-o", "out.csv", "-j", "8")
    for count in (30, 70):
        batch = start_batch("words.csv", *options)
        wait_for(lambda: len(provider.requests) >= count, 60)  # noqa: B023 - called here
        batch.kill()
    done = qa("batch", "words.csv", *options, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["states"]["answered"] == 120
    with (tmp_path / "out.csv").open(newline="") as file:
        head, *joined = csv.reader(file)
    assert head[:6] == ["id", "word", "note", "label", "n", "answer"]
    assert [row[:3] for row in joined] == rows
    assert all(row[6] == "answered" and json.loads(row[5])["label"] == row[3] for row in joined)
    assert count_records(database_url) == 120
    # Only questions in flight at a kill are asked again.
    assert len(provider.requests) <= 120 + 2 * 8
    assert qa("batch", "wait", json.loads(done.out)["name"]).code == 0


@on_sqlite
def test_batch_after_ctrl_c_continues_by_printed_command(
    qa: Program,
    start_batch: StartBatch,
    provider: FakeProvider,
    tmp_path: Path,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    (tmp_path / "two words.csv").write_text(
        "word\n" + "".join(f"w{n} [[latency=0.4]]\n" for n in range(60))
    )
    questions = [f"Say 'w{n} [[latency=0.4]]'!" for n in range(60)]
    options = ("--question", "Say '{word}'!", "--temperature", "0.5", "-o", "out it.jsonl")
    batch = start_batch("two words.csv", *options, "-j", "8")
    wait_for(lambda: len(provider.requests) >= 12, 60)
    batch.interrupt()
    err = batch.finish(130)
    count = len(provider.requests)
    assert count < 40
    # The questions in flight were answered.
    assert Counter(record["status"] for record in records()) == {"answered": count}
    assert result_questions(tmp_path / "out it.jsonl") == questions[:count]

    command = err[err.index("qa batch") :].splitlines()[0]
    bin_first = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command],
        env=qa.environ(PATH=bin_first),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    check_answered_once(records(), questions)
    assert len(provider.requests) == 60
    assert result_questions(tmp_path / "out it.jsonl") == questions


@on_sqlite
def test_batch_ctrl_c_with_many_waiting_asks_nothing_new(
    start_batch: StartBatch,
    provider: FakeProvider,
    records: Records,
    write_questions: WriteQuestions,
    wait_for: Callable[..., Any],
) -> None:
    # The first one is refused, so that fewer requests are allowed at once than there are jobs.
    questions = ["First [[status=503 times=1]]"]
    questions += [f"Question {n} [[latency=1]]" for n in range(200)]
    batch = start_batch(write_questions(questions), "-j", "20")
    wait_for(lambda: len(provider.requests) >= 45, 90)
    batch.interrupt()
    sleep(0.3)  # no output shows when the signal has been handled
    count = len(provider.requests)
    batch.finish(130)
    assert len(provider.requests) == count
    recorded = {record["question"] for record in records()}
    requested = {request.question for request in provider.requests}
    assert recorded <= requested, "recorded, but never asked"
    assert recorded == requested, "asked, but not recorded"


@on_sqlite
def test_batch_ctrl_c_twice_ends_at_once_and_loses_nothing(
    qa: Program,
    start_batch: StartBatch,
    provider: FakeProvider,
    database_url: str,
    records: Records,
    write_questions: WriteQuestions,
    wait_for: Callable[..., Any],
) -> None:
    questions = [f"Question {n}" for n in range(20)]
    questions += [f"Slow {n} [[latency=60 times=1]]" for n in range(10)]
    batch = start_batch(write_questions(questions), "-j", "10")
    wait_for(lambda: len(provider.requests) == 30, 60)
    wait_for(lambda: count_records(database_url) == 20)
    batch.interrupt()
    sleep(0.3)  # two signals at once would count as one
    assert batch.process.poll() is None
    batch.interrupt()
    # After one signal, the end of the grace period prints "Stopped." and a summary.
    err = batch.finish(130)
    assert "Stopped at once" in err
    assert "qa batch questions.txt" in err
    states = Counter(record["status"] for record in records())
    assert states == {"answered": 20, "interrupted": 10}
    done = qa("batch", "questions.txt")
    assert done.code == 0, done.err
    check_answered_once(records(), questions)
    assert Counter(r.question for r in provider.requests if "Slow" not in r.question) == Counter(
        questions[:20]
    )


@on_sqlite
@pytest.mark.parametrize(
    ("kills", "count"), [(4, 600), pytest.param(10, 1500, marks=pytest.mark.slow)]
)
def test_batch_killed_at_any_time_asks_again_only_items_in_flight(
    qa: Program,
    kills: int,
    count: int,
    start_batch: StartBatch,
    database_url: str,
    records: Records,
    write_questions: WriteQuestions,
    log: Path,
    tmp_path: Path,
    wait_for: Callable[..., Any],
) -> None:
    rng, jobs = random.Random(2026), 8
    questions = [f"Question {n}" for n in range(count)]
    name, out = write_questions(questions), tmp_path / "out.jsonl"
    with provider_process("--latency", "0.05", "--log", str(log)) as base_url:
        for _ in range(kills):
            before = log.stat().st_size
            batch = start_batch(name, "-j", str(jobs), "-o", str(out), OPENAI_BASE_URL=base_url)
            # Kill it while it asks: its start takes longer than the rest.
            wait_for(lambda: log.stat().st_size > before)  # noqa: B023 - called here
            sleep(rng.uniform(0, 0.9))
            batch.kill()
        done = qa("batch", name, "-j", "32", "-o", str(out), OPENAI_BASE_URL=base_url)
    assert done.code == 0, done.err
    check_answered_once(records(), questions)
    assert 0 < count_repeated_requests(log, questions) <= kills * jobs
    assert result_questions(out) == questions
    assert not list(Path(f"{database_url.removeprefix('sqlite:///')}.outbox").iterdir())


def test_batch_in_two_processes_asks_no_item_twice(
    start_batch: StartBatch,
    records: Records,
    write_questions: WriteQuestions,
    log: Path,
    tmp_path: Path,
) -> None:
    questions = [f"Question {n}" for n in range(160)]
    name = write_questions(questions)
    with provider_process("--latency", "0.4", "--log", str(log)) as base_url:
        batches = [
            start_batch(name, "-j", "8", "-o", f"out{n}.jsonl", OPENAI_BASE_URL=base_url)
            for n in (1, 2)
        ]
        errs = [batch.finish() for batch in batches]
    assert logged_questions(log) == Counter(questions)
    check_answered_once(records(), questions)
    # Each process asked a part of the questions, and wrote all results.
    counts = [int(re.findall(r"; ([\d,]+) asked in", err)[0].replace(",", "")) for err in errs]
    assert sum(counts) == len(questions)
    assert min(counts) >= len(questions) / 6
    for number in (1, 2):
        assert result_questions(tmp_path / f"out{number}.jsonl") == questions


def test_batch_one_of_two_processes_killed_is_finished_by_other(
    start_batch: StartBatch,
    records: Records,
    write_questions: WriteQuestions,
    log: Path,
    wait_for: Callable[..., Any],
) -> None:
    questions = [f"Question {n}" for n in range(160)]
    name = write_questions(questions)
    with provider_process("--latency", "0.5", "--log", str(log)) as base_url:
        first, second = (start_batch(name, "-j", "8", OPENAI_BASE_URL=base_url) for _ in range(2))
        wait_for(lambda: count_logged(log) >= 48, 120)
        first.kill()
        second.finish()
    check_answered_once(records(), questions)
    assert count_repeated_requests(log, questions) <= 8
    assert max(logged_questions(log).values()) <= 2


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("copied", [False, True])
def test_batch_on_two_machines_of_one_name_asks_no_item_twice(
    qa: Program,
    start_batch: StartBatch,
    records: Records,
    log: Path,
    tmp_path: Path,
    copied: bool,
) -> None:
    questions = [f"Question {n}" for n in range(120)]
    machines = [tmp_path / "one", tmp_path / "two"]
    for machine in machines:
        machine.mkdir()
        (machine / "questions.txt").write_text("\n".join(questions))
    if copied:
        (tmp_path / "first.txt").write_text("First?")
        done = qa("batch", "first.txt", QA_DATA_DIR=str(machines[0] / "data"))
        assert done.code == 0, done.err
        copytree(machines[0] / "data", machines[1] / "data")
        questions.append("First?")
    with (
        provider_process("--latency", "0.7", "--log", str(log)) as base_url,
        ExitStack() as files,
    ):
        batches = [
            # The same relative path on both machines, each in its own directory.
            start_batch(
                *("-", "--name", "shared", "-j", "8"),
                cwd=machine,
                QA_DATA_DIR="data",
                OPENAI_BASE_URL=base_url,
                stdin=files.enter_context((machine / "questions.txt").open("rb")),
            )
            for machine in machines
        ]
        for batch in batches:
            batch.finish()
    assert logged_questions(log) == Counter(questions[:120])
    check_answered_once(records(), questions)


@on_sqlite
def test_batch_random_faults_lose_no_answer(
    qa: Program,
    records: Records,
    write_questions: WriteQuestions,
    log: Path,
    tmp_path: Path,
) -> None:
    questions = [f"Question {n}" for n in range(80)]
    faults = ("--fail-rate", "0.2", "--latency", "0.02", "--seed", "7", "--log", str(log))
    with provider_process(*faults) as base_url:
        done = qa(
            *("batch", write_questions(questions), "-o", "out.jsonl", "--timeout", "1.5"),
            OPENAI_BASE_URL=base_url,
            timeout=120,
        )
    assert done.code == 0, done.err
    check_no_traceback(done.err)
    check_answered_once(records(), questions)
    assert result_questions(tmp_path / "out.jsonl") == questions
    assert count_logged(log) > 85


@on_sqlite
def test_batch_hung_item_delays_no_other_item_and_takes_no_memory(
    qa: Program,
    tmp_path: Path,
    database_url: str,
    wait_for: Callable[..., Any],
) -> None:
    others = [f"Question {n}" for n in range(500)]
    with provider_process("--size", "30000") as base_url:

        def run(first: str) -> tuple[int, Path]:
            file = tmp_path / f"{first[:4]}.txt"
            file.write_text("\n".join([first, *others]))
            out = tmp_path / f"{first[:4]}.jsonl"
            arguments = (str(file), "-q", "-j", "16", "-o", str(out), "--timeout", "20")
            # `wait4` returns the memory of this process alone.
            program = [*qa.command, "batch", *arguments]
            env = qa.environ(OPENAI_BASE_URL=base_url)
            return os.posix_spawn(program[0], program, env), out

        process, _ = run("Quick")
        _, status, usual = os.wait4(process, 0)
        assert status == 0
        process, out = run("Hung [[hang times=1]]")
        # Before the timeout, after which the first question is asked again.
        wait_for(lambda: count_records(database_url) == 2 * len(others) + 1, 120)
        assert os.waitpid(process, os.WNOHANG) == (0, 0)
        assert lines_of(out) == []
        _, status, used = os.wait4(process, 0)
    assert status == 0
    assert used.ru_maxrss < 1.15 * usual.ru_maxrss + 8_000, (used.ru_maxrss, usual.ru_maxrss)
    assert result_questions(out) == ["Hung [[hang times=1]]", *others]


@on_sqlite
def test_batch_cancelled_stops_and_its_progress_shows_the_pause(
    qa: Program,
    start_batch: StartBatch,
    provider: FakeProvider,
    write_questions: WriteQuestions,
    wait_for: Callable[..., Any],
) -> None:
    questions = [
        f"Question {n} [[status=429 retry_after=60 message='Slow down.' times=1]]"
        for n in range(2000)
    ]
    parts = ("in flight", "retrying", "/s", "tokens/s", "paused until", "Slow down.")

    def has_pause_line() -> bool:
        lines = re.findall(r"^\S+ of 2,000 .*$", batch.err, re.MULTILINE)
        return any(all(part in line for part in parts) for line in lines)

    batch = start_batch(write_questions(questions), "--name", "n", "-j", "10")
    # All are refused, so on a slow machine the last of them are sent one at a time.
    wait_for(lambda: len(provider.requests) >= 40, 60)
    # Every ten seconds a line of progress is printed.
    wait_for(has_pause_line)
    assert qa("batch", "cancel", "n").code == 0
    assert "ancelled" in batch.finish(8)
    # Each job holds no more than four items that wait.
    assert len(provider.requests) == 40
    assert json.loads(qa("batch", "list", "--json").out)[0]["cancelled"] is True
    # The same command resumes the batch.
    provider.default = "status=401"
    assert qa("batch", "questions.txt", "--name", "n").code == 3
    assert json.loads(qa("batch", "list", "--json").out)[0]["cancelled"] is False


@on_sqlite
def test_batch_database_down_for_seconds_loses_nothing(
    start_batch: StartBatch,
    own_postgres: Postgres,
    own_postgres_url: str,
    records: Records,
    write_questions: WriteQuestions,
    log: Path,
    wait_for: Callable[..., Any],
) -> None:
    questions = [f"Question {n}" for n in range(200)]
    with provider_process("--latency", "0.3", "--log", str(log)) as base_url:
        env = {"DATABASE_URL": own_postgres_url, "OPENAI_BASE_URL": base_url}
        batch = start_batch(write_questions(questions), "-j", "8", **env)
        wait_for(lambda: count_logged(log) >= 40, 120)
        with stopped(own_postgres):
            sleep(3)
        batch.finish()
    assert logged_questions(log) == Counter(questions)
    check_answered_once(records(own_postgres_url), questions)


@on_sqlite
def test_batch_full_disk_stops_at_once_and_asks_few_again(
    qa: Program,
    records: Records,
    write_questions: WriteQuestions,
    log: Path,
) -> None:
    questions = [f"Question {n}" for n in range(200)]
    name = write_questions(questions)
    limit = 600_000
    # Some answers are too large for the new journal, the last place that is tried.
    with provider_process("--size", "200000", "--latency", "0.05", "--log", str(log)) as base_url:
        process = subprocess.run(
            [*qa.command, "batch", name, "-q", "-j", "32", "-o", "/dev/null"],
            env=qa.environ(OPENAI_BASE_URL=base_url),
            capture_output=True,
            timeout=240,
            check=False,
            # It limits the database, the journal, and a new journal for the questions in flight.
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        err = process.stderr.decode()
        check_no_traceback(err)
        assert process.returncode == 7, err
        assert "neither in the outbox nor in the database" in err
        assert "Make room" in err
        assert 20 < count_logged(log) < 200
        done = qa("batch", name, "-q", "-o", "/dev/null", OPENAI_BASE_URL=base_url)
    assert done.code == 0, done.err
    assert len(records()) == 200
    # Only the questions in flight are asked again.
    assert count_logged(log) - 200 <= 32


def test_batch_cells_that_cannot_be_stored_are_refused_or_marked(
    qa: Program, provider: FakeProvider, tmp_path: Path
) -> None:
    path, output = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_text('{"text": "One?", "n": "\\u0000", "\\ud800": [1]}\n{"text": "Two?"}\n')
    refused = qa("batch", str(path), "-o", str(output))
    assert (refused.code, provider.requests) == (2, []), refused.err
    done = qa("batch", str(path), "--skip-bad", "--join", "-o", str(output))
    assert done.code == 8, done.err
    first, second = lines_of(output)
    assert (first["n"], first["\ufffd"], first["status"]) == ("\ufffd", [1], "failed")
    assert (second["text"], second["status"]) == ("Two?", "answered")


def test_batch_rm_of_a_batch_that_is_asked_is_refused_unless_forced(
    qa: Program, provider: FakeProvider, write_questions: WriteQuestions
) -> None:
    provider.default = "latency=0.2"
    path = write_questions([f"question {number}" for number in range(500)])
    process = qa.start("batch", path, "--name", "n", "--jobs", "4", "-q", stderr=subprocess.PIPE)
    try:
        while not provider.requests:
            sleep(0.05)
        refused = qa("batch", "rm", "n")
        assert refused.code == 2
        assert f":{process.pid}" in refused.err
        assert qa("batch", "rm", "n", "--force").code == 0
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 4
    assert "The batch was removed while it was asked." in str(err)


@on_sqlite
def test_batch_rm_after_a_kill_is_not_refused(
    qa: Program,
    provider: FakeProvider,
    write_questions: WriteQuestions,
    start_batch: StartBatch,
) -> None:
    provider.default = "latency=0.2"
    questions = [f"question {number}" for number in range(500)]
    process = start_batch(write_questions(questions), "--name", "n").process
    while not provider.requests:
        sleep(0.05)
    process.kill()
    process.wait(timeout=60)
    assert qa("batch", "rm", "n").code == 0


@on_sqlite
def test_batch_output_that_is_removed_meanwhile_is_an_error_and_written_by_the_next_run(
    qa: Program, provider: FakeProvider, write_questions: WriteQuestions, tmp_path: Path
) -> None:
    provider.default = "latency=0.2"
    questions = [f"question {number}" for number in range(30)]
    file = write_questions(questions)
    command = ("batch", file, "--name", "n", "--jobs", "4", "-o", "a.jsonl", "-q")
    process = qa.start(*command, stderr=subprocess.PIPE)
    try:
        while not provider.requests:
            sleep(0.05)
        (tmp_path / "a.jsonl").unlink()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 7
    assert "a.jsonl: the file was removed or replaced" in str(err)
    asked = len(provider.requests)
    assert qa(*command).code == 0
    assert len(lines_of(tmp_path / "a.jsonl")) == len(questions)
    assert len(provider.requests) == asked
