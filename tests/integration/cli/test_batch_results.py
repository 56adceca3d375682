from __future__ import annotations

import csv
import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from qacli.record_fields import RECORD_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Invoke
    from fake_provider import FakeProvider

# One database: what differs between them is tested in tests/e2e and integration/db.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ANSWER_COLUMNS = ["answer", "status", "error", "prompt_tokens", "completion_tokens", "cost_usd"]
WORDS = [
    ["id", "word", "note", "", "status", ""],
    ["1", "one", ' "quoted", ', "0010", "x", ""],
    ["2", "two [[status=400 message=No.]]", "line\nbreak\r\nand\rmore", "1e3", " y ", "z"],
    ["3", "drei", "ü\u2028\t;", "", "", ""],
]


def table_text(rows: list[list[str]], **options: Any) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, **options).writerows(rows)
    return text.getvalue()


def table_of(text: str, **options: Any) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True, **options))


@pytest.fixture
def words(home: Path) -> str:
    (home / "words.csv").write_bytes(table_text(WORDS).encode())
    return "words.csv"


def test_batch_joined_csv_keeps_every_column_byte_for_byte(
    invoke: Invoke, words: str, home: Path
) -> None:
    done = invoke("batch", words, "--column", "word", "--name", "n", "-o", "joined.csv")
    assert done.code == 8, done.err
    rows = table_of((home / "joined.csv").read_bytes().decode())
    assert [row[:6] for row in rows] == WORDS
    # The input file has a column "status" too.
    assert rows[0][6:] == ["answer", "qa_status", *ANSWER_COLUMNS[2:]]
    assert [row[6:9] for row in rows[1:]] == [
        ["Answer to: one", "answered", ""],
        ["", "failed", rows[2][8]],
        ["Answer to: drei", "answered", ""],
    ]
    assert rows[2][8].startswith("provider-refused: ")
    assert (rows[1][9], rows[2][9]) == ("1", "")
    assert invoke("batch", "results", "n", "-o", "again.csv").code == 0
    assert (home / "again.csv").read_bytes() == (home / "joined.csv").read_bytes()
    # The joined table can be the input of another batch.
    again = invoke("batch", "joined.csv", "--column", "word", "-o", "third.csv", "--id", "id")
    assert again.code == 8, again.err
    third = table_of((home / "third.csv").read_bytes().decode())
    assert [row[: len(rows[0])] for row in third] == rows


@pytest.mark.parametrize(
    ("encoding", "head", "arguments"),
    [("utf-8-sig", "", []), ("cp1252", "sep=;\r\n", ["--encoding", "cp1252"]), ("utf-16", "", [])],
)
def test_batch_joined_csv_opens_in_the_program_that_wrote_the_file(
    invoke: Invoke, home: Path, encoding: str, head: str, arguments: list[str]
) -> None:
    text = table_text([["id", "text"], ["1", "Grüße; an alle"]], delimiter=";")
    (home / "excel.csv").write_bytes((head + text).encode(encoding))
    done = invoke("batch", "excel.csv", "-o", "out.csv", "--name", "n", *arguments)
    assert done.code == 0, done.err
    content = (home / "out.csv").read_bytes()
    assert content.startswith("\ufeffid;text;answer;status;".encode())
    rows = table_of(content.decode("utf-8-sig"), delimiter=";")
    assert rows[1][:4] == ["1", "Grüße; an alle", "Answer to: Grüße; an alle", "answered"]
    assert invoke("batch", "results", "n", "--format", "tsv").out.startswith("id\ttext\t")


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("notes", "notes/out.jsonl"),
        ("notes/*.jsonl", "notes/out.jsonl"),
        ("notes", "./notes/o.csv"),
    ],
)
def test_batch_output_among_the_files_of_questions_is_refused(
    invoke: Invoke, provider: FakeProvider, home: Path, source: str, output: str
) -> None:
    (home / "notes").mkdir()
    (home / "notes" / "a.jsonl").write_text("one")
    done = invoke("batch", source, "-o", output)
    assert done.code == 2
    assert "another directory" in done.err
    assert provider.requests == []
    assert [path.name for path in (home / "notes").iterdir()] == ["a.jsonl"]
    done = invoke("batch", source, "-o", "out.jsonl")
    assert done.code == 0, done.err
    assert json.loads(invoke("batch", "list", "--json").out)[0]["name"].startswith("notes-")


def test_batch_results_only_failed_and_without_join(invoke: Invoke, words: str) -> None:
    invoke("batch", words, "--column", "word", "--name", "n", "-q")
    failed = invoke("batch", "results", "n", "--only", "failed", "--format", "csv")
    assert [row[0] for row in table_of(failed.out)] == ["id", "2"]
    answered = invoke("batch", "results", "n", "--only", "answered")
    assert [json.loads(line)["item_key"] for line in answered.out.splitlines()] == ["1", "3"]
    records = invoke("batch", "results", "n", "--format", "csv", "--no-join")
    assert table_of(records.out)[0] == list(RECORD_FIELDS)
    joined = invoke("batch", "results", "n", "--join", "--only", "failed")
    row = json.loads(joined.out)
    assert {name: row[name] for name in ("id", "note", "status", "column 6")} == {
        "id": "2",
        "note": WORDS[2][2],
        "status": " y ",
        "column 6": "z",
    }
    assert (row["qa_status"], row["cost_usd"]) == ("failed", None)
    refused = invoke("batch", "results", "n", "--join", "--format", "openai")
    assert refused.code == 2


