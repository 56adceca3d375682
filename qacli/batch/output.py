"""The results of a batch, as lines of a file: complete lines only, and the same after a restart.

What is written is read back from the database. A run begins the file anew with all that is
settled already, so a file that a kill has cut is whole again after the next run.
"""

import csv
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterable
from io import StringIO
from pathlib import Path
from typing import IO, Any, Self

from qacli.errors import DatabaseError, InvalidRequest
from qacli.exchange import FIELDS, kind_and_reason
from qacli.sanitize import escape_json
from qacli.store.batches import Settled

FORMATS = ("jsonl", "csv", "openai", "parquet")
WHOLE_NUMBERS = (
    *("id", "latency_ms", "first_token_ms", "prompt_tokens", "completion_tokens"),
    *("follows_id", "batch_id"),
)


def format_of(path: Path | None, named: str | None) -> str:
    """The format: as named, or by the file's name, or JSON lines.

    Raises:
        InvalidRequest: There is none of that name.
    """
    if named is not None and named not in FORMATS:
        raise InvalidRequest(f"There is no --format {named}.", f"There are {', '.join(FORMATS)}.")
    if named is not None:
        return named
    ending = path.suffix.removeprefix(".") if path is not None else ""
    return ending if ending in FORMATS else "jsonl"


class Output:
    """Where results go.

    Args:
        path: The file; None is standard output.
        form: One of `FORMATS`.

    Raises:
        InvalidRequest: It cannot be written, or another process is writing it.
    """

    def __init__(self, path: Path | None, form: str) -> None:
        self.path = path
        self.closed = False
        self._line: Callable[[str, dict[str, Any]], str]
        self._line = {"csv": _csv, "openai": _openai}.get(form, _jsonl)
        self._parquet: Any = None
        if form == "parquet":
            self._parquet = _Parquet(path)
            return
        self._file: IO[bytes] = sys.stdout.buffer if path is None else _opened(path)
        # A terminal gets JSON with escapes; what is no JSON is sanitized by its stream.
        self._escaped = path is None and form != "csv" and sys.stdout.isatty()
        if form == "csv":
            self._write(_csv_row(["id", *FIELDS[1:]]))

    def write(self, settled: Iterable[Settled]) -> None:
        """Write whole lines, and hand them to the operating system.

        Raises:
            DatabaseError: The disk is full, say; the database has it all.
        """
        kept = [(item.key, item.record) for item in settled if item.record is not None]
        try:
            if self._parquet is not None:
                self._parquet.write([record for _, record in kept])
            elif kept and not self.closed:
                self._write("".join(self._line(key, record) for key, record in kept))
        except BrokenPipeError:
            self.closed = True
        except OSError as error:
            raise DatabaseError(
                f"The results cannot be written: {error.strerror}.",
                "Make room and run it again: the history has them, nothing is asked twice.",
            ) from error

    def _write(self, text: str) -> None:
        """All of the text, or none of it: a full disk must not leave a part of a line."""
        regular = self.path is not None and self.path.is_file()
        size = os.fstat(self._file.fileno()).st_size if regular else 0
        data = memoryview((escape_json(text) if self._escaped else text).encode())
        try:
            while data:
                data = data[self._file.write(data) or 0 :]
            self._file.flush()
        except OSError:
            if regular:
                os.ftruncate(self._file.fileno(), size)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._parquet is not None:
            self._parquet.close()
        elif self.path is not None:
            self._file.close()


def _opened(path: Path) -> IO[bytes]:
    try:
        file = path.open("ab", buffering=0)
        if path.is_file():  # and no device or pipe
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
    except BlockingIOError:
        file.close()
        raise InvalidRequest(
            f"{path} is being written by another process.", "Give this one a file of its own."
        ) from None
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be written: {error.strerror}.", "Name another file."
        ) from error
    return file


def _jsonl(_key: str, record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _csv(_key: str, record: dict[str, Any]) -> str:
    values = record.values()
    return _csv_row([json.dumps(v) if isinstance(v, list | dict) else v for v in values])


def _csv_row(values: list[Any]) -> str:
    row = StringIO()
    csv.writer(row, lineterminator="\n").writerow(values)
    return row.getvalue()


def _openai(key: str, record: dict[str, Any]) -> str:
    """A line as OpenAI's Batch API writes it."""
    answered = record["status"] == "answered"
    body = {
        "id": record["provider_response_id"],
        "object": "chat.completion",
        "model": record["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": record["answer"]},
                "finish_reason": record["finish_reason"],
            }
        ],
        "usage": {
            "prompt_tokens": record["prompt_tokens"],
            "completion_tokens": record["completion_tokens"],
            "total_tokens": (record["prompt_tokens"] or 0) + (record["completion_tokens"] or 0),
        },
    }
    kind, message = kind_and_reason(record["error"])
    line = {
        "id": f"batch_req_{record['uid']}",
        "custom_id": key,
        "response": {"status_code": 200, "request_id": record["uid"], "body": body}
        if answered
        else None,
        "error": None if answered else {"code": kind, "message": message},
    }
    return json.dumps(line, ensure_ascii=False) + "\n"


class _Parquet:
    """Row groups as they come; the file is readable once the batch ends."""

    def __init__(self, path: Path | None) -> None:
        if path is None:
            raise InvalidRequest("Parquet cannot go to standard output.", "Name a file: -o FILE")
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise InvalidRequest(
                "Parquet needs a package that is not installed.",
                "Run: pip install 'qacli[parquet]'",
            ) from error
        kinds = {name: pa.int64() for name in WHOLE_NUMBERS} | {"cost_usd": pa.float64()}
        self._schema = pa.schema([(name, kinds.get(name, pa.string())) for name in FIELDS])
        self._table = pa.Table
        self._writer = parquet.ParquetWriter(path, self._schema)

    def write(self, records: list[dict[str, Any]]) -> None:
        rows = [
            {k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in record.items()}
            for record in records
        ]
        if rows:
            self._writer.write_table(self._table.from_pylist(rows, schema=self._schema))

    def close(self) -> None:
        self._writer.close()
