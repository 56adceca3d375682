"""Write the results of a batch to a file, in complete lines.

The results are read from the database. Each run writes the file from its beginning, with all items
that are settled already, so that a file that was cut off by a kill is complete after the next run.
The database has the state of each file that the batch has written: another file is not replaced.
"""

import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path
from stat import S_ISREG
from typing import IO, Any, Protocol, Self

from qacli.db.batches import Batches, FinishedItem
from qacli.errors import DatabaseError, InvalidRequest
from qacli.sanitize import escape_json
from qacli.serializers import (
    FLOAT_FIELDS,
    INT_FIELDS,
    RECORD_FIELDS,
    flat_values,
    to_csv_line,
    to_json_line,
)

FORMATS = ("jsonl", "csv", "openai", "parquet")


def format_of(path: Path | None, option: str | None) -> str:
    """Return the format of the option `--format` or of the file's name; by default JSON Lines.

    Raises:
        InvalidRequest: The option is unknown.
    """
    if option is not None and option not in FORMATS:
        raise InvalidRequest(f"There is no --format {option}.", f"There are {', '.join(FORMATS)}.")
    if option is not None:
        return option
    suffix = path.suffix.removeprefix(".") if path is not None else ""
    return suffix if suffix in FORMATS else "jsonl"


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
        source: The file of questions; None is standard input.
        batch_id: The batch.
        outputs: The states of the files that the batch has written, by path; see `state`.
        force: Replace a file that the batch has not written.

    Attributes:
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
        force: bool = False,
    ) -> None:
        if path is not None and (str(path) == "-" or _is_stdout(path)):
            path = None
        self.name: str | None = None
        self.closed = False
        self._form = form
        self._stdout = stdout
        self._line: Callable[[str, dict[str, Any]], str]
        self._line = {"csv": _csv, "openai": _openai}.get(form, _jsonl)
        if form == "parquet":
            _require_parquet(path)
        self._parquet: Any = None
        self._begun = self._created = self._escaped = False
        self._file: IO[bytes] | None = None
        _refuse_source(path, source)
        if path is None:
            # JSON is escaped for a terminal; the terminal's stream sanitizes other formats.
            self._escaped = form != "csv" and sys.stdout.isatty()
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
                    "Name another file, or use --force to replace it.",
                )

    def _is_own(self, state: Mapping[str, Any] | None, batch_id: int | None) -> bool:
        """Return whether the file is empty, or unchanged since this batch has written it."""
        status = self._status()
        if status.st_size == 0:
            return True
        if state is None or state.get("inode") != status.st_ino:
            return False
        if "size" in state:
            return (state["size"], state["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
        # The run that wrote it was killed: only its first line can be checked.
        with Path(self.name or "").open("rb") as file:
            return _is_first_line(file.readline(), self._form, batch_id)

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
        if self._form == "parquet" and self._file is not None:
            self._parquet = _Parquet(self._file)
        elif self._form == "csv":
            with _explain_errors():
                self._write(to_csv_line(RECORD_FIELDS))

    def write(self, settled: Iterable[FinishedItem]) -> None:
        """Write items as complete lines, and flush them to the operating system.

        Raises:
            DatabaseError: The file cannot be written; the database has all results.
        """
        self.begin()
        records = [(item.key, item.record) for item in settled if item.record is not None]
        with _explain_errors():
            if self._parquet is not None:
                self._parquet.write([record for _, record in records])
            elif records:
                self._write("".join(self._line(key, record) for key, record in records))

    def _write(self, text: str) -> None:
        """Write all of the text or, on a full disk, none of it, so that no line is cut off."""
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
        data = memoryview(text.encode())
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
        if self._parquet is not None:
            self._parquet.close()
            self._parquet = None
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
    """
    if output.name is not None:
        batches.save_output_state(batch_id, output.name, output.state(complete=False))
    with output:
        yield output
    if output.name is not None:
        with suppress(DatabaseError, OSError):
            batches.save_output_state(batch_id, output.name, output.state(complete=True))


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
    """Check that the output is not the file of questions, under any name.

    Raises:
        InvalidRequest: It is the file of questions.
    """
    with suppress(OSError):
        questions = os.fstat(sys.stdin.fileno()) if source is None else source.stat()
        results = os.fstat(sys.stdout.fileno()) if path is None else path.stat()
        if os.path.samestat(questions, results) and S_ISREG(questions.st_mode):
            raise InvalidRequest(
                f"The results would go into the file of questions, {path or source or 'stdin'}.",
                "Name another file.",
            )


def _is_first_line(line: bytes, form: str, batch_id: int | None) -> bool:
    """Return whether this line, or a part of it, can be the first of the batch's results."""
    if form == "parquet":
        return line.startswith(b"PAR1")
    if form == "csv":
        return to_csv_line(RECORD_FIELDS).encode().startswith(line)
    if not line.endswith(b"\n"):
        return line.startswith(b'{"id":')
    try:
        record = json.loads(line)
        if form == "openai":
            return str(record["id"]).startswith("batch_req_")
        return bool(record["batch_id"] == batch_id)
    except (ValueError, KeyError, TypeError):
        return False


def _open_and_lock(path: Path) -> IO[bytes]:
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


def _jsonl(_key: str, record: dict[str, Any]) -> str:
    return to_json_line(record) + "\n"


def _csv(_key: str, record: dict[str, Any]) -> str:
    return to_csv_line(flat_values(record).values())


def _openai(key: str, record: dict[str, Any]) -> str:
    """Return a line in the format of OpenAI's Batch API."""
    is_answered = record["status"] == "answered"
    message = {"role": "assistant", "content": record["answer"]}
    if record["reasoning"] is not None:
        message["reasoning_content"] = record["reasoning"]
    body = {
        "id": record["provider_response_id"],
        "object": "chat.completion",
        "model": record["model"],
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": record["finish_reason"],
            }
        ],
        "usage": {
            "prompt_tokens": record["prompt_tokens"],
            "completion_tokens": record["completion_tokens"],
            "total_tokens": (record["prompt_tokens"] or 0) + (record["completion_tokens"] or 0),
        },
    }
    line = {
        "id": f"batch_req_{record['uid']}",
        "custom_id": key,
        "response": {"status_code": 200, "request_id": record["uid"], "body": body}
        if is_answered
        else None,
        "error": None
        if is_answered
        else {"code": record["error_kind"], "message": record["error"]},
    }
    return json.dumps(line, ensure_ascii=False) + "\n"


