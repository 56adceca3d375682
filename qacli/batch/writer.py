"""Write the results of a batch to a file, in complete lines.

The results are read from the database. Each run writes the file from its beginning, with all items
that are settled already, so that a file that was cut off by a kill is complete after the next run.
The database has the state of each file that the batch has written: another file is not replaced.
"""

import fcntl
import gzip
import os
import shlex
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any, Protocol, Self

from qacli.batch.input_file import is_pattern
from qacli.batch.result_formats import (
    BINARY_FORMATS,
    DELIMITERS,
    FORMATS,
    BinaryTable,
    TextFormat,
    binary_table,
    format_of,
    require_binary,
)
from qacli.batch.result_table import RecordTable, ResultTable
from qacli.db.batches import Batches, FinishedItem
from qacli.errors import DatabaseError, InvalidRequest
from qacli.sanitize import escape_json

__all__ = ["FORMATS", "Printer", "ResultWriter", "format_of", "recorded_output"]

SIGNATURES = {"parquet": b"PAR1", "xlsx": b"PK"}
"""The first bytes of the binary formats."""


class Printer(Protocol):
    """A printer to standard output, such as `qacli.cli.console.Console`."""

    def print(self, text: str) -> None:
        """Print a line.

        Raises:
            SystemExit: The reader has closed standard output.
        """


