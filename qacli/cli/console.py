"""The streams of the process: the answer goes to stdout, everything about it to stderr.

A pipe gets every byte, always as UTF-8. What goes to a terminal is sanitized, see
`qacli.sanitize`: by the stream itself, so that no command can forget it.
"""

import codecs
import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
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

CLOSED_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended: 128 + 13."""

BUFFER = 64 * 1024


@dataclass(slots=True)
class Console:
    """stdin, stdout and stderr, and what a person on them expects.

    Attributes:
        closed: Whether whoever read stdout has stopped doing so, or cannot take any more.
        failure: Why it cannot, where it is not that nobody reads.
    """

    stdin: TextIO | None
    stdout: TextIO
    stderr: TextIO
    quiet: bool = False
    verbose: bool = False
    closed: bool = False
    failure: DatabaseError | None = None

    def __post_init__(self) -> None:
        self.stdout = sanitized(self.stdout)
        self.stderr = sanitized(self.stderr)

    @classmethod
    def from_process(cls) -> "Console":
        """The process's own streams, able to print any text.

        A terminal keeps its encoding, with escapes for what it lacks. A pipe or a file gets UTF-8
        in every locale (RFC 8259 section 8.1 for JSON).
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
        """Whether stdout is a terminal."""
        return self.stdout.isatty()

    def write(self, text: str, *, rendered: bool = False) -> None:
        """Write to stdout at once; after the reader is gone, or the disk is full, nowhere.

        No answer is cut off for that: it is kept whole, and `finish` or `line` say what happened.

        Args:
            text: Any text.
            rendered: It is sanitized already, with escape sequences of our own in it.
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
                    "Make room for it; what was asked is in the history.",
                )
            # What is still buffered must not raise again when the interpreter flushes at its end.
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stdout.fileno())

    def print(self, text: str) -> None:
        """Write a line to stdout.

        Raises:
            SystemExit: The reader is gone, and there is nothing else to finish.
            DatabaseError: It cannot be written.
        """
        self.write(text + "\n")
        if self.failure is not None:
            raise self.failure
        if self.closed:
            raise SystemExit(CLOSED_PIPE)

    def print_lines(self, texts: Iterable[str]) -> None:
        """Write lines as they come, many at a time where nobody watches.

        Raises:
            SystemExit: The reader is gone, and there is nothing else to finish.
        """
        most = 0 if self.is_terminal else BUFFER
        waiting: list[str] = []
        size = 0
        for text in texts:
            waiting.append(text)
            size += len(text)
            if size >= most:
                self.print("\n".join(waiting))
                waiting.clear()
                size = 0
        if waiting:
            self.print("\n".join(waiting))

    def print_json(self, value: object) -> None:
        """Write JSON: indented for a person, in one line for a program."""
        text = json.dumps(value, ensure_ascii=False, indent=2 if self.is_terminal else None)
        self.print(self.json_text(text))

    def json_text(self, text: str) -> str:
        """The same JSON, with escapes for what a terminal must not get or cannot show."""
        if not self.is_terminal:
            return text
        encoding = codecs.lookup(self.stdout.encoding or "utf-8").name
        return escape_json(text, ascii_only=encoding != "utf-8")

    def info(self, text: str) -> None:
        """Tell a person something that a script need not know."""
        if (self.stderr.isatty() or self.verbose) and not self.quiet:
            self._write_stderr(text)

    def warning(self, text: str) -> None:
        """Tell something that should be known in a log, too."""
        if not self.quiet:
            self._write_stderr(text)

    def error(self, error: QaError) -> None:
        """Say what happened and what to do."""
        self._write_stderr(f"qa: {error}")

    def usage_error(self, error: Any) -> None:  # noqa: ANN401 - Typer's usage errors share no public class
        """Say what cannot be used, and where its help is; no command at all is the help itself."""
        said = error.format_message()
        if said.startswith("Usage:"):
            self._write_stderr(said)
            return
        # The types are checked by a library that tells what kind of error its own is.
        said = said.replace("Value error, ", "")
        end = "" if said.endswith((".", "?")) else "."
        context = getattr(error, "ctx", None)
        self._write_stderr(
            f"qa: {said}{end} See: {context.command_path if context else 'qa'} --help"
        )

    def finish(self, code: int) -> int:
        """The exit code of the process, once all is written."""
        self.write("")
        if code != 0 or not self.closed:
            return code
        if self.failure is None:
            return CLOSED_PIPE
        self.error(self.failure)
        return self.failure.exit_code

    def read_stdin(self) -> str:
        """All of standard input, without a byte order mark.

        Raises:
            InvalidRequest: It is not UTF-8 text.
        """
        if self.stdin is None:
            return ""
        data = self.stdin.buffer.read()
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"The input is not UTF-8 text: byte {error.start + 1} is {data[error.start]:#x}.",
                "Convert it to UTF-8 first.",
            ) from None

    def _write_stderr(self, text: str) -> None:
        with suppress(OSError):
            self.stderr.write(text + "\n")
            self.stderr.flush()
