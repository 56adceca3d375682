from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Invoke, Program

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.mark.parametrize(
    ("shell", "part"),
    [("bash", "complete -o default"), ("zsh", "#compdef qa"), ("fish", "complete --command qa")],
)
def test_completion_script_of_each_shell_is_printed(invoke: Invoke, shell: str, part: str) -> None:
    done = invoke(_QA_COMPLETE=f"source_{shell}")
    assert (done.code, done.err) == (0, "")
    assert part in done.out


COMPLETE = """
eval "$(_QA_COMPLETE=source_bash qa)"
function=$(complete -p qa | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
complete_words() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    "$function" qa
    echo "${COMPREPLY[*]}"
}
complete_words qa sh
complete_words qa list --fo
complete_words qa migrate st
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_completion_in_bash_lists_commands_and_options(qa: Program) -> None:
    beside = Path(qa.command[0]).parent
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE],
        env=qa.environ(PATH=f"{beside}{os.pathsep}{os.environ['PATH']}"),
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert (done.stderr, done.stdout) == ("", "show\n--follow --format\nstatus\n")
