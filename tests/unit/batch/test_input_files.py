"""Files of questions as other programs write them: each is read, or refused with advice."""

from __future__ import annotations

import gzip
import io
import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from qacli.batch.input_file import InputOptions, format_of
from qacli.batch.item_reader import BatchInput, read_items
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

QUESTIONS = ["Grüße, Welt", 'He said "hi"\nand left', "plain"]
COMMAS = 'id,text,stars\na,"Grüße, Welt",1.0\nb,"He said ""hi""\nand left",2.0\nc,plain,\n'
SEMICOLONS = 'id;text;stars\r\na;Grüße, Welt;1\r\nb;"He said ""hi""\nand left";2\r\nc;plain;\r\n'
TABS = 'id\ttext\tstars\na\tGrüße, Welt\t1.0\nb\t"He said ""hi""\nand left"\t2.0\nc\tplain\t\n'
ROWS: list[dict[str, Any]] = [
    {"id": key, "text": text, "stars": stars}
    for key, text, stars in zip("abc", QUESTIONS, (1.0, 2.0, None), strict=True)
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def request(url: str, **body: Any) -> str:
    line = {"custom_id": "r1", "method": "POST", "url": url, "body": {"model": "m", **body}}
    return json.dumps(line) + "\n"


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "system", "content": "S"}, {"role": "user", "content": content}]


def workbook(*sheets: list[list[Any]]) -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets, 1):
        sheet = book.create_sheet(f"Sheet{number}")
        for row in rows:
            sheet.append(row)
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


def drawn(change: Callable[[Any], object]) -> bytes:
    """Return a workbook with three questions and an empty column `kind`, and a second sheet."""
    import openpyxl

    book = openpyxl.Workbook()
    for row in (["kind", "text"], *([None, text] for text in "abc")):
        book.active.append(row)
    change(book)
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


def hide_second(book: Any) -> None:
    sheet = book.create_sheet("Sheet2")
    sheet.append(["text"])
    sheet.append(["z"])
    sheet.sheet_state = "hidden"


def merge_first(book: Any) -> None:
    book.active["A2"] = "X"
    book.active.merge_cells("A2:A3")


def spoil_kind(book: Any) -> None:
    for row, (value, kind) in enumerate([("#N/A", "s"), ("#N/A", "e"), ("x", "s")], 2):
        cell = book.active.cell(row, 1, value)
        cell.data_type = kind


def table(**options: Any) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    data = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(ROWS), data, **options)
    return data.getvalue()


CELLS = [list(ROWS[0]), *([*row.values()] for row in ROWS)]


class File(NamedTuple):
    """A file, the options to read it, and the questions or a part of the error."""

    name: str
    content: str | bytes | Callable[[], bytes]
    outcome: list[str] | str
    options: Mapping[str, Any] = MappingProxyType({})


