from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qacli.batch.writer import ResultWriter, format_of
from qacli.cli.console import Console
from qacli.db.batches import FinishedItem
from qacli.domain import Outcome, Question, Status
from qacli.errors import DatabaseError, InvalidRequest
from qacli.record_fields import RECORD_FIELDS
from qacli.serializers import record_to_dict

ANSWERED = Outcome(
    status=Status.ANSWERED,
    answer='A "ß"\n',
    model="m-1",
    provider_response_id="r-1",
    finish_reason="stop",
    prompt_tokens=3,
    completion_tokens=4,
)
FAILED = Outcome(
    status=Status.FAILED,
    error_kind="provider-refused",
    error="The provider answered 400: No.",
)


def finished_item(
    position: int, outcome: Outcome = ANSWERED, question: str = "Q, \n?"
) -> FinishedItem:
    ask = Question(
        question=question,
        params={"model": "m", "stop": ["ß"]},
        tags=["t"],
        batch_id=1,
        item_key=f"k{position}",
    )
    return FinishedItem(position, f"k{position}", record_to_dict(ask, outcome, position + 1))


def write_results(path: Path, form: str, *items: FinishedItem) -> str:
    """Write items to a file, each by its own call, and return the text of the file."""
    with ResultWriter(path, form, force=True) as output:
        for item in items:
            output.write([item])
    return path.read_text()


@pytest.mark.parametrize(
    ("name", "named", "form"),
    [
        ("a.csv", None, "csv"),
        ("a.jsonl", None, "jsonl"),
        ("a.parquet", None, "parquet"),
        ("a.txt", None, "jsonl"),
        ("a", None, "jsonl"),
        ("a.csv", "openai", "openai"),
    ],
)
def test_format_of_returns_the_option_or_that_of_the_file_name(
    name: str, named: str | None, form: str
) -> None:
    assert format_of(Path(name), named) == form
    assert format_of(None, named) == (named or "jsonl")


def test_writer_jsonl_line_is_a_record(tmp_path: Path) -> None:
    items = [finished_item(0), finished_item(1, FAILED)]
    lines = write_results(tmp_path / "a.jsonl", "jsonl", *items).splitlines()
    assert [json.loads(line) for line in lines] == [item.record for item in items]
    assert list(json.loads(lines[0])) == list(RECORD_FIELDS)
    assert "ß" in lines[0]


def test_writer_csv_can_be_read_again(tmp_path: Path) -> None:
    text = write_results(tmp_path / "a.csv", "csv", finished_item(0), finished_item(1, FAILED))
    first, second = csv.DictReader(io.StringIO(text, newline=""))
    assert list(first) == list(RECORD_FIELDS)
    assert (first["question"], first["answer"]) == ("Q, \n?", 'A "ß"\n')
    assert json.loads(first["params"]) == {"model": "m", "stop": ["ß"]}
    assert json.loads(first["tags"]) == ["t"]
    assert (second["status"], second["answer"], second["cost_usd"]) == ("failed", "", "")


