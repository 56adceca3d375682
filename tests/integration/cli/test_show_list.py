from __future__ import annotations

import csv
import io
import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from rich.cells import cell_len

from qacli.config.settings import Settings
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status
from qacli.record_fields import RECORD_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Invoke, Program
    from fake_provider import FakeProvider

ANSWERED = Outcome(
    status=Status.ANSWERED,
    answer="Answer",
    answered_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    latency_ms=1200,
    model="m-2026",
)
HOSTILE = "\x1b]0;x\x07 \x1b[31mred \x9b2J \u202etxt"

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def add_records(database_url: str) -> Callable[..., None]:
    """Return a function that adds records to the history without the program."""

    def add(*questions: str, answer: str = "Answer") -> None:
        store = Store.open(Settings(database_url=database_url).database)
        for question in questions:
            ask = Question(question=question, params={"model": "m"})
            store.upsert(ask, replace(ANSWERED, answer=answer))
        store.close()

    return add


def ids(lines: str) -> list[int]:
    return [int(line.partition("\t")[0]) for line in lines.splitlines()]


def test_show_and_list_return_the_record_on_both_databases(invoke: Invoke) -> None:
    asked = json.loads(invoke("ask", "--json", "Grüße, 世界 🌍").out)
    assert json.loads(invoke("show", "last", "--json").out) == asked
    assert json.loads(invoke("list", "--json").out) == [asked]
    missing = invoke("show", "2")
    assert (missing.code, missing.out) == (4, "")
    assert "There is no record 2." in missing.err


@on_sqlite
def test_show_by_id_prints_the_record_or_one_field(
    invoke: Invoke, add_records: Callable[..., None]
) -> None:
    add_records("one?", "two?")
    shown = invoke("show", "1")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.endswith("\n\none?\n\nAnswer\n")
    assert "Record 1 · " in shown.out
    assert "m-2026" in shown.out
    assert invoke("show", "last", "--field", "question").out == "two?\n"
    assert invoke("show", "last", "--field", "latency_ms").out == "1200\n"
    assert invoke("show", "last", "--field", "question", "--json").out == '"two?"\n'


@on_sqlite
def test_show_prints_follows_files_and_tags(
    invoke: Invoke, add_records: Callable[..., None], home: Path
) -> None:
    add_records("one?")
    (home / "notes.md").write_text("notes")
    asked = invoke(
        "ask", "--follow", "1", "-f", str(home / "notes.md"), "--tag", "a", "--tag", "b", "?"
    )
    assert asked.code == 0
    head = invoke("show", "last").out.partition("\n")[0]
    assert head.endswith(f" · follows 1 · {home / 'notes.md'} (5 bytes) · tagged a, b")
    for absent in ("follows", "tagged", "USD"):
        assert absent not in invoke("show", "1").out


@on_sqlite
def test_show_image_by_address_has_no_size(invoke: Invoke, store: Store) -> None:
    image = {"name": "https://a.example/cat.png", "size": None, "sha256": None}
    store.upsert(Question(question="What is it?", attachments=[image]), ANSWERED)
    assert invoke("show", "last").out.partition("\n")[0].endswith(f" · {image['name']}")


@on_sqlite
def test_stats_on_a_narrow_screen_drops_the_last_columns(
    invoke: Invoke, add_records: Callable[..., None], console: Callable[..., Any]
) -> None:
    add_records("one?")
    lines = console(invoke, "stats", columns=36).out.splitlines()
    assert lines[0].split() == ["day", "asked", "answered", "tokens"]
    assert max(map(len, lines)) <= 36


@on_sqlite
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["show", "one"], 2),
        (["show", "-1"], 4),
        (["show", "1.0"], 2),
        (["show", "²"], 2),
        (["show", "1", "--field", "nonsense"], 2),
        (["show", "last"], 4),
        (["show", "9" * 40], 4),
        (["list", "--limit", "-1"], 2),
        (["list", "--format", "xml"], 2),
        (["list", "extra"], 2),
    ],
    ids=lambda value: " ".join(value)[:20] if isinstance(value, list) else str(value),
)
def test_show_and_list_invalid_arguments_print_an_error(
    invoke: Invoke, arguments: list[str], code: int
) -> None:
    done = invoke(*arguments)
    assert (done.code, done.out) == (code, "")
    assert done.err
    assert "Traceback" not in done.err


