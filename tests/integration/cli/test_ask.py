from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import FakeProvider, Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Invoke, Program, Records

# One database: what differs between them is tested elsewhere.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_ask_to_a_pipe_prints_the_answer_only(invoke: Invoke, records: Records) -> None:
    done = invoke("ask", "Who am I?")
    assert (done.code, done.out, done.err) == (0, "Answer to: Who am I?\n", "")
    [record] = records()
    assert record["question"] == "Who am I?"
    assert record["answer"] == "Answer to: Who am I?"
    assert record["status"] == "answered"


@pytest.mark.parametrize(
    ("arguments", "given", "question"),
    [
        (["Review", "this"], b"a\n\tb\n", "Review this\n\na\n\tb\n"),
        (["Review this"], b" \n", "Review this"),
        (["-"], b"Who am I?\r\n", "Who am I?\r\n"),
        ([], "Grüße, 世界 🌍".encode(), "Grüße, 世界 🌍"),
        (["--", "-v"], b"", "-v"),
    ],
    ids=["both", "blank-input", "dash", "input", "after-two-dashes"],
)
def test_ask_question_is_joined_from_arguments_and_stdin(
    invoke: Invoke, provider: FakeProvider, arguments: list[str], given: bytes, question: str
) -> None:
    assert invoke("ask", "--no-save", *arguments, input=given).code == 0
    assert [request.question for request in provider.requests] == [question]


@pytest.mark.usefixtures("empty_database")
@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        ([], b"", "There is no question."),
        (["-"], b"", "The question is empty."),
        ([" "], b"\n", "The question is empty."),
        (["-"], b"caf\xe9", "byte 4 is 0xe9"),
        (["caf\udce9"], b"", "position 4"),
        (["-"], b"a\0b", "NUL"),
        (["x", "--temperature", "2.1"], b"", "2.1"),
        (["x", "--temperature", "nan"], b"", "nan"),
        (["x", "--max-tokens", "0"], b"", "0"),
        (["x", "--timeout", "0"], b"", "--timeout"),
        (["x", "--timeout", "nan"], b"", "--timeout"),
        (["x", "--retries", "many"], b"", "--retries"),
        (["x", "--colour"], b"", "--colour"),
    ],
)
def test_ask_invalid_question_exits_2_and_sends_nothing(
    invoke: Invoke,
    provider: FakeProvider,
    home: Path,
    arguments: list[str],
    given: bytes,
    said: str,
) -> None:
    done = invoke("ask", *arguments, input=given)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "Traceback" not in done.err
    assert provider.requests == []
    assert not (home / "data" / "history.db").exists()


@pytest.mark.parametrize("text", ["one", "a  b\n\n"])
def test_ask_text_is_printed_unchanged_with_one_line_end(
    invoke: Invoke, provider: FakeProvider, text: str
) -> None:
    provider.script(Reply(text=text))
    assert invoke("ask", "--no-save", "x").out == (text if text.endswith("\n") else text + "\n")


def test_ask_verbose_prints_notes(invoke: Invoke) -> None:
    done = invoke("ask", "-v", "--retries", "1", "Who? [[status=503 retry_after=0 times=1]]")
    assert done.code == 0
    assert "Asking again in" in done.err
    assert "kept as record 1" in done.err
    assert done.out.startswith("Answer to: Who?")


def test_ask_json_is_the_record_with_main_fields_first(invoke: Invoke, records: Records) -> None:
    done = invoke("ask", "--json", "Who am I?")
    assert done.err == ""
    assert done.out.count("\n") == 1
    record = json.loads(done.out)
    assert list(record)[:4] == ["id", "question", "answer", "created_at"]
    assert record["created_at"].endswith("+00:00")
    assert [record] == records()


def test_ask_json_of_a_failure_is_the_failed_record(invoke: Invoke, records: Records) -> None:
    done = invoke("ask", "--json", "Who am I? [[cut=2]]")
    assert done.code == 6
    record = json.loads(done.out)
    assert record["status"] == "failed"
    assert record["answer"] == "Answer to:"
    assert [record] == records()