def test_batch_schema_fields_are_columns_of_the_joined_table(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "a.csv").write_text("id,text,label\n1,one,gold\n2,two [[status=400]],\n")
    provider.default = "schema"
    schema = "label, score int, ok bool"
    done = invoke("batch", "a.csv", "--schema", schema, "-o", "out.csv", "--question", "{text}")
    assert done.code == 8, done.err
    head, first, second = table_of((home / "out.csv").read_text())
    assert head == ["id", "text", "label", "qa_label", "score", "ok", *ANSWER_COLUMNS]
    answer = json.loads(first[6])
    texts = [answer["label"], str(answer["score"]), json.dumps(answer["ok"])]
    assert first[:6] == ["1", "one", "gold", *texts]
    assert second[3:8] == ["", "", "", "", "failed"]


@pytest.mark.parametrize(
    "name", ["out.jsonl.gz", "out.csv.gz", "out.tsv", "out.json", "out.xlsx", "out.parquet"]
)
def test_batch_output_ending_decides_the_format(
    invoke: Invoke, home: Path, name: str, words: str
) -> None:
    command = ("batch", words, "--column", "word", "--name", "n", "-o", name, "-q")
    assert invoke(*command).code == 8
    rows = READERS[name](home / name)
    assert [str(row["id"]) for row in rows][-3:] == ["1", "2", "3"]
    assert [row["answer"] or "" for row in rows] == ["Answer to: one", "", "Answer to: drei"]
    # The file of this batch is replaced.
    content = READERS[name](home / name)
    assert invoke(*command).code == 8
    assert READERS[name](home / name) == content
    # A file of another program is not replaced.
    (home / name).write_bytes((home / name).read_bytes() + b"mine")
    assert invoke(*command).code == 2


def read_csv(text: str, delimiter: str = ",") -> list[dict[str, Any]]:
    head, *rows = table_of(text, delimiter=delimiter)
    return [dict(zip(head, row, strict=True)) for row in rows]


def unpacked(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def read_workbook(path: Path) -> list[dict[str, Any]]:
    import openpyxl

    head, *rows = openpyxl.load_workbook(path).active.iter_rows(values_only=True)
    assert rows[0][2] == WORDS[1][2]
    return [dict(zip(head, row, strict=True)) for row in rows]


def read_parquet(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    assert rows[1]["note"] == WORDS[2][2]
    assert [row["prompt_tokens"] for row in rows] == [1, None, 1]
    return rows


READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "out.jsonl.gz": lambda path: [json.loads(line) for line in unpacked(path).splitlines()],
    "out.csv.gz": lambda path: read_csv(unpacked(path)),
    "out.tsv": lambda path: read_csv(path.read_bytes().decode(), "\t"),
    "out.json": lambda path: json.loads(path.read_text()),
    "out.xlsx": read_workbook,
    "out.parquet": read_parquet,
}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("out.yaml", ".jsonl, .csv, .tsv, .json, .xlsx or .parquet"),
        ("out.parquet.gz", "Leave .gz out"),
        ("none/out.csv", "mkdir -p none"),
    ],
)
def test_batch_output_that_cannot_be_written_is_refused_first(
    invoke: Invoke, provider: FakeProvider, words: str, name: str, part: str
) -> None:
    done = invoke("batch", words, "--column", "word", "-o", name)
    assert done.code == 2
    assert part in done.err
    assert provider.requests == []
    assert json.loads(invoke("batch", "list", "--json").out) == []


def test_batch_workbook_text_is_no_formula(invoke: Invoke, home: Path) -> None:
    import openpyxl

    (home / "a.csv").write_text("text\n=1+1\n" + "x" * 40_000 + "\n_x000D_\n")
    assert invoke("batch", "a.csv", "-o", "out.xlsx").code == 0
    rows = list(openpyxl.load_workbook(home / "out.xlsx").active.iter_rows())
    assert (rows[1][0].value, rows[1][0].data_type) == ("=1+1", "s")
    assert len(rows[2][0].value) == 32_767
    assert rows[3][0].value == "_x005F_x000D_"  # spreadsheet programs show _x000D_


