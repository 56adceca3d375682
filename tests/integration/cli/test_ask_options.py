from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import FakeProvider, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Invoke, Program, Records

# One database: what differs between them is tested elsewhere.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

PNG = b"\x89PNG\r\n\x1a\n\0"
REX = '{"name": "Rex", "age": 3}'


@pytest.fixture
def template(home: Path) -> Callable[[str, str], Path]:
    """Return a function that writes a template, and returns its path."""

    def write(name: str, text: str) -> Path:
        (home / "templates").mkdir(exist_ok=True)
        path = home / "templates" / f"{name}.toml"
        path.write_text(text)
        return path

    return write


def contents(provider: FakeProvider, number: int = -1) -> list[Any]:
    return [message["content"] for message in provider.requests[number].body["messages"]]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_ask_closed_standard_stream_still_records_the_answer(
    qa: Program, records: Records, closed: str
) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *qa.command, "ask", "Who am I?"],
        input=b"",
        capture_output=True,
        env=qa.environ(),
        timeout=60,
        check=False,
    )
    shown = b"" if " >&-" in f" {closed}" else b"Answer to: Who am I?\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, b"")
    [record] = records()
    assert record["answer"] == "Answer to: Who am I?"


def test_ask_stdout_on_a_full_disk_reports_it_and_records_all(
    qa: Program, records: Records
) -> None:
    said = (
        "qa: The output cannot be written: No space left on device. "
        "Free some space; the question and its answer are in the history.\n"
    )
    commands = (
        ("ask", "Who am I? [[size=50000]] [[delay=0]]"),
        ("ask", "--json", "Who?"),
        ("list",),
    )
    for command in commands:
        with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
            process = qa.start(*command, stdout=full)
            err = process.communicate(timeout=60)[1].decode()
        assert (process.returncode, err) == (7, said)
    assert [(each["status"], len(each["answer"])) for each in records()] == [
        ("answered", 50_000),
        ("answered", 15),
    ]


def test_ask_files_are_sent_before_the_question_and_recorded_apart(
    invoke: Invoke, provider: FakeProvider, records: Records, home: Path
) -> None:
    (home / "notes.md").write_text("Some notes\n")
    done = invoke("ask", "-f", "notes.md", "-f", "-", "What is new?", input="piped")
    assert done.code == 0
    [sent] = contents(provider)
    assert sent == (
        '<file name="notes.md">\nSome notes\n</file>\n\n'
        '<file name="standard input">\npiped\n</file>\n\nWhat is new?'
    )
    [record] = records()
    assert record["question"] == "What is new?"
    assert record["attachments"] == [
        {"name": "notes.md", "size": 11, "sha256": sha256(b"Some notes\n").hexdigest()},
        {"name": "standard input", "size": 5, "sha256": sha256(b"piped").hexdigest()},
    ]
    assert json.loads(invoke("show", "last", "--json").out)["attachments"] == record["attachments"]


def test_ask_stdin_not_given_as_file_is_part_of_the_question(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "a.txt").write_text("a")
    assert invoke("ask", "--no-save", "-f", "a.txt", "Compare", input="b").code == 0
    assert contents(provider) == ['<file name="a.txt">\na\n</file>\n\nCompare\n\nb']


def test_ask_image_file_is_sent_as_an_image(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "cat.png").write_bytes(PNG)
    assert invoke("ask", "-f", "cat.png", "What is it?").code == 0
    [[name, image, question]] = contents(provider)
    assert name == {"type": "text", "text": '<image name="cat.png" />'}
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert question == {"type": "text", "text": "What is it?"}


