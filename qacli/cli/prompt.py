"""The prompt of `qa chat` and of `qa ask` without a question: keys, completion and history.

The only module that imports prompt_toolkit; only these two load it, on a terminal.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output.defaults import create_output
from prompt_toolkit.shortcuts import CompleteStyle

from qacli.cli.console import Console
from qacli.cli.signals import restored_terminal
from qacli.private_files import make_private_directory
from qacli.sanitize import unfiltered

MARK = "> "
CONTINUED = "· "
HISTORY = "chat_history"
"""The file of typed lines in the data directory."""


class Prompt:
    """Read one question or command at a time.

    Args:
        console: The console; the prompt is on stderr if stdout is not a terminal.
        commands: The commands that Tab completes, each with its help text.
        takes_path: The command whose argument is a path, if there is one.
        history: The file of typed lines; None keeps them only in memory.
    """

    def __init__(
        self,
        console: Console,
        commands: Mapping[str, str],
        *,
        takes_path: str | None,
        history: Path | None,
    ) -> None:
        self._session: PromptSession[str] = PromptSession(
            [("bold", MARK)],
            multiline=True,
            prompt_continuation=CONTINUED,
            key_bindings=_keys(),
            completer=_Commands(commands, takes_path),
            # This style reserves no lines below the prompt.
            complete_style=CompleteStyle.READLINE_LIKE,
            history=_history(history),
            enable_suspend=True,
            # Ctrl-X Ctrl-E, as in a shell; the text is sent when the editor ends without an error.
            enable_open_in_editor=True,
            tempfile_suffix=".md",
            # prompt_toolkit writes escape sequences, and shows typed ones as ^[.
            output=create_output(
                stdout=unfiltered(console.stdout if console.is_terminal else console.stderr)
            ),
        )

    def read(self) -> str:
        """Read and return a line.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            EOFError: Ctrl-D on an empty line, or the terminal is gone.
        """
        with restored_terminal(sys.stdin):
            return self._session.prompt()

    @property
    def is_empty(self) -> bool:
        """True if the line was empty when the user left it."""
        return not self._session.default_buffer.text


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    return keys


class _Commands(Completer):
    """Complete commands after a slash, and paths after the command that takes one."""

    def __init__(self, commands: Mapping[str, str], takes_path: str | None) -> None:
        self._commands = commands
        self._before_path = takes_path and f"{takes_path} "
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        before = document.text_before_cursor
        if self._before_path and before.startswith(self._before_path):
            path = before.removeprefix(self._before_path)
            yield from self._paths.get_completions(Document(path), event)
        elif before.startswith("/"):
            for name, text in self._commands.items():
                if name.startswith(before):
                    takes_more = text.startswith(f"{name} ")
                    yield Completion(name + " " * takes_more, -len(before), display_meta=text)


class _PersistentHistory(FileHistory):
    """A history file that only its owner can read. Errors in writing it are ignored."""

    def store_string(self, string: str) -> None:
        # A terminal can send bytes that are not UTF-8, and the disk can be full.
        with suppress(OSError, UnicodeEncodeError):
            make_private_directory(Path(os.fsdecode(self.filename)).parent)
            os.close(os.open(self.filename, os.O_CREAT | os.O_WRONLY, 0o600))
            super().store_string(string)

    def load_history_strings(self) -> Iterable[str]:
        with suppress(OSError):
            return super().load_history_strings()
        return []


def _history(file: Path | None) -> History:
    return InMemoryHistory() if file is None else _PersistentHistory(str(file))


def prompt_for_question(console: Console, history: Path | None) -> str:
    """Read one question of any number of lines; "" if the user leaves with Ctrl-D.

    Args:
        console: The console.
        history: The file of typed lines; None keeps them only in memory.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    prompt = Prompt(console, {}, takes_path=None, history=history)
    console.info("Enter asks, Alt-Enter begins a new line, Ctrl-X Ctrl-E opens your editor.")
    try:
        return prompt.read()
    except EOFError:
        return ""
