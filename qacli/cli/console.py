"""The console of a command: the answer goes to stdout, notes and errors go to stderr.

A pipe gets every byte, always as UTF-8. The stream of a terminal sanitizes all text, see
`qacli.sanitize`, so that no command can forget it.
"""

import codecs
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from qacli.errors import DatabaseError, InvalidRequest, QaError
from qacli.sanitize import (
    escape_json,
    sanitize_standard_streams,
    sanitized,
    unfiltered,
)

if TYPE_CHECKING:
    import typer

    from qacli.cli.status_line import StatusLine
    from qacli.db.records import Store

CLOSED_PIPE = 141
"""The exit code that a shell reports after SIGPIPE: 128 + 13."""

WAITING_SECONDS = 1.0
"""Seconds without standard input after which a note says that it is awaited."""

BUFFER_CHARACTERS = 64 * 1024


@dataclass(slots=True)
class Console:
    """stdin, stdout and stderr of a command. `qacli.cli.app.run` creates one for each run.

    Attributes:
        quiet: Print no notes and no warnings.
        verbose: Print notes even if stderr is not a terminal.
        closed: stdout accepts no more text: its reader has closed it, or writing failed.
        failure: The error if writing failed; None if the reader has closed stdout.
        status_line: The moving line on stderr, while there is one.
        store: The history, once the command has opened it; see `qacli.cli.store.open_store`.
    """

    stdin: TextIO | None
    stdout: TextIO
    stderr: TextIO
    quiet: bool = False
    verbose: bool = False
    closed: bool = False
    failure: DatabaseError | None = None
    store: "Store | None" = None
    status_line: "StatusLine | None" = None

    def __post_init__(self) -> None:
        self.stdout = sanitized(self.stdout)
        self.stderr = sanitized(self.stderr)

    @classmethod
    def from_process(cls) -> "Console":
        """Return a console with the streams of the process, which can print any text.

        A terminal keeps its encoding, with escapes for all other characters. A pipe or a file gets
        UTF-8 in every locale (RFC 8259 section 8.1 for JSON).
        """
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                encoding = None if stream.isatty() else "utf-8"
                stream.reconfigure(encoding=encoding, errors="backslashreplace")
        sanitize_standard_streams()
        return cls(sys.stdin, sys.stdout, sys.stderr)

    @classmethod
    def from_context(cls, context: "typer.Context") -> "Console":
        """Return the console that `qacli.cli.app.run` has created for this command."""
        console: Console = context.obj
        return console

    @property
    def is_terminal(self) -> bool:
        """True if stdout is a terminal."""
        return self.stdout.isatty()

    def write(self, text: str, *, rendered: bool = False) -> None:
        """Write to stdout and flush. Do nothing if the reader is gone or the disk is full.

        Then the answer is still received and saved; `finish` or `print` reports the error.

        Args:
            text: Any text.
            rendered: The text is sanitized already, and has qa's own escape sequences.
        """
        if self.closed:
            return
        stream = unfiltered(self.stdout) if rendered else self.stdout
        try:
            stream.write(text)
            stream.flush()
        except OSError as error:
            self.closed = True
            if not isinstance(error, BrokenPipeError):
                self.failure = DatabaseError(
                    f"The output cannot be written: {error.strerror}.",
                    "Free some space; the question and its answer are in the history.",
                )
            # The interpreter flushes the buffer at its end, which must not raise again.
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stdout.fileno())

    @contextmanager
    def show_status(self, awaited: str) -> "Iterator[StatusLine | None]":
        """Show a moving line while the program waits, until the line or the block ends.

        Yields None where none is shown: on a pipe, on a terminal without a cursor, with --quiet.

        Args:
            awaited: The model that is asked, or another name for the awaited answer.
        """
        from qacli.config.loader import environment

        has_cursor = (environment().get("TERM") or "dumb") != "dumb"
        if self.quiet or not (has_cursor and self.is_terminal and self.stderr.isatty()):
            yield None
            return
        from qacli.cli.status_line import StatusLine

        with StatusLine(self.stderr, awaited) as line:
            self.status_line = line
            try:
                yield line
            finally:
                self.status_line = None

    def print(self, text: str) -> None:
        """Write a line to stdout.

        Raises:
            SystemExit: The reader is gone.
            DatabaseError: Writing failed.
        """
        self.write(text + "\n")
        if self.failure is not None:
            raise self.failure
        if self.closed:
            raise SystemExit(CLOSED_PIPE)

    def wait(self, seconds: float) -> None:
        """Wait before more output, and stop at once if the reader of stdout closes it meanwhile.

        Without that, `qa list --watch | head -1` would go on until there is another record.

        Raises:
            SystemExit: The reader is gone.
        """
        from select import POLLERR, POLLHUP, poll
        from time import sleep

        reader = poll()
        reader.register(self.stdout, 0)
        events = reader.poll(seconds * 1000)
        if any(event & (POLLERR | POLLHUP) for _, event in events):
            raise SystemExit(CLOSED_PIPE)
        if events:  # not every system can poll every device
            sleep(seconds)

    def print_message(self, text: str) -> None:
        """Write a sentence to stdout; on a terminal its lines are broken between words.

        Raises:
            SystemExit: The reader is gone.
            DatabaseError: Writing failed.
        """
        self.print(_wrapped(text, self.stdout) if self.is_terminal else text)

    def print_lines(self, texts: Iterable[str]) -> None:
        """Write lines one by one; in blocks of `BUFFER_CHARACTERS` if stdout is not a terminal.

        Raises:
            SystemExit: The reader is gone.
            DatabaseError: Writing failed.
        """
        block = 0 if self.is_terminal else BUFFER_CHARACTERS
        buffer: list[str] = []
        size = 0
        for text in texts:
            buffer.append(text)
            size += len(text)
            if size >= block:
                self.print("\n".join(buffer))
                buffer.clear()
                size = 0
        if buffer:
            self.print("\n".join(buffer))

    def print_json(self, value: object) -> None:
        """Write a value as JSON: indented on a terminal, else in one line."""
        text = json.dumps(value, ensure_ascii=False, indent=2 if self.is_terminal else None)
        self.print(self.json_text(text))

    def json_text(self, text: str) -> str:
        """Return JSON with escapes for characters that the terminal must not get or cannot show."""
        if not self.is_terminal:
            return text
        encoding = codecs.lookup(self.stdout.encoding or "utf-8").name
        return escape_json(text, ascii_only=encoding != "utf-8")

    def info(self, text: str) -> None:
        """Print a note to stderr, if it is a terminal or with --verbose."""
        if (self.stderr.isatty() or self.verbose) and not self.quiet:
            self._write_stderr(text)

    def warning(self, text: str) -> None:
        """Print a warning to stderr, unless --quiet."""
        if not self.quiet:
            self._write_stderr(text)

    def write_aside(self, text: str) -> None:
        """Write text to stderr without a line end."""
        self._write_stderr(text, end="")

    def error(self, error: QaError) -> None:
        """Print an error to stderr."""
        self._write_stderr(f"qa: {error}")

    def usage_error(self, error: Any) -> None:  # noqa: ANN401 - Typer's usage errors share no public class
        """Print a usage error with a hint to --help; without a command, print the help."""
        message = error.format_message()
        if message.startswith("Usage:"):
            self._write_stderr(message)
            return
        # Without pydantic's prefix.
        message = message.replace("Value error, ", "")
        end = "" if message.endswith((".", "?")) else "."
        context = getattr(error, "ctx", None)
        option = getattr(error, "option_name", None)
        if context and context.parent and option in _options_of_qa(context):
            message = f"{option} is an option of qa itself: write it before the command"
        self._write_stderr(
            f"qa: {message}{end} See: {context.command_path if context else 'qa'} --help"
        )

    def finish(self, code: int) -> int:
        """Flush stdout, report a failure to write, and return the exit code of the process."""
        self.write("")
        if code != 0 or not self.closed:
            return code
        if self.failure is None:
            return CLOSED_PIPE
        self.error(self.failure)
        return self.failure.exit_code

    def read_stdin(self) -> str:
        """Return all of standard input, without a byte order mark.

        Raises:
            InvalidRequest: Standard input is not UTF-8 text.
        """
        if self.stdin is None:
            return ""
        self._note_waiting(self.stdin)
        data = self.stdin.buffer.read()
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"The input is not UTF-8 text: byte {error.start + 1} is {data[error.start]:#x}.",
                "Convert it to UTF-8 first.",
            ) from None

    def _note_waiting(self, stdin: TextIO) -> None:
        """Print a note if standard input is open and nothing comes: the program seems to hang."""
        from select import select

        try:
            is_ready = bool(select([stdin], [], [], WAITING_SECONDS)[0])
        except (OSError, ValueError):
            return  # it has no file descriptor
        if not is_ready:
            self.info("Waiting for standard input; Ctrl-D ends it. Without any: < /dev/null")

    def _write_stderr(self, text: str, *, end: str = "\n") -> None:
        if self.stderr.isatty():
            text = _wrapped(text, self.stderr)
        paused = self.status_line.paused() if self.status_line else nullcontext()
        with paused, suppress(OSError):
            self.stderr.write(text + end)
            self.stderr.flush()


def _options_of_qa(context: Any) -> set[str]:  # noqa: ANN401 - Typer carries its own click
    return {name for item in context.find_root().command.params for name in item.opts}


def _wrapped(text: str, terminal: TextIO) -> str:
    """Return a message with its lines broken between words, as wide as the terminal."""
    from shutil import get_terminal_size

    size = (80, 24)
    with suppress(OSError, ValueError):
        size = os.get_terminal_size(terminal.fileno())
    width = get_terminal_size(fallback=size).columns  # stdout can be a pipe
    if 2 * len(text) <= width:  # no character has more than two cells
        return text
    from qacli.cli.text_width import wrap_words

    return wrap_words(text, width)