FILES = [
    # Excel, in the locales of three countries.
    File("us_utf8.csv", "\ufeff" + COMMAS.replace("c,plain,\n", "c,plain,\n,,\n"), QUESTIONS),
    File("us_ansi.csv", COMMAS.encode("cp1252"), "--encoding cp1252"),
    File("de_ansi.csv", SEMICOLONS.encode("cp1252"), "'a;Grüße, Welt;1'"),
    File("de_ansi2.csv", SEMICOLONS.encode("cp1252"), QUESTIONS, {"encoding": "cp1252"}),
    File("de_utf8.csv", "\ufeff" + SEMICOLONS + ";;\r\n;;\r\n", QUESTIONS),
    File("fr_sep.csv", "sep=;\r\n" + SEMICOLONS, QUESTIONS),
    File("fr_mark.csv", '\ufeff"sep=|"\r\n' + SEMICOLONS.replace(";", "|"), QUESTIONS),
    File("pl_ansi.csv", "text\r\nŻółć\r\n".encode("cp1250"), ["Żółć"], {"encoding": "cp1250"}),
    File(
        "unicode.txt",
        ("\ufeff" + TABS).encode("utf-16-le"),
        QUESTIONS,
        {"form": "tsv", "quotes": True},
    ),
    File("utf16.csv", COMMAS.encode("utf-16-le"), "--encoding utf-16-le"),
    File("utf16_le.csv", COMMAS.encode("utf-16-le"), QUESTIONS, {"encoding": "utf-16-le"}),
    File("mac.csv", "id;text\r1;eins\r2;zwei, drei\r", ["eins", "zwei, drei"]),
    File(
        "mac_roman.csv", "text\rGrüße\r".encode("mac_roman"), ["Grüße"], {"encoding": "mac_roman"}
    ),
    File("old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Save it as XLSX"),
    File("saved_as.csv", lambda: workbook(CELLS), "--input xlsx"),
    File("excel.xlsx", lambda: workbook(CELLS, [], []), QUESTIONS),
    File("sheets.xlsx", lambda: workbook(CELLS, [["question"], ["one"]]), "--sheet NAME"),
    File("sheet.xlsx", lambda: workbook(CELLS, [["question"], [1]]), ["1"], {"sheet": "Sheet2"}),
    File("formula.xlsx", lambda: workbook([["question"], ["=1+1"]]), "formula in 'question'"),
    # A line end in a cell of Excel, and a text that looks like an escaped one.
    File(
        "escaped.xlsx",
        lambda: workbook([["question"], ["a_x000D_\nb _x005F_x000D_"]]),
        ["a\r\nb _x000D_"],
    ),
    # The end mark of DOS; files with byte order marks that were joined; jq --seq.
    File("dos.csv", "text\r\na\r\n\x1a", ["a"]),
    File("dos.txt", "a\r\n\x1a", ["a"]),
    File("joined.txt", "\ufeffa\n\ufeffb\n", ["a", "b"]),
    File("joined.jsonl", '\ufeff{"question": "a"}\n\ufeff{"question": "b"}\n', ["a", "b"]),
    File("sequence.json", '\x1e{"question": "a"}\n\x1e{"question": "b"}\n', ["a", "b"]),
    File("sequence.jsonl", '\x1e{"question": "a"}\n\x1e{"question": "b"}\n', ["a", "b"]),
    # pandas, polars, DuckDB.
    File(
        "pandas.csv",
        "," + COMMAS.replace("\na,", "\n0,a,").replace("\nb,", "\n1,b,").replace("\nc,", "\n2,c,"),
        QUESTIONS,
    ),
    File("pandas_utf16.csv", COMMAS.encode("utf-16"), QUESTIONS),
    File("pandas.csv.gz", gzip.compress(COMMAS.encode()), QUESTIONS),
    File("pandas.tsv", TABS, "--quotes"),
    File("pandas_quotes.tsv", TABS, QUESTIONS, {"quotes": True}),
    File("pandas_quoted.tsv", 'text\tn\n"a ""b"""\t1\n', "--quotes"),
    File("pandas_records.json", json.dumps(ROWS), QUESTIONS),
    File(
        "pandas_columns.json", json.dumps({"text": {"0": "a"}, "n": {"0": 1}}), 'orient="records"'
    ),
    File(
        "pandas_split.json",
        json.dumps({"columns": ["text"], "index": [0], "data": [["a"]]}),
        'orient="records"',
    ),
    File("pandas_lines.json", LINES, QUESTIONS),
    File("pandas_lines.jsonl", LINES, QUESTIONS),
    File(
        "pandas.xlsx",
        lambda: workbook([["", *CELLS[0]], *([n, *row] for n, row in enumerate(CELLS[1:]))]),
        QUESTIONS,
    ),
    File("pandas.parquet", table, QUESTIONS),
    File("duckdb.json", "[\n\t" + ",\n\t".join(LINES.splitlines()) + "\n]\n", QUESTIONS),
    File("duckdb.parquet", lambda: table(compression="zstd"), QUESTIONS),
    File("polars.ndjson", LINES.replace("\n", "\r\n"), QUESTIONS),
    # jq, Google Sheets.
    File("jq.jsonl", LINES.replace(", ", ",").replace("Grüße,", "Grüße, "), QUESTIONS),
    File("jq.json", "\n".join(json.dumps(row, indent=2) for row in ROWS), QUESTIONS),
    File("jq_pretty.jsonl", json.dumps(ROWS[0], indent=2), "--input json"),
    File("jq_array.jsonl", json.dumps(ROWS), "--input json"),
    File("envelope.json", json.dumps({"count": 3, "data": ROWS}), "jq .name"),
    File("cut.json", json.dumps(ROWS)[:-20], "Line 1"),
    File("sheets.csv", COMMAS.replace("\n", "\r\n").replace('""\r\nand', '""\nand'), QUESTIONS),
    File("sheets.tsv", 'text\tid\r\nGrüße, Welt\ta\r\n"hi"\tb\r\n', ["Grüße, Welt", '"hi"']),
    # The Batch API, and other requests.
    File("chat.jsonl", request("/v1/chat/completions", messages=user("one")), ["one"]),
    File(
        "image.jsonl",
        request(
            "/v1/chat/completions",
            messages=user([{"type": "text", "text": "Look"}, IMAGE]),
            tools=[TOOL],
        ),
        ["Look"],
    ),
    File(
        "responses.jsonl",
        request("/v1/responses", input="one", instructions="S", reasoning={"effort": "low"}),
        ["one"],
    ),
    File("embeddings.jsonl", request("/v1/embeddings", input="one"), "Batch API"),
    File("several.jsonl", request("/v1/chat/completions", messages=user("one"), n=3), "n is 3"),
    File(
        "anthropic.jsonl",
        json.dumps({"custom_id": "a", "params": {"messages": user("one")}}),
        '"body"',
    ),
    File("messages.jsonl", json.dumps({"messages": user("one")}) + "\n", ["one"]),
    File(
        "tuning.jsonl",
        json.dumps({"messages": [*user("one"), {"role": "assistant", "content": "two"}]}),
        "last message",
    ),
    File(
        "separators.jsonl",
        '{"question": "a\u2028b\u2029c\x85d"}\n{"question": "e"}\n',
        ["a\u2028b\u2029c\x85d", "e"],
    ),
    # Made by hand.
    File("pipes.csv", "id|text\n1|a,b\n2|c;d\n", ["a,b", "c;d"]),
    File("hash.csv", "id#text\n1#a\n", ["a"], {"delimiter": "#"}),
    File("wrong.csv", "id#text\n1#a\n", "'id#text'"),
    File("twice.csv", "text,text\na,b\n", "'text' twice"),
    File("unnamed.csv", "text,,\na,,\nb,,x\n", ["a", "b"]),
    File("ids.csv", "id,text\n1,a\n2,b\n1,c\n", "Line 4: its id '1' is that of line 2"),
    File("no_ids.csv", "id,text\n1,a\n2,b\n1,c\n", ["a", "b", "c"], {"id_column": ""}),
    File("names.csv", "Review,Score\na,1\n", "'Review', 'Score'"),
    File("a.zst", b"\x28\xb5\x2f\xfd\x00", "Decompress"),
    File("a.txt", b"%PDF-1.7\n", "a PDF"),
    File("a.csv.bz2", b"BZh", "bzip2 -dc FILE | qa batch -"),
    File("a.yaml", "- text: a\n", "JSON"),
    File("twice.csv.gz", gzip.compress(gzip.compress(b"text\na\n")), "gzip twice"),
    File("title.csv", "Report\n\nid,text\n1,a\n", "remove the lines above its header"),
    File("blanks.csv", "id,text\n1,a\n \n\t\n", ["a"]),
    File("two_marks.csv", "\ufeff\ufefftext,id\na,1\n", ["a"]),
    File("joined.csv", "id,text\n1,a\n\ufeffid,text\n2,b\n", "Line 3: the row is the header"),
    File("words.csv", "text\ntext\n", ["text"]),
    File("zeros.csv", "id,text\n1,a\n" + "\0" * 999, "has 1 columns"),
    File("two.csv", "id,text\n1,é\n".encode() + b"2,\xfc\n", "a part is not"),
    File("unicode_text.txt", TABS.encode("utf-16"), "--input csv", {"template": "{text}"}),
    # Rows of which nothing would be asked but the words of the template.
    File("totals.csv", "text,n\na,2\n,2\n", "'text' has no text", {"template": "Rate: {text}"}),
    File("part.csv", "text,n\n,2\n", ["Rate: -2"], {"template": "Rate: {text}-{n}"}),
    # JSON as Python, JavaScript and labelling tools write it.
    File("nan.jsonl", '{"text": "a", "n": NaN}\n', "NaN is not a JSON value. Write null"),
    File(
        "nan.json", '[{"text": "a", "n": -Infinity}]', "-Infinity is not a JSON value. Write null"
    ),
    File("comma.jsonl", '{"text": "a"},\n', "Extra data at character 14. JSON has names"),
    File("python.jsonl", "{'text': 'a'}\n", "double quotes"),
    File("json5.json", '[{"text": "a"},]', "no comma after the last value"),
    File(
        "cut.jsonl", '{"text": "a"}\n{"text": "b', "Line 2: it is not a JSON object: Unterminated"
    ),
    File("values.json", '[["a"]]', 'orient="records"'),
    File("tasks.json", '[{"id": 1, "data": {"text": "a"}}]', ["a"], {"column": "data.text"}),
    File(
        "lines.json",
        '{"id": 1, "data": {"text": "a"}}\n{"id": 2, "data": {"text": "b"}}\n',
        ["Rate: a", "Rate: b"],
        {"template": "Rate: {data.text}"},
    ),
    File(
        "chats.jsonl",
        '{"conversations": [{"from": "human", "value": "a"}], "a.b": "c"}\n',
        ["a c"],
        {"template": "{conversations.0.value} {a.b}"},
    ),
    File("paths.jsonl", '{"a": {"b": 1}}\n', "no column 'a.c'", {"template": "{a.c}"}),
    # Characters that PostgreSQL cannot store, in a column that is not asked.
    File(
        "nul.csv", "text,n\na,x\0\n", "Line 2: There is a NUL character (U+0000) in the column 'n'"
    ),
    File("nul_name.csv", "text,n\0\na,x\n", "in the header, at position 2"),
    File("nul_name.jsonl", '{"text": "a", "n\\u0000": 1}\n', "in the names of its fields"),
    File("half.jsonl", '{"text": "a", "n": ["\\ud83d"]}\n', "not UTF-8 text in the column 'n'"),
    # Workbooks as people make them.
    File("password.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "a password"),
    File("cut.xlsx", lambda: workbook(CELLS)[:3000], "Check that it is complete"),
    File("title.xlsx", lambda: workbook([["Report"], *CELLS]), "remove the rows above it"),
    File("hidden.xlsx", lambda: drawn(hide_second), ["a", "b", "c"]),
    File("hidden2.xlsx", lambda: drawn(hide_second), ["z"], {"sheet": "Sheet2"}),
    File(
        "merged.xlsx",
        lambda: drawn(merge_first),
        ["X: a", "X: b", ": c"],
        {"template": "{kind}: {text}"},
    ),
    File("error.xlsx", lambda: drawn(spoil_kind), ["a", "b", "c"]),
    File(
        "error2.xlsx",
        lambda: drawn(spoil_kind),
        "Row 3: the cell of 'kind' has the error #N/A",
        {"template": "{kind}: {text}"},
    ),
    File("chart.xlsx", lambda: drawn(lambda book: book.create_chartsheet("Chart")), "save it as"),
]


def read(path: Path, **options: Any) -> list[BatchInput]:
    form = options.pop("form", None) or format_of(path, None)
    return list(read_items(path, InputOptions(form=form, **options)))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_read_file_of_another_program_gives_questions_or_advice(file: File, tmp_path: Path) -> None:
    content = file.content() if callable(file.content) else file.content
    path = tmp_path / file.name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    if isinstance(file.outcome, list):
        assert [item.payload["question"] for item in read(path, **file.options)] == file.outcome
        return
    with pytest.raises(InvalidRequest) as caught:
        read(path, **file.options)
    assert file.outcome in f"{caught.value.what} {caught.value.todo}"
    assert caught.value.todo


def test_read_table_keeps_the_cells_of_each_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,,text,,\n1, x ,a,,\n")
    [item] = read(path)
    assert (item.columns, item.row) == (("id", "", "text", "", ""), ["1", " x ", "a", "", ""])
    assert item.stored() == {"question": "a", "row": item.row}


def test_read_workbook_writes_values_as_json_has_them(tmp_path: Path) -> None:
    from datetime import date, datetime, timedelta

    rows: list[list[Any]] = [
        ["d", "t", "n", "f", "b"],
        [date(2026, 11, 27), datetime(2026, 11, 27, 9, 5), 3, 1.5, True],  # noqa: DTZ001 - a workbook has no time zones
    ]
    rows[0].append(date(2026, 1, 1))
    rows[1].append(timedelta(hours=26, minutes=5))
    path = tmp_path / "a.xlsx"
    path.write_bytes(workbook([*rows, [None] * 5]))
    [item] = read(path, template="{d} {t} {n} {f} {b} {2026-01-01}")
    assert item.payload["question"] == "2026-11-27 2026-11-27T09:05:00 3 1.5 true 26:05:00"


def test_read_parquet_nested_values_are_json(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    row = {"text": "a", "l": [1, float("nan")], "o": {"b": b"\x00"}, "x": None}
    parquet.write_table(pa.Table.from_pylist([row]), path)
    [item] = read(path, template="{text} {l} {o}{x}")
    assert item.payload["question"] == 'a [1.0, null] {"b": "AA=="}'


def test_read_parquet_values_that_python_does_not_have_are_text(tmp_path: Path) -> None:
    from datetime import timedelta

    import pyarrow as pa
    from pyarrow import parquet

    pairs = pa.map_(pa.string(), pa.int32())
    columns = {
        "text": ["a"],
        "year": pa.array([506797344000000000], pa.timestamp("us")),
        "half": pa.array([0.1], pa.float32()),
        "map": pa.array([[("k", 1)]], pairs),
        "twice": pa.array([[("k", 1), ("k", 2)]], pairs),
        "numbers": pa.array([[(1, 2)]], pa.map_(pa.int32(), pa.int32())),
        "duration": [timedelta(hours=-26, microseconds=-500)],
    }
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table(columns), path)
    [item] = read(path)
    assert item.row == [
        "a",
        "18029-10-08T00:00:00.000000",
        0.1,
        {"k": 1},
        [["k", 1], ["k", 2]],
        {"1": 2},
        "-P1DT2H0M0.0005S",
    ]


def test_read_responses_line_is_a_body_of_chat_completions(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    picture = {"type": "input_image", "image_url": "https://example.com/a.png"}
    content = [{"type": "input_text", "text": "Look"}, picture]
    form = {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}
    path.write_text(
        request(
            "/v1/responses",
            instructions="S",
            input=[{"role": "user", "content": content}],
            max_output_tokens=9,
            text={"format": form, "verbosity": "low"},
        )
    )
    [item] = read(path)
    assert (item.key, item.payload["question"], item.payload["system"]) == ("r1", "Look", "S")
    assert item.payload["params"] == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": [{"type": "text", "text": "Look"}, IMAGE]},
        ],
        "max_completion_tokens": 9,
        "verbosity": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
        },
    }


