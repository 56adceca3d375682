from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qacli import __version__
from qacli.cli.app import EXIT_CODES, MODULES
from qacli.cli.other_programs import COMMAND_OPTIONS

if TYPE_CHECKING:
    from conftest import Invoke
    from fake_provider import FakeProvider

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

GROUPS = ["", "batch", "template", "config", "config key", "migrate"]
COMMANDS = ["ask", "chat", "show", "list", "migrate", "serve"]


def test_help_lists_the_commands_and_the_exit_codes(invoke: Invoke) -> None:
    done = invoke("--help")
    assert (done.code, done.err) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", done.out, re.MULTILINE)
    for code in EXIT_CODES:
        assert re.search(rf"^ +{code}  \w", done.out, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(invoke: Invoke, command: str) -> None:
    done = invoke(command, "--help", COLUMNS="80")
    assert (done.code, done.err) == (0, "")
    _, _, examples = done.out.partition("Examples:\n")
    assert re.search(rf"^ +(.* )?qa {command}\b", examples, re.MULTILINE)


def test_version_option_prints_the_version(invoke: Invoke) -> None:
    assert invoke("--version").out == f"qa {__version__}\n"
    assert invoke("-V").out == f"qa {__version__}\n"


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["history"], "qa list"),
        (["log", "-n", "3"], "qa list"),
        (["find", "ice"], "qa search WORDS"),
        (["delete", "3"], "qa rm ID"),
        (["Who am I?"], "qa ask 'Who am I?'"),
        (["how", "do", "I", "exit?"], "qa ask 'how do I exit?'"),
        (["explain", "rainbows"], "qa ask 'explain rainbows'"),
        (["hello there", "-m", "a b"], "qa ask 'hello there' -m 'a b'"),
        (["ls"], "qa list"),
        (["undo"], "qa rm last"),
        (["keys", "set", "openai"], "qa config key set"),
        (["usage"], "qa stats"),
        (["retry"], "qa ask --again last"),
        (["diff", "1", "2"], "qa compare ID ID"),
        (["last"], "qa show last, qa show ID"),
    ],
)
def test_unknown_command_names_the_command_that_does_it(
    invoke: Invoke, words: list[str], command: str
) -> None:
    done = invoke(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"qa: There is no command {words[0]!r}. Use: {command}\n"


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["-m", "a", "Who am I?"], "qa ask -m a 'Who am I?'"),
        (["--continue", "And?"], "qa ask --continue 'And?'"),
        (["--list-models"], "qa models"),
        (["--session", "boats"], 'qa ask -c "...", qa ask --follow ID "..."'),
        (["--role", "x"], "qa ask -t TEMPLATE, qa template list"),
        (["config", "get", "model"], "qa config"),
        (["template", "save", "x"], "qa template edit NAME"),
        (["list", "3"], "qa show 3"),
        (["list", "ice", "cream"], "qa search ice cream"),
        (["show", "1", "last"], "qa compare 1 last"),
        (["title", "3", "A", "new", "name"], "qa title 3 'A new name'"),
        (["stats", "week"], "qa stats --by week"),
        (["chat", "hello", "there"], "qa ask 'hello there'"),
        (["ask", "--cid", "3", "x"], "--follow ID"),
        (["ask", "-a", "photo.jpg", "x"], "-f FILE"),
        (["ask", "--no-cache", "x"], "--no-save"),
        (["ask", "--usage", "x"], "qa show last"),
        (["chat", "--cid", "3"], "--follow ID"),
        (["chat", "--repl"], "qa chat, -c, --follow ID"),
        (["list", "-q", "ice"], "--search TEXT"),
        (["aliases", "set", "fast", "gpt-6-luna"], "qa config set aliases.NAME MODEL"),
        (["--delete-older-than", "3d"], "qa prune --older-than AGE"),
    ],
)
def test_words_of_other_programs_name_the_command_that_does_it(
    invoke: Invoke, provider: FakeProvider, words: list[str], command: str
) -> None:
    done = invoke(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(f". Use: {command}\n")
    assert provider.requests == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rm", "last", "--dry-run"], "There is no option --dry-run here."),
        (["ask", "-m"], "Option '-m' requires an argument. See: qa ask --help"),
        (["chat", "-a", "x"], "No such option: -a. See: qa chat --help"),
        (["ask", "-o", "temperature", "0.5", "hi"], "Use: --temperature VALUE; or for a file: -o"),
        (["show", "last", "-o", "top_p"], "Use: --top-p VALUE; or for a file: -o top_p.txt"),
        (["export", "3"], "qa export does not take 3. See: qa export --help"),
        (["lsit", "x"], "No such command 'lsit'. Did you mean 'list'?"),
        (["--nonsense", "x"], "No such option: --nonsense"),
        (["ask", "x", "--profile", "y"], "--profile is an option of qa itself: write it before"),
        (["--profile"], "Option '--profile' requires an argument. See: qa --help"),
        (["config", "nonsense"], "No such command 'nonsense'. See: qa config --help"),
    ],
)
def test_words_of_no_program_are_an_error_that_names_them(
    invoke: Invoke, words: list[str], message: str
) -> None:
    done = invoke(*words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lsit"], "No such command 'lsit'. Did you mean 'list'?"),
        (["rseults", "nightly"], "Did you mean 'results'"),
        (["results.txt"], "results.txt cannot be read: No such file"),
    ],
)
def test_batch_mistyped_command_is_not_taken_for_a_file(
    invoke: Invoke, words: list[str], said: str
) -> None:
    done = invoke("batch", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_batch_file_named_like_a_command_is_read(invoke: Invoke, home: Path) -> None:
    (home / "lsit").write_text("Who am I?\n")
    assert invoke("batch", "lsit", "--input", "txt", "--dry-run").out.startswith("questions   1\n")


def test_qa_mistyped_command_gets_a_hint(invoke: Invoke) -> None:
    done = invoke("shwo")
    assert (done.code, done.out) == (2, "")
    assert "'shwo'" in done.err
    assert "'show'" in done.err


def test_qa_without_a_command_prints_the_help(invoke: Invoke) -> None:
    done = invoke()
    assert done.code in {0, 2}
    assert "Usage: qa" in done.out + done.err


@pytest.mark.parametrize("group", GROUPS)
def test_help_of_a_group_fits_80_columns_uncut(invoke: Invoke, group: str) -> None:
    lines = invoke(*group.split(), "--help", COLUMNS="80").out.splitlines()
    assert lines
    for line in lines:
        assert not line.endswith("...") or line.startswith("Usage:")
        assert len(line) <= 80


@pytest.mark.parametrize("command", sorted({*MODULES, *GROUPS}))
def test_help_of_every_command_fits_40_columns(invoke: Invoke, command: str) -> None:
    done = invoke(*command.split(), "--help", COLUMNS="40")
    text, _, _ = done.out.partition("Examples:\n")
    assert done.code == 0
    assert [line for line in text.splitlines() if len(line) > 40] == []
    assert "..." not in text.partition("Commands:")[2]
    whole = invoke(*command.split(), "--help", COLUMNS="80").out.partition("Examples:\n")[0]
    assert "".join(text.split()) == "".join(whole.split())  # a hyphen may end a line


def test_help_lists_the_commands_in_the_order_of_readme(invoke: Invoke) -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    table = readme.partition("## Commands\n")[2].partition("\n## ")[0]
    listed = invoke("--help").out.partition("Commands:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in listed.splitlines()] == [
        *re.findall(r"^\| \[`qa (\w+)`\]", table, re.MULTILINE),
        "help",
    ]


@pytest.mark.parametrize("command", ["work", "collect", "take", "run", "compare"])
def test_help_names_each_argument_once(invoke: Invoke, command: str) -> None:
    usage = invoke("batch", command, "--help").out
    assert "[[" not in usage
    assert "......" not in usage


def test_help_of_batch_has_the_options_of_a_file(invoke: Invoke) -> None:
    _, _, options = invoke("batch", "--help").out.partition("Options of qa batch FILE:")
    assert "--jobs" in options
    assert "--dry-run" in options


@pytest.mark.parametrize("words", [["list"], ["batch", "run"], ["batch"]])
def test_help_explains_a_command_too(invoke: Invoke, words: list[str]) -> None:
    assert invoke("help", *words).out == invoke(*words, "--help").out != ""


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["budget"], ["qa batch run --max-cost", "qa config set budgets (QA_BUDGETS)"]),
        (["standard", "INPUT"], ["qa chat", "qa help scripting"]),
        (["timeout"], ["qa ask --timeout", "qa config set connect_timeout (QA_CONNECT_TIMEOUT)"]),
        (["QA_LEASE"], ["qa config set lease (QA_LEASE)"]),
        (["ask", "clipboard"], ["qa ask --copy"]),
    ],
)
def test_help_words_find_topics_with_all_words(
    invoke: Invoke, words: list[str], names: list[str]
) -> None:
    done = invoke("help", *words)
    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert {*names} <= {*lines[::2]}
    assert all(line.startswith("    ") for line in lines[1::2])
    assert all(line.endswith(".") for line in lines[1::2])