@on_sqlite
def test_list_empty_history_exits_0(invoke: Invoke, console: Callable[..., Any]) -> None:
    assert (invoke("list").code, invoke("list").out) == (0, "")
    assert invoke("list", "--json").out == "[]\n"
    assert "Nothing has been asked yet." in console(invoke, "list").err


@on_sqlite
def test_list_in_every_format_has_all_fields(
    invoke: Invoke, add_records: Callable[..., None], records: Callable[[], Any]
) -> None:
    add_records('a "quoted", one', "two\nlines\tand a tab", answer="An\nanswer")
    expected = records()
    assert json.loads(invoke("list", "--format", "json").out) == expected
    lines = invoke("list", "--format", "jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == expected
    rows = list(csv.DictReader(io.StringIO(invoke("list", "--format", "csv").out, newline="")))
    assert list(rows[0]) == list(RECORD_FIELDS)
    assert [row["question"] for row in rows] == [record["question"] for record in expected]
    assert json.loads(rows[0]["params"]) == {"model": "m"}
    table = [line.split("\t") for line in invoke("list").out.splitlines()]
    assert [row[0] for row in table] == ["1", "2"]
    assert [row[2:] for row in table] == [
        ["answered", 'a "quoted", one', "An answer"],
        ["answered", "two lines and a tab", "An answer"],
    ]


def test_list_prints_the_newest_or_those_after_or_before(
    invoke: Invoke, add_records: Callable[..., None]
) -> None:
    add_records(*(str(number) for number in range(1, 26)))
    assert ids(invoke("list").out) == list(range(6, 26))
    assert ids(invoke("list", "-n", "2").out) == [24, 25]
    assert ids(invoke("list", "--limit", "0").out) == list(range(1, 26))
    assert ids(invoke("list", "--limit", "3", "--before", "10").out) == [7, 8, 9]
    assert ids(invoke("list", "--limit", "3", "--after", "10").out) == [11, 12, 13]
    assert ids(invoke("list", "-n", "0", "--after", "20", "--before", "23").out) == [21, 22]


@on_sqlite
@pytest.mark.parametrize("columns", [50, 100])
def test_list_table_with_any_text_fits_the_terminal(
    invoke: Invoke, add_records: Callable[..., None], console: Callable[..., Any], columns: int
) -> None:
    add_records(
        "世界" * 60, "ASCII " * 60, "🌍" * 60, f"evil {HOSTILE}", answer="漢字 und Text " * 40
    )
    seen = console(invoke, "list", columns=columns)
    assert (seen.code, seen.err) == (0, "")
    lines = seen.out.splitlines()
    assert len(lines) == 5
    assert max(cell_len(line) for line in lines) <= columns
    assert "\x1b" not in seen.out
    # The columns start at the same place in every line.
    starts = [cell_len(line[: line.index("漢")]) for line in lines[1:]]
    assert len(set(starts)) == 1


@on_sqlite
def test_list_on_a_narrow_screen_leaves_the_age_out(
    invoke: Invoke, add_records: Callable[..., None], console: Callable[..., Any]
) -> None:
    add_records("Who am I? 👨\u200d👩\u200d👧", answer="Ένα 🇬🇷 " * 20)
    lines = console(invoke, "list", columns=40).screen.splitlines()
    assert lines[0].split() == ["ID", "QUESTION", "ANSWER"]
    assert lines[1].startswith("1   Who am I? 👨")
    assert all(30 < cell_len(line) <= 40 for line in lines[1:])


@on_sqlite
def test_list_search_highlights_the_match_in_its_context(
    invoke: Invoke, add_records: Callable[..., None], console: Callable[..., Any]
) -> None:
    add_records(
        "Where is it?", answer="hay " * 200 + "\n\n```python\nneedles = 1\n```\n" + "hay " * 200
    )
    seen = console(invoke, "list", "--search", "NEEDLES?")
    assert (seen.code, seen.err) == (0, "")
    assert "…hay hay hay hay \x1b[1mneedles\x1b[0m = 1 hay" in seen.out
    assert "```" not in seen.out
    assert "\t" in invoke("list", "--search", "needles").out


@on_sqlite
@pytest.mark.parametrize("columns", [40, 60, 120])
def test_stats_table_fits_the_terminal(
    invoke: Invoke, add_records: Callable[..., None], console: Callable[..., Any], columns: int
) -> None:
    add_records("one", "two")
    lines = console(invoke, "stats", columns=columns).out.splitlines()
    assert len(lines) == 2
    assert max(cell_len(line) for line in lines) <= max(columns, 55)
    # Only the bar may be left out.
    assert ("█" in lines[1]) == (columns >= 60)


@on_sqlite
@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "last"],
        pytest.param(
            ["show", "last", "--field", "answer"],
        ),
        pytest.param(
            ["list", "--format", "csv"],
        ),
    ],
    ids=" ".join,
)
def test_show_and_list_hostile_answer_does_not_control_terminal(
    invoke: Invoke,
    add_records: Callable[..., None],
    console: Callable[..., Any],
    arguments: list[str],
) -> None:
    add_records("x", answer=f"Hello {HOSTILE} world")
    seen = console(invoke, *arguments)
    assert seen.code == 0
    assert "Hello" in seen.out
    for evil in ("\x1b]", "\x07", "\x1b[31m", "\x9b", "\u202e"):
        assert evil not in seen.out


