from __future__ import annotations

import csv
import gzip
import io
import json
import random
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from qacli.batch import item_reader
from qacli.batch.options import BatchOptions
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who am I?"}]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a file, compressed if its name ends in `.gz`."""

    def write(name: str, content: str | bytes) -> Path:
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def read(path: Path | None, **options: Any) -> list[item_reader.BatchInput]:
    form = options.pop("form", None) or item_reader.format_of(path, None)
    return list(item_reader.read_items(path, item_reader.InputOptions(form=form, **options)))


def questions(path: Path | None, **options: Any) -> list[str]:
    return [item.payload["question"] for item in read(path, **options)]


def request_line(**fields: Any) -> str:
    line = {
        "custom_id": "r-1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m-9", "messages": MESSAGES, "top_p": 0.5},
    }
    return json.dumps({**line, **fields})


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "Who am I?\nWho are you?\n"),
        ("a.text", "Who am I?\nWho are you?"),
        ("a", "Who am I?\nWho are you?"),
        ("a.txt", "\ufeffWho am I?\r\nWho are you?\r\n"),
        ("a.txt", "\n  \nWho am I?\n\r\n\t\nWho are you?\n\n"),
        ("a.csv", "question\nWho am I?\nWho are you?\n"),
        ("a.csv", '\ufeffn,prompt\r\n1,"Who am I?"\r\n\r\n2,Who are you?\r\n'),
        ("a.tsv", "text\tn\nWho am I?\t1\nWho are you?\t2\n"),
        ("a.jsonl", '{"question": "Who am I?"}\n\n{"prompt": "Who are you?", "n": 1}\n'),
        ("a.jsonl", '\ufeff{"question": "Who am I?"}\r\n"Who are you?"\r\n'),
        ("a.ndjson", '{"text": "Who am I?"}\n{"text": "Who are you?"}'),
    ],
)
def test_read_file_of_each_format_gives_questions(
    write: Callable[..., Path], name: str, content: str, packed: str
) -> None:
    path = write(name + packed, content)
    found = read(path)
    assert [item.payload["question"] for item in found] == ["Who am I?", "Who are you?"]
    assert [item.position for item in found] == [0, 1]
    assert len({item.key for item in found}) == 2


def test_read_compressed_file_is_detected_by_its_bytes(
    write: Callable[..., Path],
) -> None:
    assert questions(write("a.txt", gzip.compress(b"Who am I?\n"))) == ["Who am I?"]
    plain = write("b.txt", "Who am I?\n")
    assert questions(plain.rename(plain.with_name("b.txt.gz"))) == ["Who am I?"]


def test_read_txt_text_is_unchanged(write: Callable[..., Path]) -> None:
    assert questions(write("a.txt", "  Grüße, 世界 🌍\t\u2028\x0b\x85x \\ '\"{a} \n")) == [
        "  Grüße, 世界 🌍\t\u2028\x0b\x85x \\ '\"{a} "
    ]