def test_help_words_in_a_name_come_first(invoke: Invoke) -> None:
    assert invoke("help", "schema").out.startswith("qa ask --schema\n")


def test_help_topic_is_found_by_its_words(invoke: Invoke) -> None:
    assert invoke("help", "exit", "codes").out == invoke("help", "exit-codes").out


@pytest.mark.parametrize("topic", ["configuration", "scripting"])
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_help_topic_breaks_lines_only_where_the_screen_ends(
    invoke: Invoke, topic: str, columns: int
) -> None:
    text = invoke("help", topic, COLUMNS=str(columns)).out
    width = min(columns, 88)
    for paragraph in text.strip().split("\n\n"):
        lines = paragraph.splitlines()
        if paragraph.startswith("  "):
            continue  # examples
        lines = [line for line in lines if not re.match(r"\w+  \(", line)]
        assert [line for line in lines if len(line) > width and " " in line.strip()] == []
        for line, following in pairwise(lines):
            assert len(f"{line} {following.split()[0]}") > width


def test_help_of_an_empty_word_lists_the_topics(invoke: Invoke) -> None:
    assert invoke("help", "").out == invoke("help", " ").out == invoke("help").out != ""


def test_options_of_other_programs_are_none_of_the_command_and_name_one_of_it(
    invoke: Invoke,
) -> None:
    for command, options in COMMAND_OPTIONS.items():
        here = set(re.findall(r"--?[\w-]+", invoke("help", *command.split()[1:]).out))
        assert not here & options.keys()
        uses = [use for text in options.values() for use in text.split(", ")]
        if command != "qa chat":  # an option that a chat does not have is not named
            assert {use.split()[0] for use in uses if use.startswith("-")} <= here