def test_writer_openai_line_has_reasoning_apart_from_the_answer(tmp_path: Path) -> None:
    text = write_results(
        tmp_path / "a.jsonl", "openai", finished_item(0, replace(ANSWERED, reasoning="Hm."))
    )
    message = json.loads(text)["response"]["body"]["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == (ANSWERED.answer, "Hm.")


def test_writer_openai_lines_have_the_form_of_its_batch_api(tmp_path: Path) -> None:
    text = write_results(tmp_path / "a.jsonl", "openai", finished_item(0), finished_item(1, FAILED))
    good, bad = (json.loads(line) for line in text.splitlines())
    assert list(good) == ["id", "custom_id", "response", "error"]
    assert (good["custom_id"], good["error"]) == ("k0", None)
    body = good["response"]["body"]
    assert good["response"]["status_code"] == 200
    assert (body["object"], body["id"], body["model"]) == ("chat.completion", "r-1", "m-1")
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": 'A "ß"\n'},
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert (bad["custom_id"], bad["response"]) == ("k1", None)
    assert bad["error"] == {"code": "provider-refused", "message": "The provider answered 400: No."}


def test_writer_written_lines_can_be_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with ResultWriter(path, "jsonl") as output:
        output.write([finished_item(0), finished_item(1)])
        assert path.read_text().count("\n") == 2


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_writer_truncated_file_is_written_again(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a"
    whole = write_results(path, form, finished_item(0), finished_item(1))
    path.write_text(whole[: len(whole) // 2])
    again = write_results(path, form, finished_item(0), finished_item(1))
    assert again.count("\n") == whole.count("\n")
    assert len(again) == len(whole)


def test_writer_second_of_one_file_is_refused_and_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with ResultWriter(path, "jsonl") as output:
        output.write([finished_item(0)])
        with pytest.raises(InvalidRequest) as caught:
            ResultWriter(path, "jsonl")
        assert str(path) in caught.value.what
        assert path.read_text().count("\n") == 1
    with ResultWriter(path, "jsonl", force=True):
        pass


def test_output_existing_file_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("precious\n")
    with pytest.raises(InvalidRequest) as caught:
        ResultWriter(path, "jsonl")
    assert "--force" in caught.value.todo
    ResultWriter(path, "jsonl", force=True).close()
    assert path.read_text() == "precious\n"
    with ResultWriter(path, "jsonl", force=True):
        pass
    assert path.read_text() == ""
    # An empty file may be replaced.
    ResultWriter(path, "jsonl").close()
    ResultWriter(tmp_path / "new.jsonl", "jsonl").close()
    assert not (tmp_path / "new.jsonl").exists()


@pytest.mark.parametrize("form", ["jsonl", "csv", "openai"])
def test_output_own_file_is_rewritten_unless_changed(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a"

    items = [finished_item(0), finished_item(1)]

    def again(state: dict[str, Any]) -> str:
        with ResultWriter(path, form, batch_id=1, outputs={str(path): state}) as output:
            output.write(items)
        return path.read_text()

    with ResultWriter(path, form) as output:
        open_state = output.state(complete=False)
        output.write(items)
    done_state = output.state(complete=True)
    whole = again(done_state)
    # A killed run has not stored how much of the file it had written.
    path.write_text(path.read_text()[:30])
    assert again(open_state) == whole
    done_state = {**done_state, **output.state(complete=True)}
    with path.open("a") as file:
        file.write("mine\n")
    with pytest.raises(InvalidRequest):
        again(done_state)
    path.write_text("precious\n")
    with pytest.raises(InvalidRequest):
        again(open_state)
    assert path.read_text() == "precious\n"
    with pytest.raises(InvalidRequest):
        again({"inode": open_state["inode"] + 1})


@pytest.mark.parametrize("name", ["q.txt", "./sub/../q.txt", "hard.txt", "symbolic.txt"])
def test_output_file_of_questions_is_refused_by_any_name(
    home: Path, tmp_path: Path, name: str
) -> None:
    assert home == tmp_path
    source = tmp_path / "q.txt"
    source.write_text("one\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "hard.txt").hardlink_to(source)
    (tmp_path / "symbolic.txt").symlink_to(source)
    with pytest.raises(InvalidRequest) as caught:
        ResultWriter(Path(name), "jsonl", source=source, force=True)
    assert name.rpartition("/")[2] in caught.value.what
    assert source.read_text() == "one\n"


def test_writer_unwritable_path_raises_an_error_with_the_path(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "a.jsonl", tmp_path):
        with pytest.raises(InvalidRequest) as caught:
            ResultWriter(path, "jsonl")
        assert str(path) in caught.value.what


def test_writer_full_disk_raises_database_error() -> None:
    output = ResultWriter(Path("/dev/full"), "jsonl")
    with pytest.raises(DatabaseError) as caught:
        output.write([finished_item(0)])
    with suppress(OSError):  # the rest still cannot be written
        output.__exit__(None, None, None)
    assert "cannot be written" in caught.value.what
    assert "no question is asked twice" in caught.value.todo


def test_writer_after_a_full_disk_keeps_lines_whole(tmp_path: Path) -> None:
    # The limit of the file's size allows one group; the second is written when it is lifted.
    program = f"""
import resource, signal, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from integration.batch.test_writer import finished_item
from qacli.batch.writer import ResultWriter
from qacli.errors import DatabaseError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
output = ResultWriter(Path("a.jsonl"), "jsonl")
output.write([finished_item(0)])
size = Path("a.jsonl").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
try:
    output.write([finished_item(1)])
except DatabaseError:
    pass
else:
    sys.exit("it was not full")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
output.write([finished_item(1)])
output.write([finished_item(2)])
output.__exit__(None, None, None)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["item_key"] for line in lines] == ["k0", "k1", "k2"]


def test_writer_closed_pipe_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    pipe = os.fdopen(write, "w")
    monkeypatch.setattr("sys.stdout", pipe)
    with ResultWriter(None, "jsonl", stdout=Console.from_process()) as output:
        for _ in range(3):
            output.write([finished_item(0)])
        assert output.closed
    pipe.close()


def test_writer_parquet_needs_a_file_and_pyarrow(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ResultWriter(None, "parquet")
    assert "-o" in caught.value.todo
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    with ResultWriter(path, "parquet") as output:
        output.write([finished_item(0)])
        output.write([finished_item(1, FAILED)])
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    assert [row["item_key"] for row in rows] == ["k0", "k1"]
    assert (rows[0]["id"], rows[0]["prompt_tokens"], rows[1]["answer"]) == (1, 3, None)
    assert pa.types.is_int64(parquet.read_schema(path).field("id").type)