def test_ask_follow_up_names_the_file_and_does_not_resend_it(
    invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    (home / "cat.png").write_bytes(PNG)
    assert invoke("ask", "-f", "cat.png", "What is it?").code == 0
    assert invoke("ask", "-c", "Sure?").code == 0
    first, _, last = contents(provider)
    assert first == '<file name="cat.png" omitted />\n\nWhat is it?'
    assert last == "Sure?"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-f", "none.txt", "x"], "none.txt cannot be read"),
        (["-f", "binary", "x"], "binary (3 bytes) is neither UTF-8 text nor"),
        (["-f", "http://127.0.0.1:1/x", "x"], "cannot be fetched"),
        (["-f", "a.txt"], "There is no question."),
        (["-t", "none", "x"], "There is no template 'none'"),
        (["-p", "a=b", "x"], "-t TEMPLATE"),
        (["-t", "greet", "-p", "name", "x"], "-p name fills no placeholder"),
        (["-t", "greet", "x"], "The placeholder {name} of the template 'greet' has no value."),
        (["-t", "greet", "-p", "nam=b", "x"], "'nam'"),
        (["--schema", "name integer", "x"], "types are str, int, float and bool"),
        (["--schema", '{"type": "x"}', "x"], "is not a JSON schema"),
    ],
)
def test_ask_unusable_file_or_template_exits_2_and_sends_nothing(
    invoke: Invoke,
    provider: FakeProvider,
    template: Callable[[str, str], Path],
    home: Path,
    arguments: list[str],
    said: str,
) -> None:
    template("greet", 'question = "Greet {name} with: {input}"')
    (home / "a.txt").write_text("a")
    (home / "binary").write_bytes(b"\0\1\2")
    done = invoke("ask", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1
    assert provider.requests == []


def test_ask_template_builds_the_question(
    invoke: Invoke,
    provider: FakeProvider,
    records: Records,
    template: Callable[[str, str], Path],
) -> None:
    template(
        "review",
        'system = "Answer in {lang}."\nquestion = "Review this:\\n\\n{input}"\n'
        'model = "m-7"\ntemperature = 0.5\nmax_tokens = 9\n',
    )
    done = invoke("ask", "-t", "review", "-p", "lang=French", input="+ a = {b}\n")
    assert done.code == 0
    [record] = records()
    assert record["question"] == "Review this:\n\n+ a = {b}\n"
    assert record["system"] == "Answer in French."
    assert record["params"] == {"model": "m-7", "temperature": 0.5, "max_tokens": 9}
    assert contents(provider) == ["Answer in French.", record["question"]]


def test_ask_option_overrides_template_and_template_settings(
    invoke: Invoke, provider: FakeProvider, template: Callable[[str, str], Path]
) -> None:
    template("t", 'system = "T"\nmodel = "t"\ntemperature = 1')
    said = ("--system", "", "--model", "o", "--temperature", "0")
    assert invoke("ask", "--no-save", "-t", "t", "x", QA_SYSTEM="S").code == 0
    assert invoke("ask", "--no-save", "-t", "t", *said, "x", QA_SYSTEM="S").code == 0
    first, second = (request.body for request in provider.requests)
    assert (first["model"], first["temperature"]) == ("t", 1)
    assert (second["model"], second["temperature"]) == ("o", 0)
    assert [contents(provider, 0), contents(provider, 1)] == [["T", "x"], ["x"]]


def test_ask_broken_template_exits_3(invoke: Invoke, template: Callable[[str, str], Path]) -> None:
    path = template("broken", "question = ")
    done = invoke("ask", "-t", "broken", "x")
    assert (done.code, done.out) == (3, "")
    assert str(path) in done.err


def test_template_list_and_show_print_the_templates(
    invoke: Invoke, template: Callable[[str, str], Path]
) -> None:
    assert invoke("template", "list").out == ""
    assert json.loads(invoke("template", "list", "--json").out) == []
    path = template("review", 'system = "Review.\\nBe brief."\nquestion = "{input} {a}"\n')
    template("broken", "x = 1")
    listed = invoke("template", "list")
    assert listed.code == 0
    broken, review = listed.out.splitlines()
    assert "sets x" in broken
    assert review == "review  Review."
    assert invoke("template", "show", "review").out == path.read_text()
    shown = json.loads(invoke("template", "show", "review", "--json").out)
    assert shown["placeholders"] == ["input", "a"]
    assert shown in json.loads(invoke("template", "list", "--json").out)
    assert invoke("template", "path", "review").out == f"{path}\n"
    assert invoke("template", "path", "other").out == f"{path.with_name('other.toml')}\n"
    assert invoke("template", "show", "other").code == 2


def test_template_edit_opens_the_editor_of_the_environment(invoke: Invoke, home: Path) -> None:
    editor = f"{sys.executable} {home / 'editor.py'} --loud"
    (home / "editor.py").write_text(
        "import pathlib, sys\n"
        "path = pathlib.Path(sys.argv[2])\n"
        "path.write_text(path.read_text().replace('\"{input}\"', '\"{input}!\"'))\n"
    )
    done = invoke("template", "edit", "loud", EDITOR="false", VISUAL=editor)
    assert (done.code, done.err) == (0, "")
    assert invoke("ask", "--no-save", "-t", "loud", "Hi").out == "Answer to: Hi!\n"


def test_template_edit_failed_editor_or_invalid_file_exits_3(invoke: Invoke, home: Path) -> None:
    (home / "broken.toml").write_text("question = ")
    done = invoke("template", "edit", "x", EDITOR="false", VISUAL="")
    assert done.code == 3
    assert "The editor exited with 1." in done.err
    done = invoke("template", "edit", "x", VISUAL="cp broken.toml")
    assert done.code == 3
    assert "is not TOML" in done.err


@pytest.mark.parametrize(("editor", "code"), [("true", 0), ("false", 3), ("rm", 0)])
def test_template_edit_cancelled_leaves_no_template(invoke: Invoke, editor: str, code: int) -> None:
    done = invoke("template", "edit", "x", VISUAL=editor)
    assert done.code == code
    assert ("is not kept" in done.err) is (code == 0)
    assert json.loads(invoke("template", "list", "--json").out) == []


def test_template_edit_without_change_keeps_an_existing_template(invoke: Invoke) -> None:
    path = Path(invoke("template", "path", "x").out.strip())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('question = "Hi"\n')
    assert invoke("template", "edit", "x", VISUAL="true").code == 0
    assert path.read_text() == 'question = "Hi"\n'


def test_template_rm_removes_also_one_that_cannot_be_read(invoke: Invoke) -> None:
    path = Path(invoke("template", "path", "x").out.strip())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\xff")
    assert invoke("template", "rm", "x").code == 0
    assert not path.exists()
    done = invoke("template", "rm", "x")
    assert (done.code, "There is no template 'x'" in done.err) == (2, True)


def test_ask_schema_prints_the_json_only(
    invoke: Invoke, provider: FakeProvider, records: Records
) -> None:
    provider.script(Reply(text=f"```json\n{REX}\n```"))
    done = invoke("ask", "--schema", "name, age int", "Invent a dog")
    assert (done.code, done.out, done.err) == (0, REX + "\n", "")
    [request] = provider.requests
    sent = request.body["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["strict"] is True
    assert sent["json_schema"]["schema"]["required"] == ["name", "age"]
    [record] = records()
    assert record["status"] == "answered"
    assert record["params"]["response_format"] == sent


def test_ask_template_schema_file_is_read_beside_the_template(
    invoke: Invoke, provider: FakeProvider, template: Callable[[str, str], Path]
) -> None:
    path = template("dog", 'question = "Invent a dog"\nschema = "dog.json"')
    path.with_name("dog.json").write_text('{"required": ["name"]}')
    provider.script(Reply(text=REX))
    assert invoke("ask", "--no-save", "-t", "dog").out == REX + "\n"
    assert provider.requests[0].body["response_format"]["json_schema"]["schema"] == {
        "required": ["name"]
    }


def test_ask_schema_unfit_answer_is_repaired_once(
    invoke: Invoke, provider: FakeProvider, records: Records, home: Path
) -> None:
    (home / "a.txt").write_text("a")
    provider.script(Reply(text='{"name": "Rex"}'), Reply(text=REX))
    done = invoke(
        "ask", "-v", "--schema", "name, age int", "-f", "a.txt", "--tag", "t", "Invent a dog"
    )
    assert (done.code, done.out) == (0, REX + "\n")
    assert "does not fit the schema" in done.err
    assert "Asking once more." in done.err
    first, second = records()
    assert (first["status"], first["answer"]) == ("failed", '{"name": "Rex"}')
    assert first["error_kind"] == "unfit-answer"
    assert first["error"] == (
        'The answer does not fit the schema: "age" is a required property at $.'
    )
    assert (second["status"], second["answer"], second["follows_id"]) == ("answered", REX, 1)
    assert (first["corrects_id"], second["corrects_id"]) == (None, 1)
    assert second["tags"] == first["tags"] == ["t"]
    assert second["attachments"] == first["attachments"]
    asked, failed, correction = contents(provider)
    assert asked == '<file name="a.txt">\na\n</file>\n\nInvent a dog'
    assert failed == '{"name": "Rex"}'
    assert correction == second["question"]
    assert '"age" is a required property' in correction


def test_ask_schema_unfit_answer_twice_exits_6(
    invoke: Invoke, provider: FakeProvider, records: Records
) -> None:
    provider.script(Reply(text="Rex is three."), Reply(text="[]"))
    done = invoke("ask", "--schema", "name, age int", "Invent a dog")
    assert (done.code, done.out) == (6, "")
    assert '[] is not of type "object"' in done.err
    assert done.err.count("\n") == 1
    assert [record["status"] for record in records()] == ["failed", "failed"]
    assert len(provider.requests) == 2


def test_ask_schema_with_json_prints_one_record(invoke: Invoke, provider: FakeProvider) -> None:
    provider.script(Reply(text="no"), Reply(text=REX))
    record = json.loads(invoke("ask", "--json", "--schema", "name, age int", "x").out)
    assert (record["id"], record["status"], record["answer"]) == (2, "answered", REX)
    provider.script(Reply(text="no"), Reply(text="no"))
    done = invoke("ask", "--json", "--schema", "name, age int", "x")
    assert done.code == 6
    assert json.loads(done.out)["status"] == "failed"


def test_ask_schema_answer_cut_by_token_limit_is_not_repaired(
    invoke: Invoke, provider: FakeProvider
) -> None:
    provider.script(Reply(text='{"name": "R', finish_reason="length"))
    done = invoke("ask", "--no-save", "--schema", "name", "x")
    assert (done.code, done.out) == (6, "")
    assert "--max-tokens" in done.err
    assert len(provider.requests) == 1


def test_ask_schema_other_failure_is_not_repaired(invoke: Invoke, provider: FakeProvider) -> None:
    done = invoke("ask", "--no-save", "--schema", "name", "x [[empty]]")
    assert (done.code, done.out) == (6, "")
    assert len(provider.requests) == 1


def test_ask_schema_on_a_terminal_prints_the_json(
    invoke: Invoke, provider: FakeProvider, console: Callable[..., Any]
) -> None:
    provider.script(Reply(text="*no*"), Reply(text='{"name": "*Rex*"}'))
    seen = console(invoke, "ask", "--schema", "name", "x")
    assert seen.code == 0
    assert seen.screen.strip() == '{"name": "*Rex*"}'
    assert "Asking once more." in seen.err
