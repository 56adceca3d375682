"""Ctrl-C before a command has begun, and after it has ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from time import sleep
from typing import TYPE_CHECKING

import pytest
from commands import Finished

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Program

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

KEY_PRESSED = """
import atexit, os, signal, sys

when = sys.argv.pop(1)

def press():
    os.kill(os.getpid(), signal.SIGINT)

class Import:
    def find_spec(self, name, path=None, target=None):
        if name == when:
            press()

if when == "end":
    atexit.register(press)
if when == "ignored":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    when = "qacli.cli.app"
sys.meta_path.insert(0, Import())
from qacli.__main__ import main
main()
"""

SIGNAL_IN_IMPORT = """
import os, sys, threading

class Import:
    def find_spec(self, name, path=None, target=None):
        if name == "qacli.services.ask" and threading.current_thread() is threading.main_thread():
            os.kill(os.getpid(), {number})
            sys.stderr.write("imported\\n")

sys.meta_path.insert(0, Import())
"""


def run_interrupted(when: str, qa: Program) -> Finished:
    """Run `qa --version`, with SIGINT when it imports a module, or at the end."""
    done = subprocess.run(
        [sys.executable, "-c", KEY_PRESSED, when, "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        env=qa.environ(),
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "module", ["qacli.cli.app", "typer", "qacli.config.loader", "qacli.cli.commands.help"]
)
def test_interrupt_while_loading_exits_130_silently(qa: Program, module: str) -> None:
    done = run_interrupted(module, qa)
    assert (done.code, done.out, done.err) == (130, "", "")


def test_interrupt_at_the_end_exits_130_silently(qa: Program) -> None:
    done = run_interrupted("end", qa)
    assert (done.code, done.err) == (130, "")
    assert done.out.startswith("qa ")


def test_interrupt_ignored_by_the_parent_stays_ignored(qa: Program) -> None:
    assert run_interrupted("ignored", qa).code == 0


def test_interrupt_at_any_moment_prints_no_traceback_of_qacli(installed_qa: Program) -> None:
    for moment in range(0, 150, 5):
        process = installed_qa.start("--version")
        sleep(moment / 1000)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        # Before the first line of qacli runs, Python itself may print a traceback.
        assert b"qacli/cli" not in err, f"{moment} ms: {err.decode()}"
        codes = {0, 130, -signal.SIGINT}
        assert process.returncode in codes or b"Fatal Python error" in err, process.returncode


SIGNAL_BEFORE_THE_END = """
import signal, time
from types import SimpleNamespace as Object
from qacli.cli.signals import _comes_after_import

class SlowToDelete:
    def __del__(self, sleep=time.sleep):
        sleep(0.2)

frame = Object(f_code=Object(co_filename="<frozen importlib._bootstrap>"), f_back=None)
assert _comes_after_import(signal.SIGINT, frame)
deleted_last = SlowToDelete()
"""


@pytest.mark.usefixtures("database_url")
def test_signal_in_the_last_import_of_a_command_does_not_kill_it() -> None:
    # At its end Python removes the handler of SIGALRM, and deletes the modules after that.
    done = subprocess.run([sys.executable, "-c", SIGNAL_BEFORE_THE_END], check=False, timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_an_import_ends_the_command_after_the_import(
    installed_qa: Program, tmp_path: Path, number: int
) -> None:
    # The modules of qacli are imported while the command runs, some of them in threads.
    (tmp_path / "sitecustomize.py").write_text(SIGNAL_IN_IMPORT.format(number=number))
    done = installed_qa("ask", "Who am I? [[delay=3]]", PYTHONPATH=str(tmp_path))
    assert done.code == 128 + number
    assert "imported" in done.err
    assert "Traceback" not in done.err