def test_read_responses_line_with_an_unknown_field_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(request("/v1/responses", input="one", previous_response_id="resp_1"))
    with pytest.raises(InvalidRequest) as caught:
        read(path)
    assert "'previous_response_id'" in caught.value.what


@pytest.mark.parametrize("pattern", ["notes", "notes/*.txt", "n*/*.txt"])
def test_read_directory_or_pattern_is_one_question_a_file(tmp_path: Path, pattern: str) -> None:
    notes = tmp_path / "notes"
    (notes / "deep").mkdir(parents=True)
    (notes / "b.txt").write_text("two\nlines\n")
    (notes / "a.txt").write_bytes(gzip.compress(b"one"))
    (notes / ".hidden.txt").write_text("no")
    items = read(tmp_path / pattern)
    assert [item.payload["question"] for item in items] == ["one", "two\nlines\n"]
    assert [item.key.rpartition("/")[2] for item in items] == ["a.txt", "b.txt"]
    [first, _] = read(tmp_path / pattern, template="{file}: {text}")
    assert first.payload["question"].endswith("a.txt: one")


def test_read_directory_names_the_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(InvalidRequest) as caught:
        read(tmp_path)
    assert caught.value.what.startswith("File b.bin: ")
    assert [item.error is None for item in read(tmp_path, skip_bad=True)] == [True, False]
    with pytest.raises(InvalidRequest):
        read(tmp_path / "*.md")


