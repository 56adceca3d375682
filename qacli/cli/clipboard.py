"""Put text on the clipboard: with the program of the desktop, or through the terminal.

Over ssh the desktop's programs would reach the clipboard of the wrong machine, so the
terminal in front of the user gets the escape sequence OSC 52 (xterm's ctlseqs, "Manipulate
Selection Data").
"""

from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from qacli.config.loader import environment
from qacli.errors import NotConfigured
from qacli.sanitize import unfiltered

if TYPE_CHECKING:
    from qacli.cli.console import Console

PROGRAMS = (
    ("wl-copy", "WAYLAND_DISPLAY", ["wl-copy"]),
    ("xclip", "DISPLAY", ["xclip", "-selection", "clipboard"]),
    ("xsel", "DISPLAY", ["xsel", "--clipboard", "--input"]),
    ("pbcopy", "", ["pbcopy"]),
)
"""Programs with the variable that says their desktop is there, and their command lines."""

PROGRAM_SECONDS = 5.0
SCREEN_CHARACTERS = 76
"""GNU screen passes on only short sequences, so a long one is sent in parts."""


def copy_text(text: str, console: "Console") -> None:
    """Put the text on the clipboard.

    Raises:
        NotConfigured: There is no program for it and no terminal.
    """
    if _copy_with_program(text) or _copy_through_terminal(text, console):
        return
    raise NotConfigured(
        "The clipboard cannot be reached: there is no wl-copy, xclip, xsel or pbcopy, and no "
        "terminal.",
        "Install one of them, or write to a file with --output.",
    )


def _copy_with_program(text: str) -> bool:
    """Copy with tmux, or with a program of the desktop; return False if none has worked."""
    from shutil import which

    if environment().get("TMUX") and which("tmux"):
        # tmux passes it on to the terminal around it; it ignores OSC 52 by default.
        return _run(["tmux", "load-buffer", "-w", "-"], text)
    if environment().get("SSH_CONNECTION") or environment().get("SSH_TTY"):
        return False
    return any(
        _run(command, text)
        for name, variable, command in PROGRAMS
        if (not variable or environment().get(variable)) and which(name)
    )


def _run(command: list[str], text: str) -> bool:
    import subprocess

    try:
        # xclip and wl-copy stay in the background, with the streams that they were given.
        done = subprocess.run(  # noqa: S603 - one of the programs above
            command,
            input=text.encode(errors="replace"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PROGRAM_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _copy_through_terminal(text: str, console: "Console") -> bool:
    if (environment().get("TERM") or "dumb") == "dumb":
        return False
    sequence = osc52(text, in_screen="STY" in environment())
    if console.stderr.isatty():
        stream = unfiltered(console.stderr)
        stream.write(sequence)
        stream.flush()
        return True
    with suppress(OSError), Path("/dev/tty").open("w", encoding="ascii") as terminal:
        terminal.write(sequence)
        return True
    return False


def osc52(text: str, *, in_screen: bool = False) -> str:
    """Return the sequence that puts the text on the terminal's clipboard.

    Args:
        text: The text; it is sent in base64, so that none of it can act on the terminal.
        in_screen: Wrap it in the sequences that GNU screen passes on to its terminal.
    """
    data = b64encode(text.encode(errors="replace")).decode()
    if not in_screen:
        return f"\x1b]52;c;{data}\x07"
    size = SCREEN_CHARACTERS
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return "\x1bP\x1b]52;c;" + "\x1b\\\x1bP".join(parts) + "\x07\x1b\\"
