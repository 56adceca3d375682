from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Invoke
    from fake_provider import FakeProvider

# One database: what differs between them is tested in tests/e2e and integration/db.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

REVIEWS = 'id;Review text;Stars: 1-5\r\nr1;Gut, sehr;5\r\nr2;"Schlecht ""leider""";1\r\n'


@pytest.fixture
def reviews(home: Path) -> str:
    (home / "reviews.csv").write_bytes(REVIEWS.encode("utf-8-sig"))
    return "reviews.csv"


@pytest.fixture
def template(home: Path) -> str:
    (home / "templates").mkdir()
    (home / "templates" / "rate.toml").write_text(
        'question = "Review: {Review text}"\nsystem = "Stars: {Stars: 1-5}"\n'
        'model = "m-7"\nmax_tokens = 50\nschema = "label, score int"\n'
    )
    return "rate"


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_batch_template_schema_and_tags_hold_for_all_rows(
    invoke: Invoke, provider: FakeProvider, reviews: str, template: str
) -> None:
    provider.default = "schema"
    done = invoke("batch", reviews, "-t", template, "--tag", "nightly", "--tag", "de")
    assert done.code == 0, done.err
    lines = lines_of(done.out)
    assert [line["item_key"] for line in lines] == ["r1", "r2"]
    assert [line["question"] for line in lines] == [
        "Review: Gut, sehr",
        'Review: Schlecht "leider"',
    ]
    assert [line["system"] for line in lines] == ["Stars: 5", "Stars: 1"]
    assert all(line["tags"] == ["nightly", "de"] for line in lines)
    assert all(set(json.loads(line["answer"])) == {"label", "score"} for line in lines)
    body = provider.requests[0].body
    assert (body["model"], body["max_tokens"]) == ("m-7", 50)
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["label", "score"]
    # The same command asks nothing; other tags are other settings.
    assert invoke("batch", reviews, "-t", template, "--tag", "nightly", "--tag", "de").code == 0
    assert len(provider.requests) == 2
    named = (reviews, "-t", template, "--name", "n")
    assert invoke("batch", *named).code == 0
    assert "tags was None" in invoke("batch", *named, "--tag", "x").err


def test_batch_schema_option_is_stronger_than_that_of_the_template(
    invoke: Invoke, provider: FakeProvider, reviews: str, template: str, home: Path
) -> None:
    provider.default = "schema"
    (home / "own.json").write_text('{"type": "object", "properties": {"x": {"type": "string"}}}')
    done = invoke("batch", reviews, "-t", template, "--schema", "own.json", "-m", "m-8")
    assert done.code == 0, done.err
    body = provider.requests[0].body
    assert body["model"] == "m-8"
    assert list(body["response_format"]["json_schema"]["schema"]["properties"]) == ["x"]
    for arguments in (["--schema", "no such file.json"], ["-t", "none"], ["--question", "{id}"]):
        assert invoke("batch", reviews, "-t", template, *arguments).code == 2


def test_batch_answer_that_does_not_fit_the_schema_is_corrected(
    invoke: Invoke, provider: FakeProvider, reviews: str
) -> None:
    done = invoke("batch", reviews, "--column", "Review text", "--schema", "label", "-q")
    assert done.code == 8
    assert {line["error_kind"] for line in lines_of(done.out)} == {"unfit-answer"}
    assert len(provider.requests) == 4


def test_batch_rows_with_ids_can_be_moved_and_inserted(
    invoke: Invoke, provider: FakeProvider, reviews: str, home: Path
) -> None:
    command = ("batch", reviews, "--column", "Review text", "--name", "n")
    assert invoke(*command).code == 0
    head, first, second = REVIEWS.splitlines(keepends=True)
    (home / reviews).write_text(head + second + "r3;Neu;3\r\n" + first, newline="")
    done = invoke(*command)
    assert done.code == 0, done.err
    assert [line["item_key"] for line in lines_of(done.out)] == ["r2", "r3", "r1"]
    assert len(provider.requests) == 3
    (home / reviews).write_text(head + second + "r3;Anders;3\r\n" + first, newline="")
    refused = invoke(*command)
    assert refused.code == 2
    assert "Line 3 (id 'r3') changed" in refused.err
    assert "--changed" in refused.err
    done = invoke(*command, "--changed")
    assert [line["question"] for line in lines_of(done.out)][1] == "Anders"
    assert len(provider.requests) == 4
    # A column that is not in the question may change.
    (home / reviews).write_text(
        head + second.replace(";1", ";2") + "r3;Anders;3\r\n" + first, newline=""
    )
    assert invoke(*command).code == 0
    assert len(provider.requests) == 4


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["question, prompt or text", "'Review text'", "--column"]),
        (["--column", "text"], ["no column 'text'", "'Stars: 1-5'"]),
        (["--question", "{Stars}"], ["no column 'Stars'", "--question"]),
        (["--column", "id", "--id", "key"], ["no column 'key'", "--id"]),
        (["--column", "id", "--delimiter", ","], ["has 2 columns", "--delimiter"]),
        (["--column", "id", "--encoding", "x"], ["--encoding x"]),
        (["--column", "id", "--sheet", "x"], ["--sheet is for XLSX"]),
        (["--column", "id", "--tag", " x"], ["tag"]),
        (["reviews.csv"], ["'notes/*.txt'"]),
    ],
)
def test_batch_error_of_a_file_names_columns_and_options(
    invoke: Invoke, provider: FakeProvider, reviews: str, arguments: list[str], parts: list[str]
) -> None:
    done = invoke("batch", reviews, *arguments)
    assert done.code == 2
    for part in parts:
        assert part in done.err
    assert provider.requests == []


