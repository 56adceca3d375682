"""Edit a text or a file in the user's editor."""

import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from qacli.cli.signals import ignore_interrupt, restore_interrupt
from qacli.errors import Interrupted, InvalidRequest, NotConfigured

if TYPE_CHECKING:
    from qacli.cli.console import Console

EDITOR = 'exec ${VISUAL:-${EDITOR:-vi}} "$1"'
"""Shell command, as in other programs: the variable can also hold options of the editor."""

NOT_STARTED = {126, 127}
"""Exit codes of a shell that cannot start a program (POSIX, "Exit Status for Commands")."""


def run_editor(path: Path, console: "Console") -> int:
    """Open a file in $VISUAL or $EDITOR, and return the exit code of the editor.

    The editor gets the terminal also if standard input or stdout is a pipe.
    """
    with ExitStack() as stack:
        terminal = None
        if not (console.is_terminal and console.stdin is not None and console.stdin.isatty()):
            with suppress(OSError):  # there is no terminal, but the editor may need none
                terminal = stack.enter_context(Path("/dev/tty").open("r+b", buffering=0))
        stack.enter_context(restore_interrupt())
        command = ["/bin/sh", "-c", EDITOR, "qa", str(path)]
        process = subprocess.Popen(command, stdin=terminal, stdout=terminal)  # noqa: S603 - the user's own editor
        # After the start of the editor, which would inherit the setting.
        ignore_interrupt()
        return process.wait()


def edit_text(text: str, console: "Console") -> str:
    """Return a text as the user has left it in the editor, without the line ends at its end.

    The file exists only while it is edited, and only its owner can read it.

    Raises:
        Interrupted: The editor ended with an error, which is how users cancel.
        NotConfigured: The editor cannot be started.
        InvalidRequest: The file is not UTF-8 text.
    """
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="qa-") as directory:
        path = Path(directory) / "question.md"
        path.write_text(text, encoding="utf-8", newline="")
        code = run_editor(path, console)
        if code in NOT_STARTED:
            raise NotConfigured(
                f"The editor cannot be started (exit code {code}).", "Set VISUAL or EDITOR."
            )
        if code:
            raise Interrupted(f"The editor exited with {code}, so nothing was asked.")
        try:
            return path.read_bytes().decode("utf-8-sig").rstrip("\r\n")
        except FileNotFoundError:
            return ""
        except UnicodeDecodeError:
            raise InvalidRequest(
                "The edited question is not UTF-8 text.", "Save it as UTF-8."
            ) from None
