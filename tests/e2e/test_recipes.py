"""The recipes in docs/recipes.md, run by their programs.

A program that is not installed is skipped: DuckDB and Datasette are the packages duckdb-cli and
datasette.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from fake_provider import Reply

if TYPE_CHECKING:
    from conftest import Program
    from fake_provider import FakeProvider

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
Run = Callable[..., str]

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def code(heading: str, number: int = 0) -> str:
    """Return a block of code below a heading of the page."""
    text = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[number]


def require(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


@pytest.fixture
def run(qa: Program, home: Path) -> Run:
    """Run a script with sh in the home; return its standard output."""

    def run(script: str, *arguments: str, program: str = "sh", **env: str) -> str:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            [program, "-ec", script, program, *arguments],
            env=qa.environ(PATH=path, HOME=str(home), **env),
            cwd=home,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def repository(run: Run, home: Path) -> Path:
    """A git repository with one commit."""
    require("git")
    run("git init -q -b main . && git config user.email a@example.org && git config user.name A")
    (home / "a.txt").write_text("one\n")
    run("git add a.txt && git commit -qm first")
    return home


def test_cron_lines_run_as_cron_runs_them(run: Run, home: Path, provider: FakeProvider) -> None:
    (home / "questions.txt").write_text("One?\nTwo?\n")
    provider.default = Reply(text="serendipity")
    for line in code("cron").splitlines():
        command = line.split(maxsplit=5)[5].replace("\\%", "%")
        run(command)
    assert (home / "words.txt").read_text() == "serendipity\n"
    assert len((home / "answers.jsonl").read_text().splitlines()) == 2
    assert "day. One word" in provider.requests[0].question


def test_make_asks_for_changed_files_only(run: Run, home: Path, provider: FakeProvider) -> None:
    require("make")
    (home / "Makefile").write_text(code("make"))
    for name in ("a", "b"):
        (home / f"{name}.md").write_text(f"# {name}\n")
    run("make --jobs 2 all")
    count = len(provider.requests)
    assert (count, (home / "a.summary").exists(), (home / "b.summary").exists()) == (2, True, True)
    run("make all; touch a.md; make all")
    assert len(provider.requests) == count  # the content is the same: --reuse


def test_github_action_steps_write_a_review(run: Run, repository: Path) -> None:
    workflow: dict[str, Any] = yaml.safe_load(code("GitHub Actions"))
    steps = workflow["jobs"]["review"]["steps"]
    run("git update-ref refs/remotes/origin/main HEAD")
    run("echo two >> a.txt && git commit -qam second")
    summary = repository / "summary.md"
    env = {"BASE": "main", "GITHUB_STEP_SUMMARY": str(summary), "QA_MODEL": "gpt-6-luna"}
    run(steps[-1]["run"], program="bash", **env)
    assert "Review this." in summary.read_text()
    assert "+two" in summary.read_text()  # the fake provider repeats the question


def test_git_hook_writes_the_message_of_a_commit(
    run: Run, repository: Path, provider: FakeProvider
) -> None:
    hook = repository / ".git" / "hooks" / "prepare-commit-msg"
    hook.write_text(code("git hooks"))
    hook.chmod(0o755)
    provider.default = Reply(text="Add a second line")
    run("echo two >> a.txt && git commit -qa", GIT_EDITOR="true")
    assert run("git log -1 --format=%s") == "Add a second line\n"
    run("echo three >> a.txt && git commit -qam 'My own'")
    assert run("git log -1 --format=%s") == "My own\n"
    provider.default = Reply(status=400)
    run("echo four >> a.txt && ! git commit -qa", GIT_EDITOR="true")  # an empty message


def test_vim_commands_ask_about_lines(run: Run, home: Path, provider: FakeProvider) -> None:
    require("vim")
    vim = "vim -Nu NONE -es -S qa.vim"
    (home / "qa.vim").write_text(code("vim"))
    (home / "a.py").write_text("a=1\nb=2\n")
    provider.default = Reply(text="```python\na = 1\n```")
    run(f"{vim} -c '1Qa Format it: 50%!' -c wq a.py </dev/null")
    assert (home / "a.py").read_text() == "a = 1\nb=2\n"
    assert provider.requests[-1].question == "Format it: 50%!\n\na=1\n"
    provider.default = Reply(text="# done")
    run(f"{vim} -c '$' -c 'QaRead Why?' -c 'QaAgain And \"b\"?' -c wq a.py </dev/null")
    assert (home / "a.py").read_text() == "a = 1\nb=2\n# done\n# done\n"
    assert [m["content"] for m in provider.requests[-1].body["messages"]][-3:] == [
        "Why?",
        "# done",
        'And "b"?',
    ]


def test_vs_code_tasks_are_answered(qa: Program, home: Path) -> None:
    file = home / "a.py"
    file.write_text("print(1)\n")
    for task in json.loads(code("VS Code"))["tasks"]:
        assert task["command"] == "qa"
        values = {"${selectedText}": "print(1)", "${file}": str(file)}
        arguments = task["args"]
        for name, value in values.items():
            arguments = [argument.replace(name, value) for argument in arguments]
        done = qa(*arguments)
        assert (done.code, "$" in done.out) == (0, False), done.err


def test_launcher_script_prints_the_answer(run: Run) -> None:
    assert run(code("Raycast, Alfred and other launchers"), "Who am I?") == "Answer to: Who am I?\n"


def test_jq_lines_read_the_records(run: Run, home: Path, provider: FakeProvider) -> None:
    require("jq")
    provider.script(Reply(status=400))
    run("qa ask Bad? || true; qa ask --tag good Good?")
    lines = code("jq").splitlines()
    outputs = [run(line) for line in lines]
    assert outputs[0] == "Answer to: Who am I?\n"
    assert outputs[1].startswith("1\tprovider-refused\t")
    assert {"model", "dollars"} == set(json.loads(outputs[2])[0])
    messages = json.loads((home / "train.jsonl").read_text())["messages"]
    assert [message["content"] for message in messages] == ["Good?", "Answer to: Good?"]


def test_duckdb_reads_the_export(run: Run, home: Path) -> None:
    require("duckdb")
    run("qa ask One?; qa ask Two?")
    assert "test-model" in run(code("DuckDB"))
    assert (home / "history.parquet").exists()


def test_datasette_serves_the_view(run: Run) -> None:
    require("datasette")
    run("qa ask One?", DATABASE_URL="")
    command = f"{code('Datasette').strip()} --get '/history/answers.json?_shape=array'"
    rows = json.loads(run(command, DATABASE_URL=""))
    assert [row["question"] for row in rows] == ["One?"]