def test_batch_id_option_names_the_column_or_none(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "a.csv").write_text("id,sku,text\n1,x,one\n1,y,two\n")
    refused = invoke("batch", "a.csv")
    assert refused.code == 2
    assert "Line 3: its id '1' is that of line 2, too." in refused.err
    assert provider.requests == []
    by_sku = invoke("batch", "a.csv", "--id", "sku")
    assert [line["item_key"] for line in lines_of(by_sku.out)] == ["x", "y"]
    numbered = invoke("batch", "a.csv", "--id", "")
    assert [line["item_key"][:2] for line in lines_of(numbered.out)] == ["1-", "2-"]


@pytest.mark.parametrize("pattern", ["notes", "notes/*.md"])
def test_batch_directory_takes_up_new_files(
    invoke: Invoke, provider: FakeProvider, home: Path, pattern: str
) -> None:
    (home / "notes").mkdir()
    (home / "notes" / "b.md").write_text("two")
    assert invoke("batch", pattern).code == 0
    (home / "notes" / "a.md").write_text("one")
    done = invoke("batch", pattern)
    assert done.code == 0, done.err
    assert [line["question"] for line in lines_of(done.out)] == ["one", "two"]
    assert [line["item_key"].rpartition("/")[2] for line in lines_of(done.out)] == ["a.md", "b.md"]
    assert len(provider.requests) == 2
    assert invoke("batch", pattern).code == 0


def test_batch_workbook_and_parquet_from_standard_input(
    invoke: Invoke, provider: FakeProvider, write_table: Callable[[str], bytes]
) -> None:
    for form in ("xlsx", "parquet"):
        done = invoke("batch", "-", "--name", form, "--input", form, input=write_table(form))
        assert done.code == 0, done.err
        assert [line["item_key"] for line in lines_of(done.out)] == ["1", "2"]
    dry = invoke("batch", "-", "--dry-run", "--input", "xlsx", input=write_table("xlsx"))
    assert dry.out.startswith("questions   2\n")
    assert len(provider.requests) == 4


@pytest.fixture
def write_table() -> Callable[[str], bytes]:
    """Return a function that makes the bytes of a workbook, or of Parquet, with two questions."""

    def write(form: str) -> bytes:
        data = io.BytesIO()
        if form == "xlsx":
            import openpyxl

            book = openpyxl.Workbook()
            for row in (["id", "question"], [1, "one"], [2, "two"]):
                book.active.append(row)
            book.save(data)
        else:
            import pyarrow as pa
            from pyarrow import parquet

            rows = [{"id": 1, "question": "one"}, {"id": 2, "question": "two"}]
            parquet.write_table(pa.Table.from_pylist(rows), data)
        return data.getvalue()

    return write


def test_batch_columns_of_json_are_text_with_a_template(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    row = {"id": 1, "model": "Toyota Corolla", "system": "brakes", "tags": ["a b", 2], "n": 3}
    (home / "cars.jsonl").write_text(json.dumps(row) + "\n")
    done = invoke("batch", "cars.jsonl", "--question", "{model} {system} {tags} {n}")
    assert done.code == 0, done.err
    [line] = lines_of(done.out)
    assert line["question"] == 'Toyota Corolla brakes ["a b", 2] 3'
    assert (line["system"], line["tags"], provider.requests[0].body["model"]) == (
        None,
        [],
        "test-model",
    )
    refused = invoke("batch", "cars.jsonl")
    assert refused.code == 2


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"n": 2}, "'n'"),
        ({"stream": True}, "'stream'"),
        ({"response_format": {"type": "json_object"}}, "'response_format'"),
        ({"max_tokens": 5.7}, "whole number"),
        ({"seed": True}, "whole number"),
        ({"system": ["a"]}, "'system' is a list"),
        ({"model": {"a": 1}}, "'model' is an object"),
        ({"tags": [{"a": 1}]}, "'tags' is an object"),
        ({"id": ["a"]}, "id is a list"),
        ({"question": {"a": 1}}, "'question' is an object"),
        ({"question": True}, "'question' is true or false"),
    ],
)
def test_batch_setting_that_cannot_be_kept_is_refused_by_name(
    invoke: Invoke, provider: FakeProvider, home: Path, fields: dict[str, Any], part: str
) -> None:
    (home / "a.jsonl").write_text(json.dumps({"question": "one", **fields}) + "\n")
    done = invoke("batch", "a.jsonl")
    assert done.code == 2
    assert part in done.err
    assert provider.requests == []


def test_batch_other_fields_of_a_request_are_sent_and_kept(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    sent = {"top_p": 0.5, "seed": 7, "logprobs": True, "top_logprobs": 2, "tools": [tool]}
    (home / "a.jsonl").write_text(json.dumps({"question": "one", "n": 1, **sent}) + "\n")
    done = invoke("batch", "a.jsonl")
    assert done.code == 0, done.err
    body = provider.requests[0].body
    assert {name: body[name] for name in sent} == sent
    [line] = lines_of(done.out)
    assert {name: line["params"][name] for name in sent} == sent