def test_read_csv_field_with_quotes_commas_and_line_ends(write: Callable[..., Path]) -> None:
    path = write("a.csv", 'n,question\n1,"Who, ""really"",\r\nam I?\n"\n2,"a\tb"\n')
    assert questions(path) == ['Who, "really",\r\nam I?\n', "a\tb"]


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('n,question\n1,"one\n2,two\n3,three\n', 2),
        ('n,question\n1,one\n2,"two\n3,"three"\n4,four\n', 4),
        ('n,question\n1,the 5" pipe\n2,two\n', 2),
        ('n,question\n1,one\n2, "two"\n', 3),
        ('n,question\n1,"one" more\n', 2),
        ('n,question\n1,"one"more,"x"\n', 2),
        ('n,question\n1,"a ""quoted"" one"\n2,"""\n', 3),
        ('"question\none\n', 1),
    ],
)
def test_read_csv_misplaced_quote_is_refused_with_its_line(
    write: Callable[..., Path], content: str, line: int, skip_bad: bool
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(write("a.csv", content), skip_bad=skip_bad)
    assert caught.value.what.startswith(f"Line {line}: ")
    assert "--no-quotes" in caught.value.todo


def test_read_csv_of_the_csv_writer_is_unchanged(write: Callable[..., Path]) -> None:
    chance = random.Random(4180)
    alphabet = ['"', '""', ",", "\n", "\r\n", "a", "b c", "\t"]
    rows = [
        ["".join(chance.choices(alphabet, k=chance.randint(0, 6))) for _ in range(3)]
        for _ in range(2000)
    ]
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        text = io.StringIO(newline="")
        csv.writer(text, quoting=quoting).writerows(
            [["n", "a", "b", "c"], *(["0", *row] for row in rows)]
        )
        found = questions(write("a.csv", text.getvalue()), template="{n}|{a}|{b}|{c}.")
        assert found == ["|".join(["0", *row]) + "." for row in rows]


def test_read_tsv_quotes_are_text_unless_asked_for(write: Callable[..., Path]) -> None:
    path = write("a.tsv", 'n\tquestion\n1\t"one\n2\tthe 5" pipe\n3\t"two"\n')
    assert questions(path) == ['"one', 'the 5" pipe', '"two"']
    quoted = write("b.tsv", 'n\tquestion\n1\t"one\tand\n""two"""\n')
    assert questions(quoted, quotes=True) == ['one\tand\n"two"']
    assert questions(write("a.csv", 'n,question\n1,the 5" pipe\n'), quotes=False) == ['the 5" pipe']
    with pytest.raises(InvalidRequest) as caught:
        read(write("a.txt", "one\n"), quotes=True)
    assert "--quotes" in caught.value.what


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "n,question\n1,one\n2,two,more\n3,three\n"),
        ("a.csv", "n,question\n1,one\n2\n3,three\n"),
        ("a.csv", 'n,question\n1,"one\n"\n\n2\n3,three\n'),
        ("a.tsv", "n\tquestion\n1\tone\n2\ttwo\t\n3\tthree\n"),
    ],
)
def test_read_table_row_of_other_length_is_refused_with_its_line(
    write: Callable[..., Path], name: str, content: str
) -> None:
    path = write(name, content)
    with pytest.raises(InvalidRequest) as caught:
        read(path)
    number = content[: content.index("\n2")].count("\n") + 2
    assert caught.value.what.startswith(f"Line {number}: the row has ")
    assert "--skip-bad" in caught.value.todo
    found = read(path, skip_bad=True)
    assert [item.error is None for item in found] == [True, False, True]


def test_read_csv_large_field_is_accepted(write: Callable[..., Path]) -> None:
    large = "x" * 300_000
    assert questions(write("a.csv", f"question\n{large}\n")) == [large]


def test_read_table_column_or_template_is_the_question(write: Callable[..., Path]) -> None:
    path = write("a.csv", "word,lang\nHaus,German\nmaison,French\n")
    assert questions(path, column="word") == ["Haus", "maison"]
    template = "{{{word}}} in {lang}: {word}?"
    assert questions(path, template=template) == [
        "{Haus} in German: Haus?",
        "{maison} in French: maison?",
    ]


def test_read_template_takes_any_value_of_an_object(write: Callable[..., Path]) -> None:
    path = write("a.jsonl", '{"a": "é", "n": 1.5, "l": ["ü", null], "o": {"b": true}}\n')
    assert questions(path, template="{a} {n} {l} {o}") == ['é 1.5 ["ü", null] {"b": true}']


