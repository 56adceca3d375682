"""`qacli.batch`: the same batches as those of `qa batch`, from any rows."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import Invoke
from fake_provider import FakeProvider
from pydantic import BaseModel, field_validator

from qacli import BatchResult, batch
from qacli.db.records import Store
from qacli.errors import InvalidRequest, KeyRejected, NotConfigured

WORDS = [{"id": f"w{n}", "word": f"word {n}"} for n in range(12)]


class Label(BaseModel):
    label: str


class LongLabel(Label):
    @field_validator("label")
    @classmethod
    def check_label(cls, label: str) -> str:
        if len(label) < 5:
            raise ValueError("it is too short")
        return label


def questions_of(results: Any) -> list[str]:
    return [result.question for result in results]


def test_batch_of_texts_returns_results_in_order(history: Store) -> None:
    results = list(batch([f"Question {n}?" for n in range(250)], tags=["many"]))
    assert [result.answer for result in results] == [
        f"Answer to: Question {n}?" for n in range(250)
    ]
    record = history.get(results[7].id or 0)
    assert results[7].record == record.to_dict()
    assert (results[7].row, results[7].error, results[7].data) == (None, None, None)
    assert record.tags == ["many"]
    assert history.count() == 250


def test_batch_of_several_models_has_a_result_for_each(history: Store) -> None:
    results = list(batch(WORDS[:2], column="word", model=["gpt-4o", "gpt-4o-mini"]))
    assert [(result.row, result.key) for result in results] == [
        (row, f"{row['id']}:{model}") for row in WORDS[:2] for model in ("gpt-4o", "gpt-4o-mini")
    ]
    assert history.count() == 4


def test_batch_again_with_the_same_rows_asks_nothing(
    history: Store, provider: FakeProvider, invoke: Invoke
) -> None:
    first = batch(WORDS, question="Define {word}")
    expected = list(first)
    second = batch(iter(WORDS), question="Define {word}")
    assert second.name == first.name
    assert list(second) == expected
    assert len(provider.requests) == len(WORDS) == history.count()
    shown = json.loads(invoke("batch", "show", first.name, "--json").out)
    assert shown["states"]["answered"] == len(WORDS)
    assert batch(WORDS, question="Explain {word}").name != first.name


def test_batch_iterator_left_early_continues_at_the_next_call(
    history: Store, provider: FakeProvider
) -> None:
    provider.default = "delay=0.01"
    results = batch(WORDS, question="Define {word}", name="words", jobs=2)
    assert next(results).key == "w0"
    results.close()
    provider.default = ""
    again = list(batch(WORDS, question="Define {word}", name="words"))
    assert [result.key for result in again] == [row["id"] for row in WORDS]
    assert all(result.status == "answered" for result in again)
    assert history.count() == len(WORDS)


@pytest.mark.usefixtures("history")
def test_batch_keeps_rows_and_takes_more_of_them(provider: FakeProvider) -> None:
    list(batch(WORDS[:5], question="Define {word}", name="words"))
    results = list(
        batch([*WORDS, {"id": 99, "word": "new"}], question="Define {word}", name="words")
    )
    assert [result.row for result in results[:-1]] == WORDS
    assert (results[-1].key, results[-1].row) == ("99", {"id": 99, "word": "new"})
    assert len(provider.requests) == 13


@pytest.mark.usefixtures("history")
def test_batch_with_a_schema_returns_instances(provider: FakeProvider) -> None:
    provider.default = "schema=1"
    results = list(batch(["One", "Two"], schema=Label, name="labels"))
    assert [result.data for result in results] == [Label(label="x")] * 2


@pytest.mark.usefixtures("history")
def test_batch_answer_that_a_validator_refuses_has_an_error_and_no_data(
    provider: FakeProvider,
) -> None:
    provider.default = "schema=1"
    (result,) = batch(["One"], schema=LongLabel, name="labels")
    assert (result.status, result.data) == ("answered", None)
    assert "it is too short at $.label" in (result.error or "")


@pytest.mark.usefixtures("history")
def test_batch_failed_row_is_a_result_and_can_be_asked_again(provider: FakeProvider) -> None:
    rows = ["Good", "[[status=400 times=1]] Bad"]
    results = list(batch(rows, name="b"))
    assert [result.status for result in results] == ["answered", "failed"]
    assert (results[1].error or "").startswith("provider-refused: ")
    again = list(batch(rows, name="b", retry_failed=True))
    assert [result.status for result in again] == ["answered", "answered"]
    assert provider.asked("Good") == 1


@pytest.mark.usefixtures("history")
def test_batch_refused_key_is_raised_after_the_results(provider: FakeProvider) -> None:
    assert len(list(batch(["One"], name="b"))) == 1
    provider.default = "status=401"
    results = batch(["One", "Two"], name="b")
    assert next(results).question == "One"
    with pytest.raises(KeyRejected):
        list(results)


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    ("rows", "options", "error", "sentence"),
    [
        (["a", " "], {}, InvalidRequest, "there is no question"),
        ([{"w": 1}], {}, InvalidRequest, "there are 'w'"),
        (["a", 3], {}, InvalidRequest, "Row 2 is a value of the type int"),
        ([{"text": object()}], {}, InvalidRequest, "Row 1 has a value that is not data"),
        ("a", {}, InvalidRequest, "The rows are one str"),
        ([], {}, InvalidRequest, "There is no question"),
        (["a"], {"template": "missing"}, InvalidRequest, "missing"),
        (["a"], {"model": "local:missing.gguf"}, (InvalidRequest, NotConfigured), "GGUF"),
        (["a"], {"max_cost": 1.0}, InvalidRequest, "has no price"),
        ([{"id": 1, "text": "a"}, {"id": 1, "text": "b"}], {}, InvalidRequest, "that of line 1"),
    ],
)
def test_batch_unusable_rows_or_arguments_are_refused_at_once(
    provider: FakeProvider, rows: Any, options: dict[str, Any], error: Any, sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        batch(rows, **options)
    assert provider.requests == []


@pytest.mark.usefixtures("history")
def test_batch_other_rows_under_the_same_name_are_refused() -> None:
    list(batch(["One", "Two"], name="b"))
    with pytest.raises(InvalidRequest, match="--changed"):
        batch(["One", "Three"], name="b")
    assert questions_of(batch(["One", "Three"], name="b", changed=True)) == ["One", "Three"]


DATA: dict[str, list[Any]] = {"text": ["a", "b"], "n": [1.5, None]}
DAYS = {"day": [date(2026, 1, 2), None]}


def make_frame(package: str) -> Any:
    """Return a data frame; its package is loaded only here, because that takes long."""
    if package == "pandas":
        import pandas as pd

        return pd.DataFrame({**DATA, "day": pd.to_datetime(["2026-01-02", None])})
    if package == "polars":
        import polars as pl

        return pl.DataFrame(DATA | DAYS)
    import pyarrow as pa

    return pa.table(DATA | DAYS)


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("package", ["pandas", "polars", "pyarrow"])
def test_batch_of_a_data_frame_keeps_its_rows(package: str) -> None:
    frame = make_frame(package)
    first, second = batch(frame, question="{text}: {n} {day}", name="frame")
    assert first.question.startswith("a: 1.5 2026-01-02")
    assert second.question == "b:  "
    assert second.row == {"text": "b", "n": None, "day": None}


@pytest.mark.usefixtures("history")
def test_batch_of_a_frame_with_durations_writes_them_as_iso_8601() -> None:
    import polars as pl

    frame = pl.DataFrame({"took": [timedelta(days=1, seconds=61)]})
    assert questions_of(batch(frame, question="{took}", name="took")) == ["P1DT0H1M1S"]


@pytest.mark.usefixtures("history")
def test_batch_of_columns_of_a_data_frame_asks_their_texts() -> None:
    import pandas as pd
    import polars as pl

    texts = ["One", "Two"]
    assert questions_of(batch(pd.Series(texts), name="pandas")) == texts
    assert questions_of(batch(pl.Series(texts), name="polars")) == texts


@pytest.mark.usefixtures("history")
def test_batch_values_are_written_as_json() -> None:
    import pandas as pd

    row = {"n": pd.Series([3])[0], "d": Decimal("1.10"), "p": Path("a"), "f": float("inf")}
    (result,) = batch([row], question="{n} {d} {p} {f}", name="b")
    assert result.question == "3 1.10 a "


@pytest.mark.usefixtures("history")
def test_batch_of_a_file_has_its_columns(tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text("id,word\nw1,tree\n")
    (result,) = batch(tmp_path / "words.csv", question="Define {word}")
    assert (result.key, result.row) == ("w1", {"id": "w1", "word": "tree"})


@pytest.mark.usefixtures("history")
def test_batch_with_a_template_uses_its_parts(
    provider: FakeProvider, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QA_CONFIG", str(home / "config.toml"))
    (home / "templates").mkdir()
    (home / "templates" / "define.toml").write_text(
        'system = "Brief."\nquestion = "Define {word}"\nmodel = "other"\nschema = "label"\n'
    )
    provider.default = "schema=1"
    results = list(batch(WORDS[:2], template="define"))
    assert [result.data for result in results] == [{"label": "x"}] * 2
    body = provider.requests[0].body
    assert (body["model"], body["messages"][0]["content"]) == ("other", "Brief.")


@pytest.mark.usefixtures("history")
def test_batch_in_a_running_event_loop_works() -> None:
    async def main() -> list[BatchResult[None]]:
        return list(batch(["One", "Two"], name="b"))

    assert [result.answer for result in asyncio.run(main())] == [
        "Answer to: One",
        "Answer to: Two",
    ]


@pytest.mark.usefixtures("history")
def test_batch_at_the_batch_api_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('"One"\n')
    options = ("--name", "b", "--via", "batch-api", "--detach")
    assert invoke("batch", str(tmp_path / "q.jsonl"), *options).code == 0
    with pytest.raises(InvalidRequest, match="qa batch collect b"):
        batch(["One"], name="b")


PROGRAM = """
import sys
from qacli import batch
results = batch([f"Question {n}?" for n in range(40)], name="b", jobs=4)
for number, result in enumerate(results):
    print(result.answer, flush=True)
    if number == 3 and sys.argv[1] == "exit":
        sys.exit()
"""


@pytest.mark.parametrize("end", ["exit", "SIGINT", "SIGKILL"])
def test_batch_program_ended_early_loses_nothing_and_continues(
    history: Store, provider: FakeProvider, end: str
) -> None:
    provider.default = "delay=0.02"
    command = [sys.executable, "-c", PROGRAM, end]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"Answer to: Question 0?\n"
    if end != "exit":
        os.kill(process.pid, getattr(signal, end))
    _, err = process.communicate(timeout=60)
    assert (b"Traceback" in err) == (end == "SIGINT"), err
    provider.default = ""
    results = list(batch([f"Question {n}?" for n in range(40)], name="b"))
    assert [result.answer for result in results] == [f"Answer to: Question {n}?" for n in range(40)]
    assert history.count() == 40
