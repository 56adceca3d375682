"""`-x`, `--extract-all`, `--extract-lang`, `--copy` and `--output` of `qa ask` and `qa show`."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import TYPE_CHECKING

import pytest
from fake_provider import FakeProvider, Reply

from qacli.cli.clipboard import osc52

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Invoke

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ANSWER = """\
Two ways:

- In Python:

  ```python
  print("eins")
  ```

~~~~sh
echo zwei
```
~~~~

Done.
"""
PYTHON, SHELL = 'print("eins")\n', "echo zwei\n```\n"


@pytest.mark.parametrize(
    ("options", "output"),
    [
        (["-x"], SHELL),
        (["--extract-all"], f"{PYTHON}\n{SHELL}"),
        (["--extract-lang", "Python"], PYTHON),
        (["-x", "--no-stream"], SHELL),
    ],
    ids=" ".join,
)
def test_extract_prints_the_code_alone_in_ask_and_show(
    invoke: Invoke, provider: FakeProvider, options: list[str], output: str
) -> None:
    provider.script(Reply(text=ANSWER))
    done = invoke("ask", "How?", *options)
    assert (done.code, done.out, done.err) == (0, output, "")
    shown = invoke("show", "last", *[option for option in options if option != "--no-stream"])
    assert (shown.code, shown.out) == (0, output)


@on_sqlite
def test_extract_json_prints_blocks_with_language(invoke: Invoke, provider: FakeProvider) -> None:
    provider.script(Reply(text=ANSWER))
    block = {"language": "sh", "code": SHELL}
    assert json.loads(invoke("ask", "How?", "-x", "--json").out) == block
    blocks = json.loads(invoke("show", "last", "--extract-all", "--json").out)
    assert blocks == [{"language": "python", "code": PYTHON}, block]


@on_sqlite
def test_extract_unfinished_block_is_printed(invoke: Invoke, provider: FakeProvider) -> None:
    provider.script(Reply(text="```\ncut"))
    assert invoke("ask", "How?", "-x").out == "cut\n"


@on_sqlite
@pytest.mark.parametrize("options", [["-x"], ["--extract-lang", "sql"]], ids=" ".join)
def test_extract_without_code_exits_4_and_keeps_the_record(
    invoke: Invoke, options: list[str]
) -> None:
    done = invoke("ask", "Who am I?", *options)
    assert (done.code, done.out) == (4, "")
    assert "no fenced block" in done.err
    assert "qa show 1" in done.err
    assert invoke("show", "1", *options).code == 4
    assert invoke("show", "1", "--field", "answer").out == "Answer to: Who am I?\n"


def test_output_writes_the_answer_to_a_file_and_nothing_to_stdout(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    provider.script(Reply(text=ANSWER))
    done = invoke("ask", "How?", "-o", "answer.md")
    assert (done.code, done.out) == (0, "")
    assert (home / "answer.md").read_text() == ANSWER
    assert invoke("show", "last", "-x", "-o", "answer.md").out == ""
    assert (home / "answer.md").read_text() == SHELL
    assert invoke("ask", "Who?", "--json", "-o", "record.json").out == ""
    assert json.loads((home / "record.json").read_text())["question"] == "Who?"


@on_sqlite
def test_output_of_a_reused_answer_is_written(invoke: Invoke, home: Path) -> None:
    assert invoke("ask", "Who?").code == 0
    done = invoke("ask", "Who?", "--reuse", "-o", "a.txt")
    assert (done.code, done.out) == (0, "")
    assert (home / "a.txt").read_text() == "Answer to: Who?\n"


@on_sqlite
@pytest.mark.parametrize("path", [".", "missing/answer.md"])
def test_output_that_cannot_be_written_exits_2_and_asks_nothing(
    invoke: Invoke, provider: FakeProvider, path: str
) -> None:
    done = invoke("ask", "Who?", "-o", path)
    assert done.code == 2
    assert "cannot be written" in done.err
    assert provider.requests == []


@on_sqlite
def test_show_use_options_with_another_part_of_the_record_exit_2(invoke: Invoke) -> None:
    assert invoke("ask", "Who?").code == 0
    for option in (["--thread"], ["--request"], ["--field", "answer"]):
        assert invoke("show", "1", "-x", *option).code == 2


@on_sqlite
def test_show_use_of_a_record_without_answer_exits_4(invoke: Invoke) -> None:
    assert invoke("ask", "Who? [[status=400]]").code == 5
    done = invoke("show", "1", "--copy")
    assert done.code == 4
    assert "Record 1 has no answer." in done.err


@pytest.fixture
def programs(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory of PATH; it is empty, so there is no program for the clipboard."""
    directory = home / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    for name in ("TMUX", "STY", "SSH_CONNECTION", "SSH_TTY", "WAYLAND_DISPLAY", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    return directory


def install(program: Path, output: Path) -> None:
    program.write_text(f'#!/bin/sh\n/bin/echo "$@" > {output}.args\nexec /bin/cat > {output}\n')
    program.chmod(0o755)


@on_sqlite
@pytest.mark.parametrize(
    ("name", "env", "arguments"),
    [
        ("wl-copy", {"WAYLAND_DISPLAY": "wayland-0"}, ""),
        ("xclip", {"DISPLAY": ":0"}, "-selection clipboard"),
        ("pbcopy", {}, ""),
        ("tmux", {"TMUX": "/run/tmux-0", "SSH_TTY": "/dev/pts/1"}, "load-buffer -w -"),
    ],
)
def test_copy_gives_the_answer_to_the_program_of_the_desktop(
    invoke: Invoke, programs: Path, name: str, env: dict[str, str], arguments: str
) -> None:
    install(programs / name, programs / "copied")
    done = invoke("ask", "Wer? 🌍", "--copy", **env)
    assert (done.code, done.out) == (0, "Answer to: Wer? 🌍\n")
    assert (programs / "copied").read_text() == "Answer to: Wer? 🌍"
    assert (programs / "copied.args").read_text() == f"{arguments}\n"


@on_sqlite
def test_copy_over_ssh_asks_the_terminal_and_copies_the_code_alone(
    invoke: Invoke, provider: FakeProvider, programs: Path
) -> None:
    install(programs / "xclip", programs / "copied")
    provider.script(Reply(text=ANSWER))
    env = {"SSH_CONNECTION": "a b c d", "DISPLAY": ":0", "TERM": "xterm"}
    done = invoke("ask", "How?", "-x", "--copy", terminal=True, **env)
    assert done.code == 0
    data = done.err.partition("\x1b]52;c;")[2].partition("\x07")[0]
    assert b64decode(data).decode() == SHELL.removesuffix("\n")
    assert done.err.count("\x1b]52;") == 1
    assert not (programs / "copied").exists()


@on_sqlite
@pytest.mark.usefixtures("programs")
def test_copy_without_clipboard_exits_3_and_prints_the_answer(invoke: Invoke) -> None:
    done = invoke("ask", "Who?", "--copy", TERM="dumb")
    assert (done.code, done.out) == (3, "Answer to: Who?\n")
    assert "The clipboard cannot be reached" in done.err


def test_osc52_in_screen_is_sent_in_parts_that_screen_passes_on() -> None:
    text = "a" * 100
    sequence = osc52(text, in_screen=True)
    parts = [part.removeprefix("\x1bP") for part in sequence.split("\x1b\\")]
    assert all(len(part) < 100 for part in parts)
    assert "".join(parts) == osc52(text)