def test_read_template_works_on_lines_of_text(write: Callable[..., Path]) -> None:
    path = write("a.txt", "one\ntwo\n")
    assert questions(path, template="Say {question}.") == ["Say one.", "Say two."]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("Translate", "{column}"),
        ("{}", "{column}"),
        ("Translate {text", "template"),
        ("Translate text}", "template"),
    ],
)
def test_read_template_invalid_raises(write: Callable[..., Path], template: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(write("a.csv", "text\nx\n"), template=template)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.csv", "text,x\none,1\ntwo,2\n", 2),
        ("a.csv", "x,word\n1,one\n\n2\n", 4),
        ("a.jsonl", '{"word": "one"}\n\n{"text": "two"}\n', 3),
    ],
)
def test_read_missing_column_is_named_with_its_line(
    write: Callable[..., Path], name: str, content: str, line: int
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(write(name, content), template="Translate {word}")
    assert f"Line {line}:" in caught.value.what
    assert "'word'" in caught.value.what
    assert "--skip-bad" in caught.value.todo


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.jsonl", '{"question": "x"}\n{"question": \n', 2),
        ("a.jsonl", "[1]\n", 1),
        ("a.jsonl", "null\n", 1),
        ("a.jsonl", '{"question": NaN}\n', 1),
        ("a.jsonl", '{"question": " "}\n', 1),
        ("a.jsonl", '{"question": null}\n', 1),
        ("a.jsonl", '{"q": "x"}\n', 1),
        ("a.jsonl", '{"question": "x", "temperature": 2.1}\n', 1),
        ("a.jsonl", '{"question": "x", "temperature": "hot"}\n', 1),
        ("a.jsonl", '{"question": "x", "temperature": 1e400}\n', 1),
        ("a.jsonl", '{"question": "x", "max_tokens": 0}\n', 1),
        ("a.jsonl", '{"question": "x", "max_tokens": [1]}\n', 1),
        ("a.jsonl", '{"question": "x", "max_tokens": 1e400}\n', 1),
        ("a.jsonl", '{"question": "x", "schema": "no"}\n', 1),
        ("a.jsonl", '{"question": "x", "schema": {"type": "x"}}\n', 1),
        ("a.jsonl", '{"question": "x\\u0000"}\n', 1),
        ("a.jsonl", '{"question": "x\\ud800"}\n', 1),
        ("a.jsonl", '{"question": "x", "id": "\\u0000"}\n', 1),
        ("a.jsonl", '{"question": "x", "tags": ["\\u0000"]}\n', 1),
        ("a.jsonl", '{"question": "x", "tags": [""]}\n', 1),
        ("a.jsonl", '{"question": "x", "tags": ["a", " b"]}\n', 1),
        ("a.jsonl", '{"question": "x", "tags": "  "}\n', 1),
        ("a.jsonl", "[" * 100_000 + "\n", 1),
        ("a.txt", "one\ntwo\0\n", 2),
        ("a.csv", "question\none\ntwo\0\n", 3),
        ("a.jsonl", request_line(url="/v1/embeddings"), 1),
        ("a.jsonl", request_line(method="GET"), 1),
        ("a.jsonl", request_line(body={"model": "m"}), 1),
        ("a.jsonl", request_line(body={"messages": []}), 1),
        ("a.jsonl", request_line(body={"messages": MESSAGES[:1]}), 1),
        ("a.jsonl", request_line(body={"messages": MESSAGES, "stream": True}), 1),
        ("a.jsonl", request_line(body={"messages": MESSAGES, "temperature": "hot"}), 1),
        ("a.jsonl", request_line(body={"messages": MESSAGES, "max_tokens": "7"}), 1),
        (
            "a.jsonl",
            request_line(body={"messages": [{"role": "user", "content": [{"text": 1}]}]}),
            1,
        ),
    ],
)
def test_read_invalid_line_is_named(
    write: Callable[..., Path], name: str, content: str, line: int
) -> None:
    path = write(name, content)
    with pytest.raises(InvalidRequest) as caught:
        read(path)
    assert f"Line {line}:" in caught.value.what
    assert caught.value.todo
    bad = [item for item in read(path, skip_bad=True) if item.error is not None]
    assert [item.error for item in bad] == [caught.value.what]


def test_read_skip_bad_returns_errors_and_reads_the_rest(
    write: Callable[..., Path],
) -> None:
    path = write("a.jsonl", '{"question": "one"}\n{"oops\n{"x": "\\u0000"}\n{"question": "two"}\n')
    found = read(path, skip_bad=True)
    assert [item.position for item in found] == [0, 1, 2, 3]
    assert [item.error is None for item in found] == [True, False, False, True]
    assert found[1].stored()["question"] == '{"oops'
    assert "Line 2" in found[1].stored()["error"]
    assert "\0" not in found[2].stored()["question"]
    assert len({item.key for item in found}) == 4


def test_read_object_sets_its_own_parameters(write: Callable[..., Path]) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    line = {
        "id": 7,
        "question": "Who am I?",
        "system": "Be brief.",
        "model": "m-9",
        "temperature": 0,
        "max_tokens": 5,
        "schema": schema,
        "tags": ["a", "ß"],
        "other": "ignored",
    }
    [item] = read(write("a.jsonl", json.dumps(line)))
    assert item.key == "7"
    assert item.payload["system"] == "Be brief."
    assert item.payload["tags"] == ["a", "ß"]
    params = item.payload["params"]
    assert (params["model"], params["temperature"], params["max_tokens"]) == ("m-9", 0.0, 5)
    assert params["response_format"]["type"] == "json_schema"
    assert params["response_format"]["json_schema"]["schema"] == schema
    params = {"temperature": 1.0, "top_p": 0.5}
    options = BatchOptions(batch_id=3, model="other", system="Long.", params=params)
    ask = options.question(item.key, item.payload)
    assert (ask.batch_id, ask.item_key, ask.system) == (3, "7", "Be brief.")
    assert (ask.model, ask.params["temperature"], ask.params["top_p"]) == ("m-9", 0.0, 0.5)