def test_batch_json_prints_one_summary(invoke: Invoke, words: str, home: Path) -> None:
    command = ("batch", words, "--column", "word", "--name", "n", "--json")
    done = invoke(*command, "-o", "out.csv")
    assert done.code == 8
    summary = json.loads(done.out)
    assert summary["states"] == {"waiting": 0, "claimed": 0, "answered": 2, "failed": 1}
    assert (summary["name"], summary["errors"]) == ("n", {"provider-refused": 1})
    assert len(table_of((home / "out.csv").read_bytes().decode())) == 4
    assert json.loads(invoke(*command).out)["states"] == summary["states"]
    assert invoke(*command, "-o", "-").code == 2
    forecast = json.loads(invoke("batch", words, "--column", "word", "--dry-run", "--json").out)
    assert forecast["items"] == 3


def test_batch_join_of_json_lines_keeps_the_order_of_the_fields(invoke: Invoke, home: Path) -> None:
    rows = [{"z": 1, "question": "one", "a": [True]}, {"z": 2, "question": "two", "b": None}]
    (home / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = invoke("batch", "a.jsonl", "--name", "n", "--join").out.splitlines()
    names = [list(json.loads(line))[:3] for line in lines]
    assert names == [["z", "question", "a"], ["z", "question", "b"]]
    assert [json.loads(line)["answer"] for line in lines] == ["Answer to: one", "Answer to: two"]
    head, *cells = table_of(invoke("batch", "results", "n", "--join", "--format", "csv").out)
    assert head[:4] == ["z", "question", "a", "b"]
    assert [row[:4] for row in cells] == [["1", "one", "[true]", ""], ["2", "two", "", ""]]
    # A file of text has no columns but its questions.
    (home / "a.txt").write_text("one\n")
    text = invoke("batch", "a.txt", "--join", "--format", "csv").out
    assert table_of(text)[0] == ["question", *ANSWER_COLUMNS]


def test_list_export_and_stats_of_a_batch_by_its_name(
    invoke: Invoke, words: str, home: Path
) -> None:
    invoke("ask", "--no-stream", "alone")
    (home / "a.txt").write_text("four\n")
    invoke("batch", "a.txt", "--name", "other")
    invoke("batch", words, "--column", "word", "--name", "n", "-q")
    listed = json.loads(invoke("list", "--batch", "n", "--json").out)
    assert sorted(record["item_key"] for record in listed) == ["1", "2", "3"]
    failed = json.loads(invoke("list", "--batch", "n", "--status", "failed", "--json").out)
    assert [record["item_key"] for record in failed] == ["2"]
    exported = invoke("export", "--batch", "other").out
    assert json.loads(exported)["question"] == "four"
    assert json.loads(invoke("stats", "--batch", "n", "--json").out)[0]["records"] == 3
    for command in ("list", "export", "stats"):
        missing = invoke(command, "--batch", "none")
        assert (missing.code, missing.out) == (4, "")
        assert "'none'" in missing.err


def test_batch_wait_returns_the_state_of_the_batch(invoke: Invoke, home: Path) -> None:
    (home / "a.txt").write_text("one\ntwo\n")
    (home / "b.txt").write_text("one\ntwo [[status=400]]\n")
    assert invoke("batch", "a.txt", "--name", "a").code == 0
    assert invoke("batch", "b.txt", "--name", "b").code == 8
    assert [invoke("batch", "wait", name).code for name in ("a", "b", "none")] == [0, 8, 4]
    assert json.loads(invoke("batch", "wait", "b", "--json").out)["states"]["failed"] == 1


def test_batch_wait_without_a_process_reports_it(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    provider.default = "quota"
    (home / "a.txt").write_text("one\ntwo\n")
    assert invoke("batch", "a.txt", "--name", "a").code == 5
    done = invoke("batch", "wait", "a")
    assert done.code == 9
    assert "no process works on it" in done.err


def test_batch_results_of_a_killed_run_are_replaced(invoke: Invoke, words: str, home: Path) -> None:
    """A file that was cut off in any format is recognised as the batch's own."""
    command = ("batch", words, "--column", "word", "--name", "n", "-q")
    for name in ("out.csv", "out.json", "out.jsonl.gz", "out.tsv"):
        assert invoke(*command, "-o", name).code == 8
        whole = (home / name).read_bytes()
        forget_size(home, name)
        with (home / name).open("r+b") as file:
            file.truncate(len(whole) - 20)
        assert invoke(*command, "-o", name).code == 8, name
        assert READERS.get(name, lambda path: read_csv(path.read_bytes().decode()))(home / name)
        forget_size(home, name)
        (home / name).write_bytes(b"precious\n")
        assert invoke(*command, "-o", name).code == 2, name


def forget_size(home: Path, name: str) -> None:
    """Store the state of an output as a run that was killed leaves it."""
    import sqlite3

    path = str((home / name).resolve())
    inode = (home / name).stat().st_ino
    with sqlite3.connect(home / "data" / "history.db") as connection:
        (text,) = connection.execute("SELECT source FROM batch").fetchone()
        source = json.loads(text)
        source["outputs"][path] = {"inode": inode}
        connection.execute("UPDATE batch SET source = ?", (json.dumps(source),))
    connection.close()