def test_ask_options_are_sent_and_recorded(
    invoke: Invoke, provider: FakeProvider, records: Records
) -> None:
    done = invoke(
        *("ask", "Who?", "--model", "m-9", "--system", "Be brief."),
        *("--temperature", "0.5", "--max-tokens", "7", "--no-stream"),
    )
    assert (done.code, done.out) == (0, "Answer to: Who?\n")
    [request] = provider.requests
    assert not request.body.get("stream")
    assert request.body["model"] == "m-9"
    assert (request.body["temperature"], request.body["max_tokens"]) == (0.5, 7)
    assert [message["content"] for message in request.body["messages"]] == ["Be brief.", "Who?"]
    [record] = records()
    assert record["system"] == "Be brief."
    assert record["params"] == {"model": "m-9", "temperature": 0.5, "max_tokens": 7}
    assert record["model"] == "m-9-2026-01-01"


def test_ask_by_default_streams_the_answer(qa: Program, provider: FakeProvider) -> None:
    process = qa.start("ask", "--no-save", "Who? [[stall=2]]")
    try:
        assert process.stdout.read(10) == b"Answer to:"
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    assert provider.requests[0].body["stream"] is True


@pytest.mark.usefixtures("empty_database")
def test_ask_no_save_writes_nothing(invoke: Invoke, home: Path) -> None:
    assert invoke("ask", "--no-save", "Who am I?").out == "Answer to: Who am I?\n"
    assert not (home / "data").exists()


def test_ask_token_limit_reached_warns_unless_quiet(invoke: Invoke, provider: FakeProvider) -> None:
    provider.script(
        Reply(text="Cut", finish_reason="length"), Reply(text="C", finish_reason="length")
    )
    assert "token limit" in invoke("ask", "--no-save", "x").err
    assert invoke("ask", "--no-save", "--quiet", "x").err == ""


def test_ask_timeout_limits_the_time_for_an_answer(invoke: Invoke, records: Records) -> None:
    done = invoke("ask", "--timeout", "0.5", "Who? [[hang]]")
    assert done.code == 6
    assert "within 0.5 s" in done.err
    [record] = records()
    assert (record["status"], record["answer"]) == ("failed", None)
    assert record["error_kind"] == "provider-timeout"
    assert 400 < record["latency_ms"] < 3000


def test_ask_retries_limits_the_attempts(invoke: Invoke, provider: FakeProvider) -> None:
    question = "Who? [[status=503 retry_after=0]]"
    assert invoke("ask", "--no-save", "--retries", "2", question).code == 6
    assert provider.asked(question) == 3


@pytest.mark.parametrize(
    ("fault", "code", "kind", "partial"),
    [
        ("status=401", 3, "key-rejected", None),
        ("status=400", 5, "provider-refused", None),
        ("reset", 6, "provider-unreachable", None),
        ("empty", 6, "broken-answer", None),
        ("error=2", 6, "provider-unavailable", "Answer to:"),
    ],
)
def test_ask_provider_fault_has_its_exit_code_and_record(
    invoke: Invoke, records: Records, fault: str, code: int, kind: str, partial: str | None
) -> None:
    done = invoke("ask", f"Who? [[{fault}]]")
    assert done.code == code
    assert done.out == (f"{partial}\n" if partial else "")
    assert done.err.startswith("qa: ")
    assert done.err.count("\n") == 1
    [record] = records()
    assert (record["status"], record["answer"]) == ("failed", partial)
    assert record["error_kind"] == kind
    assert "\n" not in record["error"]


def test_ask_without_a_key_exits_3(invoke: Invoke, provider: FakeProvider) -> None:
    done = invoke("ask", "--model", "gpt-x", "Who?", OPENAI_API_KEY="", OPENAI_BASE_URL="")
    assert (done.code, done.out) == (3, "")
    assert "OPENAI_API_KEY" in done.err
    assert provider.requests == []


def test_ask_database_down_prints_the_answer(invoke: Invoke) -> None:
    away = "postgresql://user:secret-pw@127.0.0.1:1/none"
    done = invoke("ask", "Who?", DATABASE_URL=away)
    assert (done.code, done.out) == (0, "Answer to: Who?\n")
    assert "safe in the outbox" in done.err
    listed = invoke("list", DATABASE_URL=away)
    assert (listed.code, listed.out) == (7, "")
    assert "1 question will be delivered" in listed.err
    assert "Connection refused. Check that it is running" in listed.err
    assert "secret-pw" not in done.err + listed.err


