from __future__ import annotations

import csv
import gzip
import io
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from commands import Finished
from conftest import KEY, Invoke, Program

from qacli.cli.app import run
from qacli.price_table import PriceTable
from qacli.record_fields import RECORD_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Records
    from fake_provider import FakeProvider

    from .conftest import Seen

# One database: what differs between them is tested in tests/e2e and integration/db.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class InProcess(Program):
    """Run `qa` in this process, which is faster than to start a process."""

    def __call__(
        self, *arguments: str, input: str | bytes = b"", timeout: float = 60, **env: str
    ) -> Finished:
        del timeout
        data = input.encode() if isinstance(input, str) else input
        stdin, out, err = (
            io.TextIOWrapper(raw, write_through=True)
            for raw in (io.BufferedReader(io.BytesIO(data)), io.BytesIO(), io.BytesIO())  # type: ignore[arg-type]
        )
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**self.env, **env}.items():
                patch.setenv(name, value)
            for name, stream in (("stdin", stdin), ("stdout", out), ("stderr", err)):
                patch.setattr(sys, name, stream)
            code = run(list(arguments))
        texts = [_text(stream) for stream in (out, err)]
        return Finished(code, *texts)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.buffer.seek(0)
    return stream.buffer.read().decode()


@pytest.fixture
def qa(provider: FakeProvider, database_url: str) -> Program:
    return InProcess(
        {
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": provider.base_url,
            "QA_MODEL": "test-model",
            "DATABASE_URL": database_url,
        }
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a file of questions, and returns its name."""

    def write(*lines: str, name: str = "questions.txt") -> str:
        (tmp_path / name).write_text("".join(line + "\n" for line in lines))
        return name

    return write


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def keys_of(text: str) -> list[str]:
    return [line["item_key"] for line in lines_of(text)]


def show(invoke: Invoke, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(invoke("batch", "show", name, "--json").out)
    return shown


def check_no_traceback(done: Finished) -> None:
    assert "Traceback" not in done.err
    assert "should not have" not in done.err


def test_batch_file_asks_each_question_once_and_writes_in_order(
    invoke: Invoke, provider: FakeProvider, records: Records, write: Callable[..., str]
) -> None:
    asked = [f"Question {n} [[latency={0.2 if n % 3 == 0 else 0}]]" for n in range(20)]
    done = invoke("batch", write(*asked))
    assert (done.code, done.out.count("\n")) == (0, 20)
    out = lines_of(done.out)
    assert [line["question"] for line in out] == asked
    assert [line["answer"] for line in out] == [f"Answer to: {question}" for question in asked]
    assert list(out[0]) == list(RECORD_FIELDS)
    assert sorted(out, key=lambda line: line["id"]) == records()
    assert sorted(request.question for request in provider.requests) == sorted(asked)
    assert "20 answered" in done.err
    # The second run asks nothing, and writes the same results.
    again = invoke("batch", "questions.txt")
    assert (again.code, again.out) == (0, done.out)
    assert len(provider.requests) == 20
    # The records of a batch are in the history.
    assert len(json.loads(invoke("list", "--json").out)) == 20


def test_batch_unordered_writes_the_same_lines(invoke: Invoke, write: Callable[..., str]) -> None:
    name = write(*(f"Question {n} [[latency={0.6 if n == 0 else 0}]]" for n in range(8)))
    done = invoke("batch", name, "--unordered")
    assert done.code == 0
    questions = [line["question"] for line in lines_of(done.out)]
    assert questions[-1].startswith("Question 0 ")
    again = invoke("batch", name)
    assert sorted(again.out.splitlines()) == sorted(done.out.splitlines())


def test_batch_stdin_needs_a_name_to_resume(
    invoke: Invoke, provider: FakeProvider, records: Records
) -> None:
    nameless = invoke("batch", "-", input="one\ntwo\n")
    assert (nameless.code, provider.requests) == (2, [])
    assert "--name" in nameless.err
    packed = gzip.compress(b'{"question": "one"}\n{"question": "two"}\n')
    done = invoke("batch", "-", "--name", "n", "--input", "jsonl", input=packed)
    assert (done.code, len(records())) == (0, 2)
    assert invoke("batch", "-", "--name", "n", "--input", "jsonl", input=packed).code == 0
    assert len(provider.requests) == 2


def test_batch_openai_lines_are_read_and_written(
    invoke: Invoke, provider: FakeProvider, write: Callable[..., str]
) -> None:
    def line(custom_id: str, question: str) -> str:
        messages = [{"role": "system", "content": "S"}, {"role": "user", "content": question}]
        body = {"model": "m-9", "messages": messages, "top_p": 0.5, "seed": 7}
        head = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions"}
        return json.dumps({**head, "body": body})

    name = write(line("a", "one"), line("b", "two [[status=400 message=No.]]"), name="in.jsonl")
    done = invoke("batch", name, "--format", "openai", "--system", "unused")
    assert done.code == 8
    body = next(each.body for each in provider.requests if each.question == "one")
    assert body["messages"] == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "one"},
    ]
    assert (body["model"], body["top_p"], body["seed"]) == ("m-9", 0.5, 7)
    good, bad = lines_of(done.out)
    assert (good["custom_id"], good["error"]) == ("a", None)
    assert good["response"]["status_code"] == 200
    answer = good["response"]["body"]
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Answer to: one"}
    assert answer["usage"]["total_tokens"] > 0
    assert (bad["custom_id"], bad["response"]) == ("b", None)
    assert "No." in bad["error"]["message"]
    # The record has the system prompt of the request, not that of the batch.
    assert json.loads(invoke("show", "last", "--json").out)["system"] != "unused"


def test_batch_item_settings_override_those_of_the_batch(
    invoke: Invoke, provider: FakeProvider, records: Records, write: Callable[..., str]
) -> None:
    own = {"id": "own", "question": "one", "system": "Mine.", "model": "m-9", "tags": ["t"]}
    name = write(json.dumps({**own, "temperature": 0.1, "max_tokens": 5}), '"two"', name="a.jsonl")
    done = invoke(
        *("batch", name, "--system", "Yours.", "--model", "m-1"),
        *("--temperature", "1", "--max-tokens", "9"),
    )
    assert done.code == 0
    bodies = {request.question: request.body for request in provider.requests}
    sent = [
        (body["model"], body["temperature"], body["max_tokens"], body["messages"][0]["content"])
        for body in (bodies["one"], bodies["two"])
    ]
    assert sent == [("m-9", 0.1, 5, "Mine."), ("m-1", 1, 9, "Yours.")]
    kept = {record["question"]: record for record in records()}
    assert (kept["one"]["item_key"], kept["one"]["tags"]) == ("own", ["t"])
    assert kept["two"]["system"] == "Yours."


@pytest.mark.parametrize(
    ("name", "content", "arguments", "said"),
    [
        ("a.csv", "text\none\n", ["--question", "Say {word}"], "Line 2: there is no column 'word'"),
        ("a.jsonl", '{"question": "x"}\n{"question"\n', [], "Line 2"),
        ("a.txt", "", [], "no question"),
        ("a.txt", "\n\n", [], "no question"),
        ("a.txt", "one\n", ["--question", "Say {"], "template"),
        ("a.txt", "caf\xe9\n", [], "UTF-8"),
        ("a.txt", "one\0\n", [], "NUL"),
        ("a.jsonl", '{"id": 1, "question": "x"}\n{"id": "1", "question": "y"}\n', [], "'1'"),
        ("a.xlsx", "one\n", [], "--input"),
        ("a.txt", "one\n", ["--input", "xlsx"], "--input"),
        ("a.txt", "one\n", ["--format", "xml"], "--format"),
        ("a.txt", "one\n", ["--jobs", "0"], "--jobs"),
        ("a.txt", "one\n", ["--temperature", "3"], "3"),
        ("a.txt", "one\n", ["-o", "none/out.jsonl"], "out.jsonl"),
        ("a.txt", "one\n", ["--rpm", "0"], "--rpm"),
        ("a.txt", "one\n", ["--format", "parquet"], "arquet"),
    ],
)
def test_batch_invalid_file_exits_2_and_sends_nothing(
    invoke: Invoke,
    provider: FakeProvider,
    tmp_path: Path,
    name: str,
    content: str,
    arguments: list[str],
    said: str,
) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    done = invoke("batch", name, *arguments)
    check_no_traceback(done)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert provider.requests == []


def test_batch_unusable_file_creates_no_batch(
    invoke: Invoke, provider: FakeProvider, write: Callable[..., str]
) -> None:
    name = write("text,lang", "Haus,German", name="words.csv")
    assert invoke("batch", "none.txt").code == 2
    assert invoke("batch", name, "--name", "words", "--column", "word").code == 2
    assert json.loads(invoke("batch", "list", "--json").out) == []
    # So the corrected command creates the batch of this name.
    done = invoke("batch", name, "--name", "words", "--column", "text")
    assert done.code == 0, done.err
    assert [request.question for request in provider.requests] == ["Haus"]


def test_batch_skip_bad_records_bad_lines_as_failed(
    invoke: Invoke, provider: FakeProvider, records: Records, write: Callable[..., str]
) -> None:
    name = write('{"question": "one"}', '{"oops', '{"question": "two"}', name="a.jsonl")
    done = invoke("batch", name, "--skip-bad")
    assert done.code == 8
    assert [line["status"] for line in lines_of(done.out)] == ["answered", "failed", "answered"]
    assert sorted(request.question for request in provider.requests) == ["one", "two"]
    [failed] = [record for record in records() if record["status"] == "failed"]
    assert "Line 2" in failed["error"]
    assert failed["question"] == '{"oops'


def test_batch_failed_items_are_asked_again_by_retry_failed(
    invoke: Invoke, provider: FakeProvider, records: Records, write: Callable[..., str]
) -> None:
    name = write("one", "two [[status=400 times=1]]", "three [[status=422]]")
    done = invoke("batch", name, "--name", "n")
    assert done.code == 8
    assert "--retry-failed" in done.err
    assert [line["status"] for line in lines_of(done.out)] == ["answered", "failed", "failed"]
    before = {record["question"]: record["id"] for record in records()}
    assert invoke("batch", name, "--name", "n").code == 8
    assert len(provider.requests) == 3
    again = invoke("batch", name, "--name", "n", "--retry-failed")
    assert again.code == 8
    # The note does not name the option, because this command had it.
    assert "Ask the failed questions again" in again.err
    assert "--retry-failed" not in again.err
    assert [line["status"] for line in lines_of(again.out)] == ["answered", "answered", "failed"]
    assert len(provider.requests) == 5
    assert {record["question"]: record["id"] for record in records()} == before
    shown = show(invoke, "n")
    assert shown["states"] == {"waiting": 0, "claimed": 0, "answered": 2, "failed": 1}
    assert shown["errors"] == {"provider-refused": 1}
    assert shown["records"] == 3


def test_batch_retries_only_retryable_faults(
    invoke: Invoke, provider: FakeProvider, write: Callable[..., str]
) -> None:
    faults = {
        "status=429 retry_after=0 times=1": 2,
        "status=408 times=1": 2,
        "status=409 times=1": 2,
        "status=500 times=1": 2,
        "reset times=1": 2,
        "cut=2 times=1": 2,
        "hang times=1": 2,
        "dribble=0.1 times=1": 2,
        "status=400": 1,
        "status=404": 1,
        "status=422": 1,
        "status=500": 3,
    }
    name = write(*(f"Question [[{fault}]]" for fault in faults))
    done = invoke("batch", name, "--retries", "2", "--timeout", "1", "--jobs", "20")
    assert done.code == 8
    asked = {fault: provider.asked(f"Question [[{fault}]]") for fault in faults}
    assert asked == faults
    statuses = [line["status"] for line in lines_of(done.out)]
    assert statuses == ["answered"] * 8 + ["failed"] * 4


def test_batch_same_name_other_settings_exits_2_with_difference(
    invoke: Invoke, provider: FakeProvider, write: Callable[..., str]
) -> None:
    name = write("one", "two")
    assert invoke("batch", name, "--name", "n", "--temperature", "0.5").code == 0
    other = invoke("batch", name, "--name", "n", "--temperature", "0.7", "--model", "m-2")
    assert other.code == 2
    for part in ("0.5", "0.7", "test-model", "m-2"):
        assert part in other.err
    # Options that do not change the answers may differ.
    fast = invoke("batch", name, "--name", "n", "--temperature", "0.5", "-j", "2", "--rpm", "9000")
    assert fast.code == 0
    assert len(provider.requests) == 2
    # Without a name, other settings are another batch.
    assert invoke("batch", name).code == 0
    assert invoke("batch", name, "--model", "m-2").code == 0
    assert len(provider.requests) == 6


def test_batch_added_lines_are_run_and_changed_ones_exit_2(
    invoke: Invoke, provider: FakeProvider, write: Callable[..., str]
) -> None:
    assert invoke("batch", write("one", "two")).code == 0
    grown = invoke("batch", write("one", "two", "three"))
    assert (grown.code, len(lines_of(grown.out)), len(provider.requests)) == (0, 3, 3)
    changed = invoke("batch", write("one", "2", "three"))
    assert changed.code == 2
    assert "Line 2" in changed.err
    assert "--changed" in changed.err
    for order in ([], ["--unordered"]):
        shorter = invoke("batch", write("one", "two"), *order)
        check_no_traceback(shorter)
        assert shorter.code == 2
        assert "1 of the 3 rows" in shorter.err
    assert len(provider.requests) == 3


@pytest.mark.usefixtures("empty_database")
def test_batch_dry_run_counts_and_sends_nothing(
    invoke: Invoke, provider: FakeProvider, home: Path, write: Callable[..., str]
) -> None:
    name = write(*["x" * 4000] * 100)
    done = invoke("batch", name, "--dry-run", "--model", "gpt-6-luna", "--max-tokens", "1000")
    assert done.code == 0
    numbers = [line.split() for line in done.out.replace(",", "").splitlines()]
    assert numbers[0] == ["questions", "100"]
    prompt, completion = int(numbers[1][2]), int(numbers[1][4])
    assert prompt == pytest.approx(100_000, rel=0.1)
    assert completion == pytest.approx(100_000, rel=0.1)
    assert float(numbers[2][2]) == pytest.approx(0.06, rel=0.1)
    assert provider.requests == []
    assert not (home / "data" / "history.db").exists()
    assert f"at prices of {PriceTable.load().generated}" in done.out
    assert "cost        unknown" in invoke("batch", name, "--dry-run").out
    # The system prompt is sent and paid with every question.
    long = invoke("batch", name, "--dry-run", "--system", "y" * 40_000)
    assert int(long.out.replace(",", "").split()[4]) > 1_000_000


def priced(tmp_path: Path) -> None:
    # Each question is 1 token and each answer 3: a thousandth of a dollar a question.
    (tmp_path / "prices.toml").write_text('"test-model" = [0.0, 333.333333333]\n')


def test_batch_max_cost_is_not_exceeded(
    invoke: Invoke, provider: FakeProvider, tmp_path: Path, write: Callable[..., str]
) -> None:
    priced(tmp_path)
    name = write(*(f"{n:03}" for n in range(60)))
    done = invoke("batch", name, "--name", "n", "--max-cost", "0.0205", "--jobs", "4")
    spent = show(invoke, "n")["cost_usd"]
    assert 0.015 <= spent <= 0.0205
    assert done.code == 8, done.err
    assert "budget" in done.err
    assert len(provider.requests) == round(spent / 0.001)
    # The budget is that of the batch: the same one asks nothing more, a larger one continues.
    invoke("batch", name, "--name", "n", "--max-cost", "0.0205", "--jobs", "4")
    assert show(invoke, "n")["cost_usd"] <= 0.0205
    assert invoke("batch", name, "--name", "n", "--max-cost", "1").code == 0
    assert show(invoke, "n")["cost_usd"] == pytest.approx(0.06)


def test_batch_max_cost_limits_the_first_questions(
    invoke: Invoke, tmp_path: Path, write: Callable[..., str]
) -> None:
    priced(tmp_path)
    name = write(*(f"{n:03} [[latency=0.3]]" for n in range(60)))
    invoke("batch", name, "--name", "n", "--max-cost", "0.01", "--max-tokens", "9")
    assert (show(invoke, "n")["cost_usd"] or 0) <= 0.01


def test_batch_max_cost_of_a_model_without_price_is_refused(
    invoke: Invoke, provider: FakeProvider, write: Callable[..., str]
) -> None:
    done = invoke("batch", write("one"), "--max-cost", "1")
    assert done.code in {2, 3}
    assert "price" in done.err
    assert provider.requests == []


def test_batch_rejected_key_stops_with_one_message(
    invoke: Invoke, provider: FakeProvider, records: Records, write: Callable[..., str]
) -> None:
    name = write(*(f"Question {n}" for n in range(500)))
    done = invoke("batch", name, "--name", "n", OPENAI_API_KEY="sk-wrong-0123456789abcdef")
    assert done.code == 3
    assert done.err.count("Incorrect API key") == 1
    assert "sk-wrong-0123456789abcdef" not in done.err
    assert len(provider.requests) <= 64
    assert show(invoke, "n")["states"]["failed"] == 0
    assert {record["status"] for record in records()} <= {"interrupted"}
    assert invoke("batch", name, "--name", "n", "-q").code == 0
    assert len(records()) == 500
    assert {record["status"] for record in records()} == {"answered"}


@pytest.mark.parametrize(("fault", "said"), [("quota", "quota"), ("status=403", "403")])
def test_batch_account_without_permission_stops_with_one_message(
    invoke: Invoke, provider: FakeProvider, write: Callable[..., str], fault: str, said: str
) -> None:
    provider.default = fault
    name = write(*(f"Question {n}" for n in range(300)))
    done = invoke("batch", name, "--name", "n")
    assert done.code == 5
    assert done.err.count("qa: ") == 1
    assert said in done.err
    assert len(provider.requests) <= 64
    assert show(invoke, "n")["states"]["failed"] == 0


def test_batch_output_csv_and_parquet_can_be_read(
    invoke: Invoke, tmp_path: Path, write: Callable[..., str]
) -> None:
    name = write(
        '{"question": "a,\\n\\"b\\"", "tags": ["t"]}', '"two [[status=400]]"', name="a.jsonl"
    )
    assert invoke("batch", name, "--name", "n", "-o", "out.csv").code == 8
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(), newline="")))
    assert list(rows[0]) == list(RECORD_FIELDS)
    assert rows[0]["question"] == 'a,\n"b"'
    assert json.loads(rows[0]["tags"]) == ["t"]
    assert (rows[1]["status"], rows[1]["answer"]) == ("failed", "")
    printed = invoke("batch", "results", "n", "--format", "csv")
    assert printed.out == (tmp_path / "out.csv").read_text()
    pytest.importorskip("pyarrow")
    from pyarrow import parquet  # type: ignore[import-not-found]

    assert invoke("batch", "results", "n", "-o", "out.parquet").code == 0
    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["status"] for row in table] == ["answered", "failed"]


def test_batch_parquet_without_pyarrow_names_the_package(
    invoke: Invoke, provider: FakeProvider, write: Callable[..., str]
) -> None:
    try:
        import pyarrow as pa  # noqa: F401
    except ImportError:
        done = invoke("batch", write("one"), "-o", "out.parquet")
        assert done.code == 2
        assert "pyarrow" in done.err
        assert provider.requests == []
    else:
        pytest.skip("pyarrow is installed")


def test_batch_list_and_show_print_the_batches(
    invoke: Invoke, tmp_path: Path, write: Callable[..., str]
) -> None:
    priced(tmp_path)
    assert json.loads(invoke("batch", "list", "--json").out) == []
    name = write("one", "two [[status=400]]")
    invoke("batch", name, "--name", "first")
    invoke("batch", name, "--name", "second", "--model", "m-2")
    listed = json.loads(invoke("batch", "list", "--json").out)
    assert [batch["name"] for batch in listed] == ["first", "second"]
    assert listed[0]["states"] == {"waiting": 0, "claimed": 0, "answered": 1, "failed": 1}
    assert [line.split("\t")[0] for line in invoke("batch", "list").out.splitlines()] == [
        "first",
        "second",
    ]
    shown = show(invoke, "first")
    assert (shown["items"], shown["prompt_tokens"], shown["completion_tokens"]) == (2, 1, 3)
    assert shown["cost_usd"] == pytest.approx(0.001)
    assert shown["settings"]["model"] == "test-model"
    text = invoke("batch", "show", "first").out
    assert "provider-refused" in text
    assert "0.0010 USD" in text
    assert show(invoke, "second")["cost_usd"] is None
    for command in ("show", "cancel", "results"):
        missing = invoke("batch", command, "none")
        assert (missing.code, missing.out) == (4, "")
        assert "'none'" in missing.err


def test_batch_run_takes_a_file_with_the_name_of_a_command(
    invoke: Invoke, provider: FakeProvider, write: Callable[..., str]
) -> None:
    assert invoke("batch", "run", write("one", name="list")).code == 0
    assert invoke("batch", "--jobs", "2", write("two", name="b.txt")).code == 0
    assert [request.question for request in provider.requests] == ["one", "two"]


def test_batch_removed_record_does_not_end_the_output(
    invoke: Invoke, write: Callable[..., str]
) -> None:
    name = write(*(f"Question {n}" for n in range(6)))
    keys = keys_of(invoke("batch", name, "--name", "n", "-j", "1").out)
    import sqlite3

    with sqlite3.connect(Path("data") / "history.db") as connection:
        connection.execute("DELETE FROM question_answer WHERE item_key = ?", (keys[2],))
    connection.close()
    again = invoke("batch", name, "--name", "n")
    # The removed item may be asked again or be missing; all other items are there.
    assert set(keys_of(again.out)) >= {*keys[:2], *keys[3:]}
    assert set(keys_of(invoke("batch", "results", "n").out)) >= {*keys[:2], *keys[3:]}


@pytest.mark.parametrize("target", ["/dev/null", "/dev/stdout"])
def test_batch_output_to_a_device_works(
    qa: Program, write: Callable[..., str], target: str
) -> None:
    process = qa.start("batch", write("one", "two"), "-o", target)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, b"should not have" in err) == (0, False)
    assert out.count(b"\n") == (2 if target == "/dev/stdout" else 0)


def test_batch_closed_pipe_prints_no_traceback(
    qa: Program, records: Records, write: Callable[..., str]
) -> None:
    name = write(*(f"Question {n}" for n in range(200)))
    process = qa.start("batch", name, "-j", "4")
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read().decode()
    code = process.wait(30)
    process.stderr.close()
    assert "Traceback" not in err
    assert "Broken" not in err
    assert "Exception" not in err
    assert code in {0, 141}
    assert {record["status"] for record in records()} == {"answered"}


def test_batch_many_jobs_with_few_file_descriptors_run(
    qa: Program, provider: FakeProvider, write: Callable[..., str]
) -> None:
    # The quick answers let the limiter allow more requests at once; the slow ones use them.
    name = write(*(f"Question {n} [[latency={0.2 if n < 250 else 5}]]" for n in range(400)))

    def limited(hard: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    for hard, number in ((256, 1), (4096, 2)):
        process = subprocess.run(
            [*qa.command, "batch", name, "--name", f"n{number}", "--jobs", "2000"],
            env=qa.environ(),
            capture_output=True,
            timeout=60,
            check=False,
            preexec_fn=limited(hard),
        )
        err = process.stderr.decode()
        assert process.returncode == 0, err
        assert process.stdout.count(b"\n") == 400
        assert "400 answered" in err
        assert ("256 open files" in err) == (hard == 256)
    assert provider.max_concurrent > 100


def test_batch_output_other_file_is_replaced_only_by_force(
    invoke: Invoke, provider: FakeProvider, tmp_path: Path, write: Callable[..., str]
) -> None:
    name, out = write("one", "two"), tmp_path / "out.jsonl"
    out.write_text("precious\n")
    refused = invoke("batch", name, "--name", "n", "-o", "out.jsonl")
    assert (refused.code, provider.requests) == (2, [])
    assert "--force" in refused.err
    into_itself = invoke("batch", name, "--name", "n", "-o", name, "--force")
    assert (into_itself.code, provider.requests) == (2, [])
    assert (tmp_path / name).read_text() == "one\ntwo\n"
    keyless = invoke(
        "batch", name, "-o", "out.jsonl", "--force", OPENAI_BASE_URL="", OPENAI_API_KEY=""
    )
    assert keyless.code == 3
    assert out.read_text() == "precious\n"
    assert json.loads(invoke("batch", "list", "--json").out) == []
    assert invoke("batch", name, "--name", "n", "-o", "out.jsonl", "--force").code == 0
    # Then it is an output of this batch, for both commands, until another program changes it.
    for command in (["batch", name, "--name", "n"], ["batch", "results", "n"]):
        assert invoke(*command, "-o", "out.jsonl").code == 0
        assert len(lines_of(out.read_text())) == 2
    out.write_text("mine\n")
    for command in (["batch", name, "--name", "n"], ["batch", "results", "n"]):
        assert invoke(*command, "-o", "out.jsonl").code == 2
        assert out.read_text() == "mine\n"
    assert invoke("batch", "results", "n", "-o", name, "--force").code == 2
    assert len(lines_of(invoke("batch", "results", "n", "-o", "-").out)) == 2


def test_batch_stdin_with_a_bad_line_leaves_nothing(invoke: Invoke, provider: FakeProvider) -> None:
    good = [json.dumps({"id": str(n), "question": f"Question {n}"}) for n in range(1500)]
    command = ("batch", "-", "--name", "n", "--input", "jsonl", "-q")
    for last in ('{"oops', json.dumps({"id": "1", "question": "x"})):
        refused = invoke(*command, input="\n".join([*good, last]))
        assert refused.code == 2
        assert json.loads(invoke("batch", "list", "--json").out) == []
    done = invoke(*command, input=json.dumps({"question": "Only this"}))
    assert done.code == 0, done.err
    assert [request.question for request in provider.requests] == ["Only this"]


def test_batch_quotes_option_is_part_of_the_batch(
    invoke: Invoke, provider: FakeProvider, write: Callable[..., str]
) -> None:
    name = write("n\tquestion", '1\t"one"', name="a.tsv")
    assert invoke("batch", name).code == 0
    assert invoke("batch", name, "--quotes").code == 0
    assert sorted(request.question for request in provider.requests) == ['"one"', "one"]
    assert invoke("batch", name, "--name", "n", "--no-quotes").code == 0
    assert invoke("batch", name, "--name", "n", "--quotes").code == 2
    assert invoke("batch", write("one"), "--quotes").code == 2


def test_batch_results_on_a_terminal_hold_no_escape_sequence(
    invoke: Invoke, console: Callable[..., Seen], write: Callable[..., str]
) -> None:
    invoke(
        "batch",
        write('{"id": "a\\u001b]0;x\\u0007", "question": "one"}', name="a.jsonl"),
        "--name",
        "n",
    )
    assert "\x1b" in invoke("batch", "results", "n", "--format", "csv").out
    seen = console(invoke, "batch", "results", "n", "--format", "csv")
    assert "\x1b" not in seen.out
    assert "Answer to: one" in seen.out


def test_batch_quiet_prints_nothing(invoke: Invoke, write: Callable[..., str]) -> None:
    done = invoke("batch", write("one"), "-q")
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)


def test_batch_on_a_terminal_shows_progress(
    invoke: Invoke, console: Callable[..., Seen], write: Callable[..., str]
) -> None:
    name = write(
        *(f"Question {n}" for n in range(9)),
        "Bad [[status=400 message=Nonsense.]]",
        "Slow [[latency=6]]",
        "Again [[status=500 times=2]]",
    )
    seen = console(invoke, "batch", name, "--name", "n", "-o", "out.jsonl")
    assert seen.code == 8
    for part in (
        "of 12",
        "in flight",
        "1 failed",
        "/s",
        "tokens/s",
        "left",
        "slowest",
        "Nonsense.",
    ):
        assert part in seen.err, part
    assert "attempt 1" in seen.err
    assert "11 answered, 1 failed" in seen.err
    assert seen.out == ""


def test_batch_list_on_a_terminal_is_aligned_and_marks_cancelled(
    invoke: Invoke, write: Callable[..., str], console: Callable[..., Seen]
) -> None:
    for name in ("a", "a-longer-name"):
        invoke("batch", write("one"), "--name", name)
    invoke("batch", "cancel", "a")
    lines = console(invoke, "batch", "list").screen.splitlines()
    assert len({line.index("1 answered") for line in lines}) == 1
    assert [line.endswith("(cancelled)") for line in lines] == [True, False]
    assert "cancelled  yes\n" in invoke("batch", "show", "a").out
    assert "cancelled" not in invoke("batch", "show", "a-longer-name").out


def test_batch_tiny_cost_is_shown_as_less_than_a_bound(
    invoke: Invoke, write: Callable[..., str], home: Path
) -> None:
    (home / "prices.toml").write_text('"test-model" = [0.01, 0.01]\n')
    name = write("one")
    assert "<0.0001 USD" in invoke("batch", name, "--dry-run").out
    assert "<0.0001 USD" in invoke("batch", name, "--name", "n").err
    assert "<0.0001 USD" in invoke("batch", "show", "n").out
    assert "<0.0001" in invoke("stats").out


def test_batch_retry_failed_with_another_model_asks_only_the_failed(
    invoke: Invoke, provider: FakeProvider, records: Records, write: Callable[..., str]
) -> None:
    name = write("One", "Two [[status=400 times=1]]", "Three")
    assert invoke("batch", name, "-m", "first").code == 8
    asked = len(provider.requests)
    done = invoke("batch", name, "-m", "second", "--retry-failed")
    assert done.code == 0, done.err
    assert len(provider.requests) == asked + 1
    assert [record["status"] for record in records()].count("answered") == 3
    assert len(json.loads(invoke("batch", "list", "--json").out)) == 1


def test_batch_retry_failed_by_name_takes_another_model(
    invoke: Invoke, provider: FakeProvider, write: Callable[..., str]
) -> None:
    name = write("One", "Two [[status=400 times=1]]")
    assert invoke("batch", name, "-m", "first", "--name", "n").code == 8
    assert invoke("batch", name, "-m", "second", "--name", "n", "--retry-failed").code == 0
    assert provider.requests[-1].body["model"] == "second"
    # Without --retry-failed the settings of a batch do not change.
    assert invoke("batch", name, "-m", "third", "--name", "n").code == 2


def test_batch_rm_keeps_the_records(
    invoke: Invoke, records: Records, write: Callable[..., str]
) -> None:
    name = write("One", "Two")
    assert invoke("batch", name, "--name", "n").code == 0
    assert invoke("batch", "rm", "n").code == 0
    assert json.loads(invoke("batch", "list", "--json").out) == []
    assert len(records()) == 2
    assert invoke("batch", "rm", "n").code == 4


def test_batch_file_by_another_path_is_the_same_batch(
    home: Path, invoke: Invoke, provider: FakeProvider, write: Callable[..., str]
) -> None:
    name = write("One", "Two")
    (home / "inner").mkdir()
    (home / "link").symlink_to(home)
    for path in (name, f"inner/../{name}", f"link/{name}", str(home / name)):
        assert invoke("batch", path).code == 0
    assert len(provider.requests) == 2
    assert len(json.loads(invoke("batch", "list", "--json").out)) == 1


@pytest.mark.parametrize("status", [404, 400])
def test_batch_refusals_of_all_questions_stop_early_and_can_be_asked_again(
    invoke: Invoke, provider: FakeProvider, write: Callable[..., str], status: int
) -> None:
    provider.default = f"status={status} message='No such thing.'"
    name = write(*(f"Question {n}" for n in range(300)))
    done = invoke("batch", name, "--name", "n", "-q")
    assert done.code == 5
    assert "in a row" in done.err
    assert len(provider.requests) <= 60
    assert show(invoke, "n")["states"]["failed"] == 0
    provider.default = ""
    assert invoke("batch", name, "--name", "n", "-q").code == 0


def test_batch_one_forbidden_question_is_the_failure_of_its_item(
    invoke: Invoke, write: Callable[..., str]
) -> None:
    name = write("One", "Two [[status=403]]", "Three")
    assert invoke("batch", name, "--name", "n").code == 8
    assert show(invoke, "n")["states"] | {"answered": 2, "failed": 1} == show(invoke, "n")["states"]


def test_batch_retry_after_of_a_day_stops_with_the_date(
    invoke: Invoke, provider: FakeProvider, write: Callable[..., str]
) -> None:
    provider.default = "status=429 retry_after=86400 message='Daily limit.'"
    done = invoke("batch", write("One", "Two"), "--name", "n")
    assert done.code == 6
    assert "asks to wait until 20" in done.err
    assert "--max-wait" in done.err
