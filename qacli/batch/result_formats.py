"""The formats of a batch's results: text in complete lines, and tables in binary files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Protocol

from qacli.batch.parquet import ParquetTable, require_pyarrow
from qacli.batch.result_table import ResultTable
from qacli.db.batches import FinishedItem
from qacli.errors import InvalidRequest
from qacli.serializers import to_csv_line, to_json_line

FORMATS = ("jsonl", "csv", "tsv", "json", "xlsx", "openai", "parquet")
BINARY_FORMATS = frozenset({"xlsx", "parquet"})
OTHER_SUFFIXES = {"": "jsonl", "txt": "jsonl", "ndjson": "jsonl"}
"""Other endings of file names, with their formats."""

DELIMITERS = {"csv": ",", "tsv": "\t"}


def format_of(path: Path | None, option: str | None) -> str:
    """Return the format of the option `--format` or of the file's name; by default JSON Lines.

    Raises:
        InvalidRequest: The option or the ending of the name is unknown.
    """
    if option is not None and option not in FORMATS:
        raise InvalidRequest(f"There is no --format {option}.", f"There are {', '.join(FORMATS)}.")
    name = "" if path is None else path.name.lower()
    is_compressed = name.endswith(".gz")
    suffix = Path(name.removesuffix(".gz")).suffix.removeprefix(".")
    form = option or OTHER_SUFFIXES.get(suffix, suffix)
    if form not in FORMATS or (option is None and form == "openai"):
        raise InvalidRequest(
            f"The ending of {path} names no format of results.",
            "Use .jsonl, .csv, .tsv, .json, .xlsx or .parquet, or name the format: --format jsonl",
        )
    if is_compressed and form in BINARY_FORMATS:
        raise InvalidRequest(
            f"Results in the format {form} are not compressed with gzip.", "Leave .gz out."
        )
    return form


class TextFormat:
    """A format of text.

    Args:
        form: One of `FORMATS` that is not binary.
        table: The columns.
    """

    def __init__(self, form: str, table: ResultTable) -> None:
        self._table = table
        self._separator, self._end = (",\n", "") if form == "json" else ("", "\n")
        self._is_first = True
        self.header, self.footer = ("[\n", "\n]\n") if form == "json" else ("", "")
        self._line: Callable[[FinishedItem], str]
        if form in DELIMITERS:
            dialect = table.dialect if form == "csv" else {}
            character = dialect.get("delimiter", DELIMITERS[form])
            # Excel recognises UTF-8 by a byte order mark.
            mark = "\ufeff" if dialect.get("mark") else ""
            self._end = ""
            self._line = lambda item: to_csv_line(table.values(item), character)
            self.header = mark + to_csv_line(table.names, character)
        elif form == "openai":
            self._line = _openai_line
        else:
            self._line = lambda item: to_json_line(table.object(item))

    def text(self, items: Sequence[FinishedItem]) -> str:
        """Return items as text, behind those of the call before."""
        parts = []
        for item in items:
            separator = "" if self._is_first else self._separator
            self._is_first = False
            parts.append(f"{separator}{self._line(item)}{self._end}")
        return "".join(parts)

    def is_own_start(self, line: bytes, batch_id: int | None) -> bool:
        """Return whether a line, or a part of it, can be the first of the batch's results."""
        if self.header:
            return self.header.encode().startswith(line)
        if not line.endswith(b"\n"):
            return line.startswith(b"{")
        try:
            record = json.loads(line)
            if self._line is _openai_line:
                return str(record["id"]).startswith("batch_req_")
            if self._table.has_rows:
                return {*self._table.types} <= {*record}
            return bool(record["batch_id"] == batch_id)
        except (ValueError, KeyError, TypeError):
            return False


def _openai_line(item: FinishedItem) -> str:
    """Return a line in the format of OpenAI's Batch API."""
    record = item.record or {}
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
        "custom_id": item.key,
        "response": {"status_code": 200, "request_id": record["uid"], "body": body}
        if is_answered
        else None,
        "error": None
        if is_answered
        else {"code": record["error_kind"], "message": record["error"]},
    }
    return json.dumps(line, ensure_ascii=False)


class BinaryTable(Protocol):
    """A table in a binary file, which is readable once it is closed."""

    def write(self, items: Sequence[FinishedItem]) -> None:
        """Add items."""

    def close(self) -> None:
        """Complete the file."""


def require_binary(form: str, path: Path | None) -> None:
    """Check that a binary format can be written.

    Raises:
        InvalidRequest: The output is not a file, or the package is not installed.
    """
    if path is None:
        name = {"parquet": "Parquet", "xlsx": "XLSX"}[form]
        raise InvalidRequest(f"{name} cannot go to standard output.", "Name a file: -o FILE")
    if form == "parquet":
        require_pyarrow()
    else:
        from qacli.batch.workbooks import require_openpyxl

        require_openpyxl()


def binary_table(form: str, file: IO[bytes], table: ResultTable) -> BinaryTable:
    """Return a writer of a table in a binary format."""
    if form == "parquet":
        return ParquetTable(file, table)
    from qacli.batch.workbooks import WorkbookTable

    return WorkbookTable(file, table)
