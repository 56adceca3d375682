"""The line in which a person types, with its keys, its completion and its history.

The only code that imports prompt_toolkit; only `qa chat` on a terminal loads it.
"""

import os
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
from qacli.private_files import make_private_directory
from qacli.sanitize import unfiltered

MARK = "> "
CONTINUED = "· "


class Prompt:
    """Reads what a person types, one question or command at a time.

    Args:
        console: Where; the mark is drawn on stderr where stdout is no terminal.
        commands: The commands that Tab completes, each with its text of help.
        takes_path: The command whose argument is a path.
        history: The file that keeps the lines for the next time; None keeps them for this time.
    """

    def __init__(
        self,
        console: Console,
        commands: Mapping[str, str],
        *,
        takes_path: str,
        history: Path | None,
    ) -> None:
        self._session: PromptSession[str] = PromptSession(
            [("bold", MARK)],
            multiline=True,
            prompt_continuation=CONTINUED,
            key_bindings=_keys(),
            completer=_Commands(commands, takes_path),
            # It needs no room kept free below the line.
            complete_style=CompleteStyle.READLINE_LIKE,
            history=_history(history),
            enable_suspend=True,
            # It writes escape sequences of its own, and shows those that are typed as ^[.
            output=create_output(
                stdout=unfiltered(console.stdout if console.is_terminal else console.stderr)
            ),
        )

    def read(self) -> str:
        """What was typed.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            EOFError: Ctrl-D on an empty line, or the terminal is gone.
        """
        return self._session.prompt()

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing in the line when it was left."""
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
    """The commands, where the line begins with a slash, and paths behind the one that takes one."""

    def __init__(self, commands: Mapping[str, str], takes_path: str) -> None:
        self._commands = commands
        self._before_path = f"{takes_path} "
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        before = document.text_before_cursor
        if before.startswith(self._before_path):
            path = before.removeprefix(self._before_path)
            yield from self._paths.get_completions(Document(path), event)
        elif before.startswith("/"):
            for name, text in self._commands.items():
                if name.startswith(before):
                    takes_more = text.startswith(f"{name} ")
                    yield Completion(name + " " * takes_more, -len(before), display_meta=text)


class _PersistentHistory(FileHistory):
    """A file that only its owner can read; one that cannot be written costs no question."""

    def store_string(self, string: str) -> None:
        # Not every byte that a terminal sends is text, and any disk can be full.
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