def test_read_json_array_longer_than_a_chunk_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    texts = [f"Question {number} {'x' * (number % 700)}" for number in range(1000)]
    path.write_text(json.dumps([{"question": text} for text in [*texts, "y" * 200_000]], indent=1))
    items = read(path)
    assert [item.payload["question"] for item in items] == [*texts, "y" * 200_000]
    assert [item.place for item in items[:2]] == ["Line 2", "Line 5"]


def test_read_second_id_with_skip_bad_is_an_error_of_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text\n1,a\n1,b\n2,c\n")
    items = read(path, skip_bad=True)
    assert [item.error is None for item in items] == [True, False, True]
    assert len({item.key for item in items}) == 3


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("txt", {"delimiter": ";"}),
        ("csv", {"delimiter": ";;"}),
        ("csv", {"sheet": "a"}),
        ("xlsx", {"encoding": "cp1252"}),
        ("csv", {"encoding": "none-such"}),
    ],
)
def test_read_option_of_another_format_is_refused(
    tmp_path: Path, form: str, options: dict[str, str]
) -> None:
    path = tmp_path / "a"
    path.write_text("text\n")
    with pytest.raises(InvalidRequest) as caught:
        read(path, form=form, **options)
    assert f"--{next(iter(options))}" in caught.value.what
