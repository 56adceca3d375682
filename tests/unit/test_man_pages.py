"""The man pages and completion files of the wheel."""

import re
import shutil
import subprocess

import pytest

from qacli.man_pages import COMPLETION_FILES, man_page, shared_files

FILES = shared_files("1.2.3")
PAGES = {path: text for path, text in FILES.items() if path.endswith(".1")}


def rendered(path: str) -> str:
    """Return a page as `man` shows it on 80 columns."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    command = ["groff", "-man", "-Tascii", "-ww", "-rLL=80n", "-P-c"]
    done = subprocess.run(command, input=PAGES[path], capture_output=True, text=True, check=True)
    assert done.stderr == "", path
    return re.sub(r".\x08", "", done.stdout)


def test_man_pages_are_read_without_a_warning() -> None:
    for path in PAGES:
        rendered(path)


def test_man_page_of_a_command_has_its_options_and_examples() -> None:
    text = rendered("share/man/man1/qa-ask.1")
    assert "qa ask [OPTIONS] [QUESTION]..." in text
    assert re.search(r"^ +-m, --model MODEL$", text, re.MULTILINE)
    assert 'git diff | qa ask "Review this"' in text
    assert "qa ask --schema 'name, age int, bio' \"Invent a dog\" | jq .name" in text
    assert re.search(r"^ +130 +interrupted$", text, re.MULTILINE)
    assert "qa 1.2.3" in text


def test_man_page_of_the_program_lists_the_pages_of_its_commands() -> None:
    names = re.findall(r"(qa-[\w-]+)\(1\)", rendered("share/man/man1/qa.1"))
    assert "qa-ask" in names
    assert {f"share/man/man1/{name}.1" for name in names} <= set(PAGES)


def test_man_page_of_the_program_has_no_exit_code_as_an_example() -> None:
    examples = PAGES["share/man/man1/qa.1"].partition(".SH EXAMPLES\n")[2].partition("\n.SH ")[0]
    assert examples.splitlines()[0] == ".nf"
    assert {line.split()[0] for line in examples.splitlines()[1:-1]} == {"qa", "git"}


def test_man_page_with_lines_and_a_hyphenated_name_is_text() -> None:
    empty = ("usage", "text", "arguments", "argument_help", "options", "examples", "commands")
    command = dict.fromkeys(empty, "") | {"help": "Ask it.\n.so /etc/hosts\n'br\n\\fB"}
    page = man_page("qa batch dry-run", command, {"exit_codes": {}}, "1")
    assert page.endswith(".SH SEE ALSO\n.BR qa\\-batch (1)\n")
    assert "\nAsk it. .so /etc/hosts \\(aqbr \\efB\n" in page
    requests = {line.split()[0] for line in page.splitlines() if line[0] in ".'"}
    assert requests == {".TH", ".SH", ".BR"}


def test_completion_files_call_the_program() -> None:
    for shell, path in COMPLETION_FILES.items():
        assert f"_QA_COMPLETE=complete_{shell}" in FILES[path]
    assert FILES[COMPLETION_FILES["zsh"]].startswith("#compdef qa\n")
