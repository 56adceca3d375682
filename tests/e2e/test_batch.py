"""The promise of `qa batch`: each question asked once and answered once, whatever happens."""

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
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest
from databases import count_records
from provider_process import count_logged, logged_questions, provider_process

if TYPE_CHECKING:
    from conftest import Postgres, Program
    from fake_provider import FakeProvider

Records = Callable[..., list[dict[str, Any]]]
Write = Callable[[list[str]], str]

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of questions, and gives its name."""

    def write(questions: list[str]) -> str:
        (tmp_path / "questions.txt").write_text("\n".join(questions))
        return "questions.txt"

    return write


@pytest.fixture
def begin(qa: Program) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `qa batch` with its output in no one's way; ends what a test leaves running."""
    started = []

    def begin(
        *arguments: str, cwd: Path | None = None, stdin: Any = subprocess.DEVNULL, **env: str
    ) -> subprocess.Popen[bytes]:
        process = qa.start(
            "batch", *arguments, env=env, stdout=subprocess.DEVNULL, stdin=stdin, cwd=cwd
        )
        started.append(process)
        return process  # type: ignore[no-any-return]

    yield begin
    for process in started:
        process.kill()
        process.communicate(timeout=60)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of results, all of them whole."""
    text = path.read_text()
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def all_answered_once(found: list[dict[str, Any]], questions: list[str]) -> None:
    """Each question has one record, and that has its answer."""
    assert Counter(record["question"] for record in found) == Counter(questions)
    for record in found:
        assert record["status"] == "answered", record["error"]
        assert record["answer"] == f"Answer to: {record['question']}"


def no_trace(err: str) -> None:
    assert "Traceback" not in err
    assert "should not have" not in err
    assert "Exception" not in err
    assert "never retrieved" not in err


def test_batch_killed_twice_joins_each_row_once(
    qa: Program,
    begin: Callable[..., subprocess.Popen[bytes]],
    provider: FakeProvider,
    tmp_path: Path,
    database_url: str,
    wait_for: Callable[..., Any],
) -> None:
    rows = [[f"r{n}", f'w{n} "x", [[schema latency=0.2]]', f" {n}\r\n;"] for n in range(120)]
    with (tmp_path / "words.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "word", "note"], *rows])
    options = ("--column", "word", "--schema", "label, n int", "-o", "out.csv", "-j", "8")
    for asked in (30, 70):
        process = begin("words.csv", *options)
        wait_for(lambda: len(provider.requests) >= asked, 60)  # noqa: B023 - called here
        process.kill()
        process.communicate(timeout=60)
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
    begin: Callable[..., subprocess.Popen[bytes]],
    provider: FakeProvider,
    tmp_path: Path,
    database_url: str,
    records: Records,
    wait_for: Callable[..., Any],
) -> None:
    (tmp_path / "two words.csv").write_text(
        "word\n" + "".join(f"w{n} [[latency=0.4]]\n" for n in range(60))
    )
    questions = [f"Say 'w{n} [[latency=0.4]]'!" for n in range(60)]
    options = ("--question", "Say '{word}'!", "--temperature", "0.5", "-o", "out it.jsonl")
    process = begin("two words.csv", *options, "-j", "8")
    wait_for(lambda: len(provider.requests) >= 12, 60)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    err = printed.decode()
    no_trace(err)
    assert process.returncode == 130
    asked = len(provider.requests)
    assert asked < 40
    # What was in flight got its answer.
    assert Counter(record["status"] for record in records(database_url)) == {"answered": asked}
    assert [line["question"] for line in lines_of(tmp_path / "out it.jsonl")] == questions[:asked]

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
    all_answered_once(records(database_url), questions)
    assert len(provider.requests) == 60
    assert [line["question"] for line in lines_of(tmp_path / "out it.jsonl")] == questions


@on_sqlite
def test_batch_ctrl_c_with_many_waiting_asks_nothing_new(
    begin: Callable[..., subprocess.Popen[bytes]],
    provider: FakeProvider,
    database_url: str,
    records: Records,
    write: Write,
    wait_for: Callable[..., Any],
) -> None:
    # The first one is refused, so that the window is smaller than the number of jobs.
    questions = ["First [[status=503 times=1]]"]
    questions += [f"Question {n} [[latency=1]]" for n in range(200)]
    process = begin(write(questions), "-j", "20")
    wait_for(lambda: len(provider.requests) >= 45, 90)
    process.send_signal(signal.SIGINT)
    sleep(0.3)
    asked = len(provider.requests)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(provider.requests) == asked
    no_trace(err.decode())
    found = records(database_url)
    reached = {request.question for request in provider.requests}
    assert {record["question"] for record in found} <= reached, "on record, but never asked"
    assert {record["question"] for record in found} == reached, "asked, but not on record"


@on_sqlite
def test_batch_ctrl_c_twice_ends_at_once_and_loses_nothing(
    qa: Program,
    begin: Callable[..., subprocess.Popen[bytes]],
    provider: FakeProvider,
    database_url: str,
    records: Records,
    write: Write,
    wait_for: Callable[..., Any],
) -> None:
    questions = [f"Question {n}" for n in range(20)]
    questions += [f"Slow {n} [[latency=60 times=1]]" for n in range(10)]
    process = begin(write(questions), "-j", "10")
    wait_for(lambda: len(provider.requests) == 30, 60)
    sleep(0.2)
    process.send_signal(signal.SIGINT)
    sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    began = monotonic()
    _, err = process.communicate(timeout=60)
    assert monotonic() - began < 3
    assert process.returncode == 130
    assert "qa batch questions.txt" in err.decode()
    no_trace(err.decode())
    states = Counter(record["status"] for record in records(database_url))
    assert states == {"answered": 20, "interrupted": 10}
    done = qa("batch", "questions.txt")
    assert done.code == 0, done.err
    all_answered_once(records(database_url), questions)
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
    begin: Callable[..., subprocess.Popen[bytes]],
    database_url: str,
    records: Records,
    write: Write,
    log: Path,
    tmp_path: Path,
) -> None:
    chance, jobs = random.Random(2026), 8
    questions = [f"Question {n}" for n in range(count)]
    name, out = write(questions), tmp_path / "out.jsonl"
    begun = 0
    with provider_process("--latency", "0.05", "--log", str(log)) as base_url:
        for _ in range(kills):
            process = begin(name, "-j", str(jobs), "-o", str(out), OPENAI_BASE_URL=base_url)
            before = log.stat().st_size
            # From the moment that it asks: most of a process's life is spent on its start.
            while log.stat().st_size == before and process.poll() is None:
                sleep(0.01)
            sleep(chance.uniform(0, 0.9))
            process.kill()
            assert process.wait() == -signal.SIGKILL, process.communicate()
            begun += 1
        # As the kill left it: whole lines, but for the last one.
        done = qa("batch", name, "-j", "32", "-o", str(out), OPENAI_BASE_URL=base_url)
    assert done.code == 0, done.err
    all_answered_once(records(database_url), questions)
    asked = logged_questions(log)
    assert set(asked) == set(questions)
    twice = sum(asked.values()) - len(questions)
    assert twice <= kills * jobs
    assert twice > 0
    assert [line["question"] for line in lines_of(out)] == questions
    assert not list(Path(f"{database_url.removeprefix('sqlite:///')}.outbox").iterdir())


def test_batch_in_two_processes_asks_no_item_twice(
    begin: Callable[..., subprocess.Popen[bytes]],
    database_url: str,
    records: Records,
    write: Write,
    log: Path,
    tmp_path: Path,
) -> None:
    questions = [f"Question {n}" for n in range(160)]
    name = write(questions)
    with provider_process("--latency", "0.4", "--log", str(log)) as base_url:
        both = [
            begin(name, "-j", "8", "-o", f"out{n}.jsonl", OPENAI_BASE_URL=base_url) for n in (1, 2)
        ]
        ends = [process.communicate(timeout=240)[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert logged_questions(log) == Counter(questions)
    all_answered_once(records(database_url), questions)
    # Each did a part of it, and each wrote all of it.
    shares = [int(re.findall(r"; ([\d,]+) asked in", end)[0].replace(",", "")) for end in ends]
    assert sum(shares) == len(questions)
    assert min(shares) >= len(questions) / 6
    for number in (1, 2):
        out = lines_of(tmp_path / f"out{number}.jsonl")
        assert [line["question"] for line in out] == questions


def test_batch_one_of_two_processes_killed_is_finished_by_other(
    begin: Callable[..., subprocess.Popen[bytes]],
    database_url: str,
    records: Records,
    write: Write,
    log: Path,
    wait_for: Callable[..., Any],
) -> None:
    questions = [f"Question {n}" for n in range(160)]
    name = write(questions)
    with provider_process("--latency", "0.5", "--log", str(log)) as base_url:
        one, two = (begin(name, "-j", "8", OPENAI_BASE_URL=base_url) for _ in range(2))
        wait_for(lambda: count_logged(log) >= 48, 120)
        one.kill()
        _, err = two.communicate(timeout=240)
    assert two.returncode == 0, err
    all_answered_once(records(database_url), questions)
    asked = logged_questions(log)
    assert sum(asked.values()) - len(questions) <= 8
    assert max(asked.values()) <= 2


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("copied", [False, True])
def test_batch_on_two_machines_of_one_name_asks_no_item_twice(
    qa: Program,
    begin: Callable[..., subprocess.Popen[bytes]],
    database_url: str,
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
        made = qa("batch", "first.txt", QA_DATA_DIR=str(machines[0] / "data"))
        assert made.code == 0, made.err
        copytree(machines[0] / "data", machines[1] / "data")
        questions.append("First?")
    with (
        provider_process("--latency", "0.7", "--log", str(log)) as base_url,
        ExitStack() as files,
    ):
        both = [
            # The same words on both machines; they are other directories all the same.
            begin(
                *("-", "--name", "shared", "-j", "8"),
                cwd=machine,
                QA_DATA_DIR="data",
                OPENAI_BASE_URL=base_url,
                stdin=files.enter_context((machine / "questions.txt").open("rb")),
            )
            for machine in machines
        ]
        ends = [process.communicate(timeout=240)[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    for end in ends:
        no_trace(end)
    assert logged_questions(log) == Counter(questions[:120])
    all_answered_once(records(database_url), questions)


@on_sqlite
def test_batch_random_faults_lose_no_answer(
    qa: Program,
    database_url: str,
    records: Records,
    write: Write,
    log: Path,
    tmp_path: Path,
) -> None:
    questions = [f"Question {n}" for n in range(80)]
    faults = ("--fail-rate", "0.2", "--latency", "0.02", "--seed", "7", "--log", str(log))
    with provider_process(*faults) as base_url:
        done = qa(
            *("batch", write(questions), "-o", "out.jsonl", "--timeout", "1.5"),
            OPENAI_BASE_URL=base_url,
            timeout=120,
        )
    assert done.code == 0, done.err
    no_trace(done.err)
    all_answered_once(records(database_url), questions)
    assert [line["question"] for line in lines_of(tmp_path / "out.jsonl")] == questions
    assert count_logged(log) > 85


@on_sqlite
def test_batch_hung_item_delays_no_other_item_and_takes_no_memory(
    qa: Program,
    database_url: str,
    tmp_path: Path,
    wait_for: Callable[..., Any],
) -> None:
    behind = [f"Question {n}" for n in range(500)]
    with provider_process("--size", "30000") as base_url:

        def run(first: str) -> tuple[int, Path]:
            file = tmp_path / f"{first[:4]}.txt"
            file.write_text("\n".join([first, *behind]))
            out = tmp_path / f"{first[:4]}.jsonl"
            arguments = (str(file), "-q", "-j", "16", "-o", str(out), "--timeout", "20")
            # By its id alone: `wait4` tells the memory of just this process.
            program = [*qa.command, "batch", *arguments]
            env = qa.environ(OPENAI_BASE_URL=base_url)
            return os.posix_spawn(program[0], program, env), out

        process, _ = run("Quick")
        _, status, usual = os.wait4(process, 0)
        assert status == 0
        process, out = run("Hung [[hang times=1]]")
        # Before the timeout, after which the first question is asked again.
        wait_for(lambda: count_records(database_url) == 2 * len(behind) + 1, 120)
        assert os.waitpid(process, os.WNOHANG) == (0, 0)
        assert lines_of(out) == []
        _, status, used = os.wait4(process, 0)
    assert status == 0
    assert used.ru_maxrss < 1.15 * usual.ru_maxrss + 8_000, (used.ru_maxrss, usual.ru_maxrss)
    asked = [line["question"] for line in lines_of(out)]
    assert asked == ["Hung [[hang times=1]]", *behind]


@on_sqlite
def test_batch_cancelled_stops_and_its_progress_shows_the_pause(
    qa: Program,
    begin: Callable[..., subprocess.Popen[bytes]],
    provider: FakeProvider,
    write: Write,
    wait_for: Callable[..., Any],
) -> None:
    questions = [
        f"Question {n} [[status=429 retry_after=60 message='Slow down.' times=1]]"
        for n in range(2000)
    ]
    process = begin(write(questions), "--name", "n", "-j", "10")
    # All are refused, so the pace sends the last of them one at a time on a slow machine.
    wait_for(lambda: len(provider.requests) >= 40, 60)
    sleep(11)  # a line of the progress every ten seconds
    assert qa("batch", "cancel", "n").code == 0
    _, printed = process.communicate(timeout=60)
    err = printed.decode()
    no_trace(err)
    assert process.returncode == 8
    assert "ancelled" in err
    # Each job holds no more than four items that wait.
    assert len(provider.requests) == 40
    assert json.loads(qa("batch", "list", "--json").out)[0]["cancelled"] is True
    # On a slow machine, the first line shows the time before the pause.
    lines = re.findall(r"^\S+ of 2,000 .*$", err, re.MULTILINE)
    parts = ("in flight", "retrying", "/s", "tokens/s", "paused until", "Slow down.")
    assert any(all(part in line for part in parts) for line in lines), lines
    # The same command takes the cancellation back.
    provider.default = "status=401"
    assert qa("batch", "questions.txt", "--name", "n").code == 3
    assert json.loads(qa("batch", "list", "--json").out)[0]["cancelled"] is False


@on_sqlite
def test_batch_database_down_for_seconds_loses_nothing(
    qa: Program,
    begin: Callable[..., subprocess.Popen[bytes]],
    own_postgres: Postgres,
    records: Records,
    write: Write,
    log: Path,
    wait_for: Callable[..., Any],
) -> None:
    own_postgres.psql("CREATE DATABASE batches")
    url = own_postgres.get_uri("batches")
    assert qa("migrate", DATABASE_URL=url).code == 0
    questions = [f"Question {n}" for n in range(200)]
    with provider_process("--latency", "0.3", "--log", str(log)) as base_url:
        process = begin(write(questions), "-j", "8", DATABASE_URL=url, OPENAI_BASE_URL=base_url)
        wait_for(lambda: count_logged(log) >= 40, 120)
        own_postgres.stop()
        try:
            sleep(3)
        finally:
            own_postgres.start()
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    no_trace(err.decode())
    assert logged_questions(log) == Counter(questions)
    all_answered_once(records(url), questions)


@on_sqlite
def test_batch_full_disk_stops_at_once_and_asks_few_again(
    qa: Program,
    database_url: str,
    records: Records,
    write: Write,
    log: Path,
) -> None:
    questions = [f"Question {n}" for n in range(200)]
    name = write(questions)
    limit = 600_000
    # A few answers are too large for the new journal that is tried last.
    with provider_process("--size", "200000", "--latency", "0.05", "--log", str(log)) as base_url:
        process = subprocess.run(
            [*qa.command, "batch", name, "-q", "-j", "32", "-o", "/dev/null"],
            env=qa.environ(OPENAI_BASE_URL=base_url),
            capture_output=True,
            timeout=240,
            check=False,
            # No file may grow further: the database, a journal, or a new one for what is in flight.
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        err = process.stderr.decode()
        no_trace(err)
        assert process.returncode == 7, err
        assert "neither in the outbox nor in the database" in err
        assert "Make room" in err
        asked = count_logged(log)
        assert 20 < asked < 200
        done = qa("batch", name, "-q", "-o", "/dev/null", OPENAI_BASE_URL=base_url)
    assert done.code == 0, done.err
    assert len(records(database_url)) == 200
    # What was in flight when the disk was full, and no more.
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
    qa: Program, provider: FakeProvider, write: Write
) -> None:
    provider.default = "latency=0.2"
    path = write([f"question {number}" for number in range(500)])
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
    qa: Program, provider: FakeProvider, write: Write, begin: Callable[..., Any]
) -> None:
    provider.default = "latency=0.2"
    process = begin(write([f"question {number}" for number in range(500)]), "--name", "n")
    while not provider.requests:
        sleep(0.05)
    process.kill()
    process.wait(timeout=60)
    assert qa("batch", "rm", "n").code == 0


@on_sqlite
def test_batch_output_that_is_removed_meanwhile_is_an_error_and_written_by_the_next_run(
    qa: Program, provider: FakeProvider, write: Write, tmp_path: Path
) -> None:
    provider.default = "latency=0.2"
    questions = [f"question {number}" for number in range(30)]
    command = ("batch", write(questions), "--name", "n", "--jobs", "4", "-o", "a.jsonl", "-q")
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