def test_help_unknown_topic_exits_2(invoke: Invoke) -> None:
    done = invoke("help", "nonsense")
    assert (done.code, done.out) == (2, "")
    assert "no command 'nonsense'" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lsit"], "No such command 'lsit'. Did you mean 'list'? See: qa --help"),
        (["list", "--xyzzy"], "No such option: --xyzzy. See: qa list --help"),
        (["batch", "x", "--jobs", "0"], "greater than or equal to 1. See: qa batch run --help"),
        (["list", "--status", "lost"], "'--status': 'lost' is not one of 'asking', 'answered',"),
        (["prune"], "Missing option '--older-than'. See: qa prune --help"),
    ],
)
def test_qa_invalid_arguments_print_one_line_and_exit_2(
    invoke: Invoke, words: list[str], said: str
) -> None:
    done = invoke(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("qa: ")
    assert said in done.err
    assert done.err.count("\n") == 1


def test_help_configuration_states_precedence_and_defaults(invoke: Invoke) -> None:
    first, *rest = invoke("help", "configuration").out.split("\n\n")
    assert "the chosen profile of the configuration file, the top of that file" in " ".join(
        first.split()
    )
    assert next(text for text in rest if text.startswith("raw ")).endswith("Default: false.")
    timeout = next(text for text in rest if text.startswith("timeout "))
    assert timeout.endswith("Default: 600.")
