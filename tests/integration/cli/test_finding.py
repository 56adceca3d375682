"""`qa search`, prefixes, `qa list --threads` and `--watch`, and the times of `qa stats`."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from qacli.domain import GroupBy, Outcome, Question, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Invoke, Program

    from qacli.db.records import Store

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that sets the local time zone of this process."""

    def use(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield use
    monkeypatch.undo()
    time.tzset()


def keep(store: Store, question: str, answer: str = "An answer.", **fields: Any) -> int:
    outcome = Outcome(status=Status.ANSWERED, answer=answer, latency_ms=1000, cost_usd=0.5)
    record_id = store.upsert(Question(question=question, params={"model": "m"}, **fields), outcome)
    assert record_id is not None
    return record_id


def search_ids(invoke: Invoke, *words: str) -> set[int]:
    done = invoke("search", *words, "--json")
    assert done.code == 0
    return {record["id"] for record in json.loads(done.out)}


def test_search_finds_words_and_starts_of_words(invoke: Invoke, store: Store) -> None:
    keep(store, "What is Kubernetes?")
    keep(store, "And kubectl running here?")
    keep(store, "A kube of well-known ice")
    assert search_ids(invoke, "kuber*") == {1}
    assert search_ids(invoke, "KUBE*") == {1, 2, 3}
    assert search_ids(invoke, "kube") == {3}
    assert search_ids(invoke, "kube*", "running") == {2}
    assert search_ids(invoke, "run*") == {2}
    assert search_ids(invoke, '"of well-kn"*') == set()
    assert search_ids(invoke, "well-kn*") == {3}
    assert search_ids(invoke, "ubernetes*") == set()
    assert search_ids(invoke, "*") == set()


@on_sqlite
def test_search_prints_the_same_as_list_with_search(invoke: Invoke, store: Store) -> None:
    keep(store, "ice cream")
    keep(store, "cream without ice")
    keep(store, "snow")
    assert invoke("search", "ice", "cream").out == invoke("list", "--search", "ice cream").out
    assert invoke("search", "snow", "--format", "csv").out.count("\n") == 2
    assert invoke("search").code == 2


def test_list_threads_has_first_question_and_length(invoke: Invoke, store: Store) -> None:
    first = keep(store, "First?")
    alone = keep(store, "Alone?")
    second = keep(store, "Second?", follows_id=first)
    branch = keep(store, "Branch?", follows_id=first)
    last = keep(store, "Last zebra?", follows_id=second)
    orphan = keep(store, "Its record is gone", follows_id=999)
    threads = json.loads(invoke("list", "--threads", "--json").out)
    assert [(row["id"], row["records"], row["last_id"]) for row in threads] == [
        *((orphan, 1, orphan), (first, 4, last), (alone, 1, alone))
    ]
    assert threads[1]["question"] == "First?"
    assert branch < last
    (row,) = json.loads(invoke("list", "--threads", "--search", "zebra", "--json").out)
    assert row["id"] == first
    assert len(json.loads(invoke("list", "--threads", "-n", "1", "--json").out)) == 1
    lines = invoke("list", "--threads").out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(alone), str(first), str(orphan)]


@on_sqlite
@pytest.mark.parametrize("columns", [80, 40])
def test_list_threads_on_a_terminal_fits_its_width(
    invoke: Invoke, store: Store, console: Callable[..., Any], columns: int
) -> None:
    keep(store, "Wie heißt 世界? " * 20)
    seen = console(invoke, "list", "--threads", columns=columns)
    lines = seen.screen.splitlines()
    assert lines[0].split() == ["ID", "LAST", "LENGTH", "FIRST", "QUESTION"]
    assert all(len(line) <= columns for line in lines)


@on_sqlite
def test_list_of_a_circle_of_records_ends(invoke: Invoke, store: Store) -> None:
    keep(store, "One?", follows_id=2)
    keep(store, "Two?", follows_id=1)
    (row,) = json.loads(invoke("list", "--threads", "--json").out)
    assert (row["id"], row["records"]) == (1, 2)