def _require_parquet(path: Path | None) -> None:
    """Check that Parquet can be written.

    Raises:
        InvalidRequest: The output is not a file, or the package is not installed.
    """
    if path is None:
        raise InvalidRequest("Parquet cannot go to standard output.", "Name a file: -o FILE")
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise InvalidRequest(
            "Parquet needs a package that is not installed.",
            "Run: pip install 'qacli[parquet]'",
        ) from error


class _Parquet:
    """Writer of a Parquet file, which is readable once the batch has ended."""

    def __init__(self, file: IO[bytes]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        kinds = dict.fromkeys(INT_FIELDS, pa.int64()) | dict.fromkeys(FLOAT_FIELDS, pa.float64())
        self._schema = pa.schema([(name, kinds.get(name, pa.string())) for name in RECORD_FIELDS])
        self._table = pa.Table
        self._buffer = BufferedWriter(file)
        self._writer = parquet.ParquetWriter(pa.PythonFile(self._buffer, mode="w"), self._schema)

    def write(self, records: list[dict[str, Any]]) -> None:
        rows = [flat_values(record) for record in records]
        if rows:
            self._writer.write_table(self._table.from_pylist(rows, schema=self._schema))

    def close(self) -> None:
        self._writer.close()
        self._buffer.flush()
        self._buffer.detach()
