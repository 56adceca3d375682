"""A completion in bash, zsh and fish comes within 100 ms of the key Tab.

Each shell is real, on a terminal of its own, and loads the script of `qa --show-completion`.
"""

import os
import pty
import re
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks import measure
from benchmarks.measure import Row, Unusable
from benchmarks.setting import QA, Bench, Home, provider

RECORDS = 1_000
SECONDS = 30.0
"""Maximum seconds for an output of a shell."""

QUIET_SECONDS = 0.2
"""Seconds without output after which a shell is idle."""

STARTS = {
    "bash": ("bash", "--norc", "--noprofile"),
    "zsh": ("zsh", "-f"),
    "fish": ("fish", "--no-config"),
}
LOADS = {
    "bash": "source {script}",
    "zsh": "autoload -Uz compinit; compinit -u -D; source {script}",
    "fish": "set -g fish_autosuggestion_enabled 0; source {script}",
}
CASES = {
    "a command": ("qa templ", "ate"),
    "a model": ("qa ask -m zephyr-", "crystalline"),
    "a template": ("qa ask -t trans", "literate"),
    "a tag": ("qa list --tag pyro", "technics"),
    "a record": ("qa show la", "st"),
    "a batch": ("qa list --batch night", "shift"),
}
"""The line that is typed, and the text that Tab adds to it."""

ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()].|[=>])")


def run(bench: Bench) -> Iterator[Row]:
    """Measure it."""
    with provider(bench) as there:
        home = bench.home(there)
        home.fill(RECORDS - 2)
        home.qa("ask", "-m", "zephyr-crystalline", "--tag", "pyrotechnics", "Who?")
        home.qa("batch", bench.questions(1), "--name", "nightshift")
        (home.path / "templates").mkdir()
        (home.path / "templates" / "transliterate.toml").write_text('prompt = "Transliterate"\n')
        for name in STARTS:
            with _Shell.running(name, home, bench.place("shell") / name) as shell:
                for what, (line, rest) in CASES.items():
                    own = f"{_cpu_ms(home, name, line, bench.size(3, 9)):,.0f} ms of processor time"
                    figures = [1000 * shell.complete(line, rest) for _ in range(bench.size(7, 20))]
                    yield Row(f"{name}: {what}, {RECORDS:,} records", own, figures, 100, unit="ms")


def _cpu_ms(home: Home, shell: str, line: str, runs: int) -> float:
    """Return the processor time of `qa` alone, which the load of the machine changes little."""
    variables = {"_QA_COMPLETE": f"complete_{shell}", "_QA_COMPLETE_LINE": line}
    return 1000 * median(measure.run([QA], home.env | variables).cpu for _ in range(runs))


class _Shell:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    @contextmanager
    def running(cls, name: str, home: Home, script: Path) -> "Iterator[_Shell]":
        """Start a shell with the completion script; it is killed at the end."""
        script.write_text(_script(name))
        path = f"{Path(QA).parent}{os.pathsep}{os.environ['PATH']}"
        env = {**home.env, "PATH": path, "TERM": "xterm-256color", "HOME": str(home.path)}
        process, descriptor = pty.fork()
        if process == 0:
            os.execvpe(name, STARTS[name], env)  # noqa: S606 - a shell of the system
        try:
            shell = cls(descriptor)
            shell._type(LOADS[name].format(script=script) + "; echo re''ady\r")
            shell._read("ready")
            time.sleep(1)
            yield shell
        finally:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.close(descriptor)

    def complete(self, line: str, rest: str) -> float:
        """Type a line and Tab; return the seconds until the completion is on the screen."""
        self._type(line)
        self._read(line.rpartition(" ")[2][-3:])
        self._drain()
        start = time.monotonic()
        self._type("\t")
        self._read(rest)
        seconds = time.monotonic() - start
        self._type("\x15\r")
        self._drain()
        return seconds

    def _type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def _drain(self) -> None:
        while select.select([self._descriptor], [], [], QUIET_SECONDS)[0]:
            os.read(self._descriptor, 65536)

    def _read(self, expected: str) -> None:
        text, end = "", time.monotonic() + SECONDS
        while expected not in ESCAPE.sub("", text):
            if not select.select([self._descriptor], [], [], max(end - time.monotonic(), 0))[0]:
                raise Unusable(f"The shell printed no {expected!r}: {text[-200:]!r}")
            text += os.read(self._descriptor, 65536).decode(errors="replace")


def _script(name: str) -> str:
    from qacli.cli.completion_scripts import SCRIPTS

    return SCRIPTS[name]