def test_read_table_column_is_text_and_no_setting(write: Callable[..., Path]) -> None:
    path = write("a.csv", "model,temperature\nCorolla,35\n")
    [item] = read(path, template="Does a {model} start at {temperature} degrees?")
    assert item.payload == {"question": "Does a Corolla start at 35 degrees?"}


def test_read_openai_request_line_is_unchanged(write: Callable[..., Path]) -> None:
    [item] = read(write("a.jsonl", request_line()))
    assert (item.key, item.payload["question"]) == ("r-1", "Who am I?")
    assert item.payload["params"] == {"model": "m-9", "messages": MESSAGES, "top_p": 0.5}
    parts = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "x"}}]
    body = {"model": "m", "messages": [{"role": "user", "content": parts}]}
    [item] = read(write("b.jsonl", request_line(body=body)))
    assert item.payload["question"] == "Look:"
    assert item.payload["params"] == body


def test_read_item_key_depends_on_place_and_content(write: Callable[..., Path]) -> None:
    first = [item.key for item in read(write("a.txt", "x\nx\ny\n"))]
    assert len(set(first)) == 3
    assert [item.key for item in read(write("a.csv", "question\nx\nx\ny\n"))] == first
    assert [item.key for item in read(write("a.txt", "\nx\n\nx\nz\n"))][:2] == first[:2]
    assert [item.key for item in read(write("a.txt", "x\nx\nz\n"))][2] != first[2]
    hot = '{"question": "x", "temperature": 1}\n'
    assert [item.key for item in read(write("a.jsonl", hot))] != first[:1]


@pytest.mark.parametrize("given", ["null", '""'])
def test_read_empty_id_is_replaced_by_a_key(write: Callable[..., Path], given: str) -> None:
    line = '{"question": "x", "id": %s}\n'
    found = read(write("a.jsonl", line % given * 2))
    assert len({item.key for item in found} | {""}) == 3


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_read_invalid_utf8_raises(write: Callable[..., Path], name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(write(name, b"question\ncaf\xe9\n"))
    assert "UTF-8" in str(caught.value)


def test_read_damaged_compressed_file_raises(
    write: Callable[..., Path],
) -> None:
    packed = gzip.compress("".join(f"Question {n}\n" for n in range(5000)).encode())
    for data in (
        packed[:-200],
        packed[:3000] + b"\xff" * 50 + packed[3050:],
        packed[:-4] + b"xxxx",
    ):
        path = write("a.txt", data)
        with pytest.raises(InvalidRequest) as caught:
            read(path)
        assert "cannot be read" in caught.value.what


def test_read_empty_file_has_no_items(write: Callable[..., Path]) -> None:
    for name in ("a.txt", "a.csv", "a.tsv", "a.jsonl", "a.txt.gz"):
        assert read(write(name, "")) == []
    for name, content in (("a.txt", "\ufeff\n \n"), ("a.csv", "question\r\n\r\n")):
        assert read(write(name, content)) == []


def test_format_of_returns_the_option_or_that_of_the_name(tmp_path: Path) -> None:
    assert item_reader.format_of(tmp_path / "a.csv.gz", None) == "csv"
    assert item_reader.format_of(tmp_path / "a.b.jsonl", None) == "jsonl"
    assert item_reader.format_of(tmp_path / "a.xlsx", "tsv") == "tsv"
    assert item_reader.format_of(None, None) == "txt"
    with pytest.raises(InvalidRequest) as caught:
        item_reader.format_of(tmp_path / "a.docx", None)
    assert "--input" in caught.value.todo
    with pytest.raises(InvalidRequest):
        item_reader.format_of(tmp_path / "a.txt", "docx")


def test_read_missing_file_raises(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(InvalidRequest) as caught:
            read(path, form="txt")
        assert str(path) in caught.value.what


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_read_stdin_plain_or_compressed(
    monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    given = io.TextIOWrapper(io.BufferedReader(io.BytesIO(pack(b"Who am I?\n\nAnd you?\n"))))
    monkeypatch.setattr("sys.stdin", given)
    assert questions(None) == ["Who am I?", "And you?"]


def test_read_items_long_file_takes_no_more_memory(tmp_path: Path) -> None:
    def peak(lines: int) -> int:
        path = tmp_path / "a.txt"
        with path.open("w") as file:
            file.writelines(f"Question {number}, with some more words\n" for number in range(lines))
        tracemalloc.start()
        try:
            for item in item_reader.read_items(path, item_reader.InputOptions(form="txt")):
                assert item.position < lines
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Threads of other tests are traced, too: the least of three is that of the reader.
    long = min(peak(10_000) for _ in range(3))
    assert long < 1.2 * peak(2_000) + 50_000