class ResultWriter:
    """A writer of results. The file is not changed before `begin` or the first `write`.

    Args:
        path: The file; None or `-` is standard output.
        form: One of `FORMATS`.
        stdout: The printer to standard output.
        source: The file of questions; None means standard input.
        batch_id: The batch.
        outputs: The states of the files that the batch has written, by path; see `state`.
        table: The columns of the results; None are those of a record.
        force: Replace a file that the batch has not written.

    Attributes:
        table: The columns of the results.
        name: The file's real path; None if it is not a regular file.
        closed: The reader of a pipe has closed it.

    Raises:
        InvalidRequest: The file cannot be written, another process is writing it, it is the file of
            questions, or the batch has not written it.
    """

    def __init__(  # noqa: PLR0913 - what it may write, by name
        self,
        path: Path | None,
        form: str,
        *,
        stdout: Printer | None = None,
        source: Path | None = None,
        batch_id: int | None = None,
        outputs: Mapping[str, Mapping[str, Any]] | None = None,
        table: ResultTable | None = None,
        force: bool = False,
    ) -> None:
        if path is not None and (str(path) == "-" or _is_stdout(path)):
            path = None
        self.name: str | None = None
        self.closed = False
        self._form = form
        self._stdout = stdout
        self._is_compressed = path is not None and path.suffix.lower() == ".gz"
        if form in BINARY_FORMATS:
            require_binary(form, path)
        self._binary: BinaryTable | None = None
        self.set_table(table or RecordTable())
        self._begun = self._created = self._escaped = self._is_closed = False
        self._file: IO[bytes] | None = None
        _refuse_source(path, source)
        if path is None:
            # JSON is escaped for a terminal; the terminal's stream sanitizes other formats.
            self._escaped = form not in DELIMITERS and sys.stdout.isatty()
            return
        self._created = not path.exists()
        self._file = _open_and_lock(path)
        if path.is_file():  # not a device or pipe
            self.name = str(path.resolve())
            state = (outputs or {}).get(self.name)
            if not force and not self._is_own(state, batch_id):
                self._file.close()
                raise InvalidRequest(
                    f"{path} exists, and its content is not from this batch.",
                    "Name another file, or use --force to replace it; a changed template or option "
                    "makes another batch.",
                )

    def set_table(self, table: ResultTable) -> None:
        """Set the columns of the results, before the first of them is written."""
        self.table = table
        self._text = TextFormat(self._form, table)

    def _is_own(self, state: Mapping[str, Any] | None, batch_id: int | None) -> bool:
        """Return whether the file is empty, or unchanged since this batch wrote it."""
        status = self._status()
        if status.st_size == 0:
            return True
        if state is None or state.get("inode") != status.st_ino:
            return False
        if "size" in state:
            return (state["size"], state["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
        # The run that wrote it was killed: only its first line can be checked.
        with Path(self.name or "").open("rb") as file:
            if self._form in BINARY_FORMATS:
                return file.read(len(SIGNATURES[self._form])) == SIGNATURES[self._form]
            line = _first_line(file, compressed=self._is_compressed)
            return self._text.is_own_start(line, batch_id)

    def state(self, *, complete: bool) -> dict[str, Any]:
        """Return the values by which a later run recognises the file.

        Args:
            complete: Nothing more will be written to it.
        """
        status = self._status()
        if not complete:
            return {"inode": status.st_ino}
        return {
            "inode": status.st_ino,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }

    def _status(self) -> os.stat_result:
        if self._file is None:
            return Path(self.name or "").stat()
        return os.fstat(self._file.fileno())

    def begin(self) -> None:
        """Empty the file and write its header.

        Raises:
            DatabaseError: The file cannot be written.
        """
        if self._begun:
            return
        self._begun = True
        if self.name is not None and self._file is not None:
            self._file.truncate(0)
        if self._form in BINARY_FORMATS and self._file is not None:
            self._binary = binary_table(self._form, self._file, self.table)
        elif self._text.header:
            with _explain_errors():
                self._write(self._text.header)

    def write(self, settled: Iterable[FinishedItem]) -> None:
        """Write items as complete lines, and flush them to the operating system.

        Raises:
            DatabaseError: The file cannot be written; the database has all results.
        """
        self.begin()
        items = [item for item in settled if item.record is not None]
        with _explain_errors():
            if self._binary is not None:
                self._binary.write(items)
            elif items:
                self._write(self._text.text(items))

    def _write(self, text: str) -> None:
        """Write all of the text; on a full disk write nothing, so that no line is cut off."""
        if self.closed:
            return
        try:
            if self._file is not None:
                self._write_file(self._file, text)
            elif self._stdout is not None:
                line = text.removesuffix("\n")
                self._stdout.print(escape_json(line) if self._escaped else line)
        except (BrokenPipeError, SystemExit):
            self.closed = True

    def _write_file(self, file: IO[bytes], text: str) -> None:
        size = os.fstat(file.fileno()).st_size if self.name is not None else 0
        encoded = text.encode()
        # Each part is a member of its own, so that the file is readable up to the last one.
        data = memoryview(gzip.compress(encoded) if self._is_compressed else encoded)
        try:
            while data:
                data = data[file.write(data) or 0 :]
            file.flush()
        except OSError:
            if self.name is not None:
                os.ftruncate(file.fileno(), size)
            raise

    def close(self) -> None:
        """Complete the file; delete it if it was created for this output and not begun."""
        try:
            with _explain_errors():
                if self._binary is not None:
                    self._binary.close()
                elif self._begun and self._text.footer and not self._is_closed:
                    self._write(self._text.footer)
        finally:
            self._binary, self._is_closed = None, True
            if self._file is not None:
                if self._created and not self._begun and self.name is not None:
                    Path(self.name).unlink(missing_ok=True)
                self._file.close()
                self._file = None

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


@contextmanager
def recorded_output(
    batches: Batches, batch_id: int, output: ResultWriter
) -> Iterator[ResultWriter]:
    """Begin an output, close it at the end, and store its state in the batch.

    The state is stored before the first byte is written, so that the run after a kill can replace
    the file.

    Raises:
        DatabaseError: The file cannot be written, or is not the one of the beginning any more.
    """
    begun = None if output.name is None else output.state(complete=False)
    if output.name is not None and begun is not None:
        batches.save_output_state(batch_id, output.name, begun)
    with output:
        yield output
    if output.name is None or begun is None:
        return
    state = None
    with suppress(OSError):
        state = output.state(complete=True)
    if state is None or state["inode"] != begun["inode"]:
        raise DatabaseError(
            f"The results are not in {output.name}: the file was removed or replaced meanwhile.",
            "Run it again, which writes them: the history has the results, and no question is "
            "asked twice.",
        )
    with suppress(DatabaseError):
        batches.save_output_state(batch_id, output.name, state)


@contextmanager
def _explain_errors() -> Iterator[None]:
    """Turn errors of writing into one sentence."""
    try:
        yield
    except OSError as error:
        raise DatabaseError(
            f"The results cannot be written: {error.strerror}.",
            "Make room on the disk and run it again: the history has the results, and no question "
            "is asked twice.",
        ) from error


def _is_stdout(path: Path) -> bool:
    """Return whether the path is another name of standard output, for example `/dev/stdout`."""
    with suppress(OSError):
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    return False


def _refuse_source(path: Path | None, source: Path | None) -> None:
    """Check that the output is not the file of questions, under any name, nor one of its files.

    Raises:
        InvalidRequest: The output is a file of questions, or would be one in the next run.
    """
    if path is not None and source is not None:
        is_inside = source.is_dir() and path.absolute().parent.resolve() == source.resolve()
        if is_inside or (is_pattern(source) and path.absolute().match(str(source.absolute()))):
            raise InvalidRequest(
                f"The results would be one of the files of questions in {source}.",
                "Name a file in another directory.",
            )
    with suppress(OSError):
        questions = os.fstat(sys.stdin.fileno()) if source is None else source.stat()
        results = os.fstat(sys.stdout.fileno()) if path is None else path.stat()
        if os.path.samestat(questions, results) and S_ISREG(questions.st_mode):
            raise InvalidRequest(
                f"The results would go into the file of questions, {path or source or 'stdin'}.",
                "Name another file.",
            )


def _first_line(file: IO[bytes], *, compressed: bool) -> bytes:
    """Return the first line of a file, as far as it can be read."""
    if not compressed:
        return file.readline()
    with suppress(OSError, EOFError, zlib.error):
        return gzip.GzipFile(fileobj=file).readline()
    return b""


def _open_and_lock(path: Path) -> IO[bytes]:
    if not path.parent.is_dir():
        raise InvalidRequest(
            f"{path} cannot be written: there is no directory {path.parent}.",
            f"Create it: mkdir -p {shlex.quote(str(path.parent))}",
        )
    try:
        file = path.open("ab", buffering=0)
        if path.is_file():  # not a device or pipe
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise InvalidRequest(
            f"{path} is being written by another process.", "Name another file."
        ) from None
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be written: {error.strerror}.", "Name another file."
        ) from error
    return file