def test_ask_key_repeated_by_the_provider_is_masked_everywhere(
    invoke: Invoke, records: Records, home: Path
) -> None:
    done = invoke("ask", "--json", "-v", "Who? [[leak_key]]")
    assert done.code == 3
    key = invoke.env["OPENAI_API_KEY"]
    assert key not in done.out + done.err
    assert "***" in records()[0]["error"]
    for file in (home / "data").rglob("*"):
        assert file.is_dir() or key.encode() not in file.read_bytes()


def test_ask_closed_pipe_records_the_whole_answer(
    qa: Program, records: Records, home: Path
) -> None:
    done = subprocess.run(
        [
            "sh",
            "-c",
            '{ "$0" ask "Who? [[size=300000]]"; echo $? > code; } | head -c 5',
            *qa.command,
        ],
        env=qa.environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == (b"xxxxx", b"")
    assert (home / "code").read_text() in {"141\n", "0\n"}
    [record] = records()
    assert (record["status"], len(record["answer"])) == ("answered", 300000)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ask_interrupted_by_a_signal_records_the_text_so_far(
    qa: Program, records: Records, number: signal.Signals, code: int
) -> None:
    process = qa.start("ask", "Who am I? [[stall=3]]")
    assert process.stdout.read(14) == b"Answer to: Who"
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert out == b"\n"
    assert b"Traceback" not in err
    [record] = records()
    assert (record["status"], record["answer"]) == ("interrupted", "Answer to: Who")
    assert record["error_kind"] == "interrupted"


def test_ask_ctrl_c_before_the_first_text_leaves_a_record(
    qa: Program, records: Records, provider: FakeProvider, wait_for: Callable[..., Any]
) -> None:
    process = qa.start("ask", "Who? [[hang]]")
    wait_for(lambda: provider.requests)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == b""
    assert process.returncode == 130
    [record] = records()
    assert (record["status"], record["answer"]) == ("interrupted", None)


def test_ask_on_a_terminal_renders_markdown_and_notes_the_record(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any]
) -> None:
    provider.script(Reply(text="# Title\n\nSome **bold** text.\n\n* one\n* two\n"))
    seen = console(invoke, "ask", "x")
    assert seen.code == 0
    assert "Some bold text." in seen.screen
    assert "• one" in seen.screen
    assert "\x1b[1mbold\x1b[0m" in seen.out
    assert "kept as record 1" in seen.err


def test_ask_raw_on_a_terminal_prints_the_plain_text(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any]
) -> None:
    provider.script(Reply(text="# Title\n\nSome **bold**\x1b[31m text."))
    seen = console(invoke, "ask", "--raw", "x")
    assert seen.screen == "# Title\n\nSome **bold**\ufffd[31m text.\n"


HOSTILE = "\x1b]0;x\x07 \x1b[31mred \x9b2J \x08 \u202etxt"


def assert_harmless(seen: Any) -> None:
    for text in (seen.out, seen.err):
        for evil in ("\x1b]", "\x07", "\x1b[31m", "\x9b", "\x08", "\u202e"):
            assert evil not in text


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--raw"],
        pytest.param(["--json"]),
    ],
    ids=["markdown", "raw", "json"],
)
def test_ask_hostile_answer_does_not_control_the_terminal(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any], options: list[str]
) -> None:
    provider.script(Reply(text=f"Hello {HOSTILE} world"))
    seen = console(invoke, "ask", "--no-save", *options, "x")
    assert seen.code == 0
    assert "world" in seen.out
    assert_harmless(seen)


def test_ask_hostile_error_does_not_control_the_terminal(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any]
) -> None:
    provider.script(Reply(status=400, message=f"Hello {HOSTILE} world"))
    seen = console(invoke, "ask", "--no-save", "x")
    assert seen.code == 5
    assert "world" in seen.err
    assert_harmless(seen)


def paragraphs(count: int) -> str:
    return "\n\n".join(f"Paragraph {number} " + "word " * 30 for number in range(count))


def items(count: int) -> str:
    return "\n".join(f"* Paragraph {number} stands here" for number in range(count))


@pytest.mark.parametrize("text", [paragraphs(30), items(90)], ids=["paragraphs", "one-list"])
def test_ask_answer_longer_than_the_screen_is_shown_once(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any], text: str
) -> None:
    provider.script(Reply(text=text, delay=0.001))
    seen = console(invoke, "ask", "--no-save", "x", columns=60, rows=12)
    assert seen.code == 0
    for number in range(text.count("Paragraph")):
        assert seen.screen.count(f"Paragraph {number} ") == 1, number