@on_sqlite
def test_show_on_a_terminal_renders_markdown(
    invoke: Invoke, add_records: Callable[..., None], console: Callable[..., Any]
) -> None:
    add_records("Who **am** I?", answer="Some **bold** text.")
    screen = console(invoke, "show", "last").screen
    assert "Who **am** I?" in screen
    assert "Some bold text." in screen


@on_sqlite
@pytest.mark.parametrize("output", ["table", "json"])
def test_list_closed_pipe_stops_silently(
    qa: Program, add_records: Callable[..., None], output: str
) -> None:
    add_records(*(f"{number} {'x' * 1000}" for number in range(400)))
    command = '{ "$0" list -n 0 --format "$1"; echo $? >&2; } | head -c 5'
    done = subprocess.run(
        ["sh", "-c", command, *qa.command, output],
        env=qa.environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert len(done.stdout) == 5
    assert done.stderr in {"141\n", "0\n"}


@on_sqlite
def test_list_on_a_terminal_reports_questions_in_flight(
    qa: Program,
    provider: FakeProvider,
    wait_for: Callable[..., Any],
    console: Callable[..., Any],
) -> None:
    process = qa.start("ask", "Still waiting? [[hang]]")
    try:
        wait_for(lambda: provider.requests)
        seen = console(qa, "list")
        assert seen.code == 0
        assert "Still being asked: 1 question." in seen.err
        assert "Still waiting?" in seen.err
        assert qa("list", "--json").out == "[]\n"
    finally:
        process.kill()
        process.communicate()
    # Its process has ended: now it is a record.
    [record] = json.loads(qa("list", "--json").out)
    assert (record["status"], record["question"]) == ("interrupted", "Still waiting? [[hang]]")


def test_show_request_prints_the_conversation_that_was_sent(invoke: Invoke) -> None:
    invoke("ask", "one?")
    invoke("ask", "two?", "--follow", "1", "--temperature", "0.5", "--system", "Be brief.")
    request = json.loads(invoke("show", "2", "--request").out)
    assert request == {
        "model": "test-model",
        "temperature": 0.5,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "one?"},
            {"role": "assistant", "content": "Answer to: one?"},
            {"role": "user", "content": "two?"},
        ],
    }


def test_list_search_without_limit_prints_matches_beyond_the_ranked_ones(
    invoke: Invoke, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for question in ("ice 1", "ice 2", "snow", "ice 3", "ice 4"):
        store.upsert(Question(question=question), ANSWERED)
    for module in ("search", "record_queries"):
        monkeypatch.setattr(f"qacli.db.{module}.MAX_RANKED", 2)

    def ids(*options: str) -> list[int]:
        done = invoke("list", "--search", "ice", "--json", *options)
        return [record["id"] for record in json.loads(done.out)]

    everything = ids("--limit", "0")
    assert (sorted(everything[:2]), everything[2:]) == ([4, 5], [2, 1])
    assert ids("--limit", "3") == everything[:3]
    assert ids("--limit", "2") == everything[:2]
