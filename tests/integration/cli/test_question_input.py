"""The ways to write a question: in an editor, at a prompt, and again from a record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from fake_provider import FakeProvider, Reply
from person import CTRL_D, ENTER, ESCAPE, PROMPT, Person

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Invoke, Records

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def editor(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that makes a shell script the editor, and returns the files' directory."""
    monkeypatch.delenv("VISUAL", raising=False)
    directory = home / "tmp"
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(directory))

    def use(script: str) -> Path:
        program = home / "editor"
        program.write_text(f"#!/bin/sh\ncp \"$1\" '{home}/start'\n")
        with program.open("a") as file:
            file.write(f"{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("EDITOR", str(program))
        return directory

    return use


@on_sqlite
def test_edit_asks_the_text_of_the_editor_and_removes_its_file(
    invoke: Invoke, provider: FakeProvider, editor: Callable[[str], Path], home: Path
) -> None:
    directory = editor("printf 'Grüße\\n\\n- a\\n- b\\n\\n' > \"$1\"")
    done = invoke("ask", "--edit", "Review", "this", input="a diff")
    assert done.code == 0
    assert (home / "start").read_text() == "Review this\n\na diff"
    assert provider.requests[-1].question == "Grüße\n\n- a\n- b"
    assert list(directory.iterdir()) == []


@on_sqlite
@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        ('echo text > "$1"; exit 1', 130, "The editor exited with 1, so nothing was asked."),
        ('> "$1"', 2, "There is no question."),
        ('rm "$1"', 2, "There is no question."),
        ('printf "\\377" > "$1"', 2, "not UTF-8"),
        ("exit 127", 3, "Set VISUAL or EDITOR"),
    ],
)
def test_edit_cancelled_leaves_nothing_behind(
    invoke: Invoke,
    provider: FakeProvider,
    records: Records,
    editor: Callable[[str], Path],
    script: str,
    code: int,
    message: str,
) -> None:
    directory = editor(script)
    done = invoke("ask", "--edit")
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert provider.requests == []
    assert records() == []
    assert list(directory.iterdir()) == []


@on_sqlite
def test_template_edit_cancelled_after_a_change_keeps_no_template(
    invoke: Invoke, editor: Callable[[str], Path], home: Path
) -> None:
    editor('echo "question = 1" > "$1"; exit 1')
    assert invoke("template", "edit", "review").code == 3
    assert not (home / "templates" / "review.toml").exists()


@on_sqlite
def test_edit_last_begins_with_the_question_of_the_record(
    invoke: Invoke, provider: FakeProvider, editor: Callable[[str], Path], records: Records
) -> None:
    editor('echo "$(cat "$1") And why?" > "$1"')
    assert invoke("ask", "Who?").code == 0
    assert invoke("ask", "When?").code == 0
    assert invoke("ask", "--edit-last").code == 0
    assert provider.requests[-1].question == "When? And why?"
    assert records()[-1]["follows_id"] is None
    assert invoke("ask", "--edit-last", "--follow", "1").code == 0
    assert provider.requests[-1].question == "Who? And why?"
    assert records()[-1]["follows_id"] == 1


def test_again_asks_the_same_question_in_its_place_and_links_the_records(
    invoke: Invoke, provider: FakeProvider, records: Records
) -> None:
    assert invoke("ask", "Who?").code == 0
    assert invoke("ask", "-c", "And?", "-s", "Brief.", "--temperature", "0.5").code == 0
    assert invoke("ask", "--again", "last", "--model", "other").code == 0
    body = provider.requests[-1].body
    assert [message["content"] for message in body["messages"]] == [
        *("Brief.", "Who?", "Answer to: Who?", "And?")
    ]
    assert (body["model"], body["temperature"]) == ("other", 0.5)
    # All repetitions of a question refer to its first record.
    assert invoke("ask", "--again", "3").code == 0
    links = [(record["follows_id"], record["repeats_id"]) for record in records()]
    assert links == [(None, None), (1, None), (1, 2), (1, 2)]
    assert "asks 2 again" in invoke("show", "3").out
    assert json.loads(invoke("show", "4", "--json").out)["repeats_id"] == 2


@on_sqlite
def test_again_keeps_the_schema(invoke: Invoke, provider: FakeProvider) -> None:
    provider.default = Reply(schema=True)
    first = invoke("ask", "Invent a dog", "--schema", "name, age int")
    again = invoke("ask", "--again", "1")
    assert (again.code, again.out) == (0, first.out)
    formats = [request.body["response_format"] for request in provider.requests]
    assert formats[0] == formats[1]


@on_sqlite
def test_again_without_the_files_of_the_record_exits_2(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "notes.md").write_text("Hello")
    assert invoke("ask", "Who?", "-f", "notes.md").code == 0
    done = invoke("ask", "--again", "1")
    assert done.code == 2
    assert "notes.md" in done.err
    assert len(provider.requests) == 1
    assert invoke("ask", "--again", "1", "-f", "notes.md").code == 0
    assert provider.requests[0].body["messages"] == provider.requests[1].body["messages"]


@on_sqlite
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--again", "1", "Another question"], 2),
        (["--again", "1", "-c"], 2),
        (["--again", "1", "--edit-last"], 2),
        (["--again", "first"], 2),
        (["--again", "9"], 4),
        (["--edit-last", "Another question"], 2),
    ],
)
def test_again_with_conflicting_options_is_refused(
    invoke: Invoke, provider: FakeProvider, arguments: list[str], code: int
) -> None:
    assert invoke("ask", "Who?").code == 0
    assert invoke("ask", *arguments).code == code
    assert len(provider.requests) == 1


@on_sqlite
def test_again_as_a_question_is_asked(invoke: Invoke, provider: FakeProvider) -> None:
    assert invoke("ask", "again").code == 0
    assert provider.requests[-1].question == "again"


@on_sqlite
def test_ask_alone_on_a_terminal_prompts_for_lines(
    at_terminal: Callable[..., Person], provider: FakeProvider, records: Records
) -> None:
    user = at_terminal("ask", "--raw")
    user.see("Enter asks")
    user.see(PROMPT)
    user.type("Who" + ESCAPE + ENTER + "am I?" + ENTER)
    assert user.end() == 0
    user.see("Answer to: Who")
    assert provider.requests[-1].question == "Who\nam I?"
    assert len(records()) == 1


@on_sqlite
def test_ask_prompt_left_with_ctrl_d_asks_nothing(
    at_terminal: Callable[..., Person], provider: FakeProvider
) -> None:
    user = at_terminal("ask")
    user.see(PROMPT)
    user.type(CTRL_D)
    assert user.end() == 2
    user.see("There is no question.")
    assert provider.requests == []


@on_sqlite
def test_chat_ctrl_x_ctrl_e_asks_the_text_of_the_editor(
    at_terminal: Callable[..., Person], provider: FakeProvider, home: Path
) -> None:
    program = home / "editor"
    program.write_text('#!/bin/sh\necho "$(cat "$1") am I?" > "$1"\n')
    program.chmod(0o755)
    user = at_terminal("chat", EDITOR=str(program), VISUAL="")
    user.see(PROMPT)
    user.type("Who\x18\x05")
    user.see("Answer to: Who am I?")
    assert provider.requests[-1].question == "Who am I?"
    user.see(PROMPT)
    user.type(CTRL_D)
    assert user.end() == 0
