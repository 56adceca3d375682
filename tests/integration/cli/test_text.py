"""Text that goes in and out: byte order marks, locales, whole writes, and the ids of records."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Invoke, Program, Records
    from fake_provider import FakeProvider

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

BOM = b"\xef\xbb\xbf"
LATIN = {"PYTHONIOENCODING": "latin-1"}


def questions(provider: FakeProvider) -> list[str]:
    return [request.question for request in provider.requests]


def test_ask_byte_order_mark_of_stdin_is_removed(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "f.txt").write_bytes(BOM + b"in a file")
    assert invoke("ask", "-f", str(home / "f.txt"), "-", input=BOM + b"One").code == 0
    assert invoke("chat", input=BOM + b"/system Brief\nTwo\n").code == 0
    sent = json.dumps([request.body for request in provider.requests], ensure_ascii=False)
    assert questions(provider)[-1] == "Two"
    assert "\ufeff" not in sent
    assert "in a file" in sent


def test_config_byte_order_mark_of_the_file_is_removed(invoke: Invoke, home: Path) -> None:
    file = home / "bom.toml"
    file.write_bytes(BOM + b'system = "Brief"\n')
    done = invoke("config", "--json", QA_CONFIG=str(file))
    assert done.code == 0, done.err
    assert json.loads(done.out)["system"]["value"] == "Brief"
    assert invoke("config", "set", "system", "Long", QA_CONFIG=str(file)).code == 0
    assert (
        json.loads(invoke("config", "--json", QA_CONFIG=str(file)).out)["system"]["value"] == "Long"
    )


@pytest.mark.parametrize(
    "arguments",
    [["list", "--json"], ["list", "--format", "jsonl"], ["show", "1", "--json"], ["export"]],
    ids=" ".join,
)
def test_json_output_in_another_locale_is_utf8(
    qa: Program, invoke: Invoke, arguments: list[str]
) -> None:
    assert invoke("ask", "Grüße, 世界 🌍").code == 0
    found = json.loads(qa(*arguments, **LATIN).out)
    record = found[0] if isinstance(found, list) else found
    assert record["question"] == "Grüße, 世界 🌍"


def test_terminal_in_another_locale_shows_text_and_valid_json(
    qa: Program, provider: FakeProvider, console: Callable[..., Any]
) -> None:
    env = {"PYTHONIOENCODING": "ascii"}
    provider.script(Reply(text="**Grüße** • 世界\n\n```\nx\n```\n\n- 1\n\n> q"))
    seen = console(qa, "ask", "Grüße", **env)
    assert seen.code == 0, seen.err
    assert "Gr\\xfc\\xdfe" in seen.screen
    shown = console(qa, "show", "1", "--json", **env).out
    assert shown.isascii()
    assert json.loads(shown)["question"] == "Grüße"
    assert console(qa, "list", **env).code == 0


def writes(qa: Program, *arguments: str) -> list[bytes]:
    """Return the bytes of each write to stdout: each is a packet of a socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            process = subprocess.Popen(
                [*qa.command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=subprocess.PIPE,
                env=qa.environ(),
            )
        found = []
        while data := ours.recv(1 << 20):
            found.append(data)
        process.communicate(timeout=60)
    return found


@pytest.mark.parametrize("options", [["--no-stream"], ["--json"], ["--no-stream", "--json"]])
def test_ask_whole_answer_is_one_write(
    qa: Program, provider: FakeProvider, options: list[str]
) -> None:
    provider.script(Reply(text="An answer. " * 2000))
    (data,) = writes(qa, "ask", "--no-save", *options, "x")
    assert data.endswith(b"\n")
    assert len(data) > 20_000


def test_ask_whole_answer_cut_off_prints_the_received_text(
    invoke: Invoke, provider: FakeProvider
) -> None:
    provider.script(Reply(text="One two three", cut=2))
    done = invoke("ask", "--no-stream", "x")
    assert done.code != 0
    assert done.out in {"", "One two\n", "One \n"} or done.out.endswith("\n")


def test_ask_continue_after_a_failure_follows_the_last_answer(
    invoke: Invoke, records: Records
) -> None:
    for question in ("One", "Other [[status=500]]", "Two"):
        invoke("ask", "-c" if question == "Two" else "--quiet", question)
    done = invoke("ask", "-c", "Three [[status=500]]")
    assert done.code == 6
    # It follows up record 3, so the thread is shown.
    done = invoke("ask", "-c", "Four")
    assert done.code == 0, done.err
    assert "Record 4 has no answer; following up record 3.\n" in done.err
    assert [record["follows_id"] for record in records()] == [None, None, 1, 3, 3]


def test_ask_continue_without_any_answer_is_refused(invoke: Invoke) -> None:
    invoke("ask", "One [[status=500]]")
    done = invoke("ask", "-c", "Two")
    assert done.code == 2
    assert "Record 1 has no answer that a follow-up can continue." in done.err


def test_record_id_last_or_negative_works_in_every_command(
    invoke: Invoke, records: Records
) -> None:
    for question in ("One", "Two", "Three"):
        invoke("ask", question)
    assert invoke("ask", "--follow", "last", "Four").code == 0
    assert invoke("ask", "--follow", "-2", "Five").code == 0
    assert invoke("ask", "--follow=-5", "Six").code == 0
    assert invoke("chat", "--follow", "-2", input="Seven\n").code == 0
    assert [record["follows_id"] for record in records()] == [None, None, None, 3, 3, 1, 5]
    assert invoke("tag", "-2", "+good").code == 0
    assert invoke("rm", "last", "-2", "1").code == 0
    assert [record["id"] for record in records()] == [2, 3, 4, 5]
    for arguments in (
        ["ask", "--follow", "x", "Q"],
        ["rm", "x"],
        ["show", "x"],
        ["tag", "x", "+a"],
    ):
        done = invoke(*arguments)
        assert (done.code, "'x' is not a record's id." in done.err) == (2, True)
    assert invoke("rm", "-9").code == 4
    assert invoke("ask", "--follow", "-9", "Q").code == 4


def test_ask_surrogates_in_another_locale_do_not_crash(qa: Program) -> None:
    done = subprocess.run(
        [*qa.command, "ask", os.fsdecode(b"caf\xe9")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=qa.environ(**LATIN),
        timeout=60,
        check=False,
    )
    assert done.returncode in {0, 2}
    assert b"Traceback" not in done.stderr