@on_sqlite
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threads", "--format", "csv"], "--threads does not go with --format csv."),
        (["--threads", "--watch"], "--threads does not go with --watch."),
        (["--threads", "--after", "1"], "--threads does not go with --after."),
        (["--threads", "--order", "oldest"], "--threads does not go with --order."),
        (["--threads", "--similar", "1"], "--threads does not go with --similar."),
        (["--similar", "1", "--before", "9"], "--similar does not go with --before."),
        (["--watch", "--json"], "--watch does not go with --format json."),
        (["--watch", "--after", "1"], "--watch does not go with --after."),
        (["--watch", "--order", "newest"], "--watch does not go with --order."),
        (["--json", "--format", "csv"], "it does not go with --format csv."),
    ],
)
def test_list_options_that_do_not_go_together_exit_2(
    invoke: Invoke, options: list[str], message: str
) -> None:
    done = invoke("list", *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


@on_sqlite
@pytest.mark.parametrize("command", [("ask", "And?"), ("chat",)])
def test_continue_and_follow_together_exit_2(
    invoke: Invoke, store: Store, command: tuple[str, ...]
) -> None:
    keep(store, "One?")
    keep(store, "Two?")
    done = invoke(*command, "--continue", "--follow", "1", stdin="And?\n")
    assert (done.code, done.out) == (2, "")
    assert "--continue follows up the last answered record, and --follow" in done.err


def test_list_watch_prints_records_as_they_are_answered(qa: Program, store: Store) -> None:
    keep(store, "Before?", tags=["t"])
    process = qa.start("list", "--watch", "--format", "jsonl", "--tag", "t")
    try:
        assert json.loads(process.stdout.readline())["question"] == "Before?"
        waiting = Question(question="Later?", params={"model": "m"}, tags=["t"])
        store.upsert(waiting, Outcome(status=Status.ASKING))
        keep(store, "Not this")
        keep(store, "Here?", tags=["t"])
        assert json.loads(process.stdout.readline())["question"] == "Here?"
        store.upsert(waiting, Outcome(status=Status.ANSWERED, answer="Now."))
        record = json.loads(process.stdout.readline())
        assert (record["question"], record["answer"]) == ("Later?", "Now.")
    finally:
        process.terminate()
        process.communicate()


def test_list_watch_ends_when_its_reader_is_gone(qa: Program, store: Store) -> None:
    keep(store, "Before?")
    for options in (["--format", "jsonl"], []):
        process = qa.start("list", "--watch", *options)
        try:
            assert b"Before?" in process.stdout.readline()
            process.stdout.close()
            assert process.wait(30) == 141  # no other record is written
            assert process.stderr.read() == b""
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


@pytest.mark.parametrize(
    ("name", "days", "weeks", "months"),
    [
        ("UTC", ["2025-12-31", "2026-01-01"], ["2026-W01"], ["2025-12", "2026-01"]),
        ("Asia/Kathmandu", ["2026-01-01"], ["2026-W01"], ["2026-01"]),
        ("America/New_York", ["2025-12-31"], ["2026-W01"], ["2025-12"]),
    ],
)
def test_stats_groups_by_local_time(
    invoke: Invoke,
    store: Store,
    zone: Callable[[str], None],
    name: str,
    days: list[str],
    weeks: list[str],
    months: list[str],
) -> None:
    # At 18:20 UTC it is 00:05 in Nepal.
    keep(store, "One?", created_at=datetime(2025, 12, 31, 18, 20, tzinfo=UTC))
    keep(store, "Two?", created_at=datetime(2026, 1, 1, 0, 20, tzinfo=UTC))
    zone(name)
    for by, names in ((GroupBy.DAY, days), (GroupBy.WEEK, weeks), (GroupBy.MONTH, months)):
        rows = json.loads(invoke("stats", "--by", by.value, "--json").out)
        assert [row["name"] for row in rows] == names
        assert sum(row["records"] for row in rows) == sum(row["answered"] for row in rows) == 2
        assert sum(row["cost_usd"] for row in rows) == 1.0
        assert {row["latency_ms"] for row in rows} == {1000}


def test_list_threads_of_an_empty_history_names_the_first_step(invoke: Invoke) -> None:
    assert "Nothing has been asked yet." in invoke("list", "--threads", terminal=True).err
    done = invoke("list", "--threads", "--tag", "x", terminal=True)
    assert "No record matches." in done.err


@pytest.mark.parametrize("arguments", [("show", "77"), ("ask", "--nosuch", "Who?")])
def test_error_on_a_narrow_terminal_breaks_between_words(
    invoke: Invoke, console: Callable[..., Any], arguments: tuple[str, ...]
) -> None:
    wide = console(invoke, *arguments, columns=400).err.split()
    lines = console(invoke, *arguments, columns=24).err.split("\r\n")
    assert len(lines) > 2
    assert " ".join(lines).split() == wide
    assert all(len(line) <= 24 for line in lines)
