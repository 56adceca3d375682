"""Open the file of a batch: its format, its compression and its encoding."""

import gzip
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from qacli.errors import InvalidRequest

FORMATS = ("txt", "csv", "tsv", "jsonl", "json", "xlsx", "parquet", "files")
OTHER_SUFFIXES = {
    "": "txt",
    "text": "txt",
    "tab": "tsv",
    "ndjson": "jsonl",
    "jsonlines": "jsonl",
    "pq": "parquet",
    "xlsm": "xlsx",
}
"""Other endings of file names, with their formats."""

DECOMPRESSED = "Decompress it first, or in a pipe: {} FILE | qa batch - --name NAME --input FORMAT"
ADVICE_BY_SUFFIX = {
    **dict.fromkeys(("xls", "xlsb", "ods", "numbers"), "Save it as XLSX, or as CSV in UTF-8."),
    **{
        suffix: DECOMPRESSED.format(program)
        for suffix, program in (
            *(("zst", "zstd -dc"), ("bz2", "bzip2 -dc"), ("xz", "xz -dc")),
            *(("lz4", "lz4 -dc"), ("zip", "unzip -p"), ("7z", "7z x -so")),
        )
    },
    **dict.fromkeys(("feather", "arrow", "ipc", "orc", "avro"), "Save it as Parquet."),
    **dict.fromkeys(("yaml", "yml", "toml", "xml"), "Convert it to JSON, or to CSV in UTF-8."),
    **dict.fromkeys(("md", "html", "htm"), "Save a table as CSV; for one question, use qa ask -f."),
    **dict.fromkeys(
        ("pdf", "docx", "doc", "odt", "rtf"), "Save its text, one question per line: --input txt"
    ),
    **dict.fromkeys(("db", "sqlite", "sqlite3", "duckdb"), "Export a table as CSV or JSON."),
    **dict.fromkeys(
        ("pkl", "pickle", "rds", "dta", "sav"), "Save it as Parquet, or as CSV in UTF-8."
    ),
}
"""Endings that are recognised but cannot be read, with the way out."""

SIGNATURES = (
    (b"PK\x03\x04", "an XLSX workbook or a ZIP archive", "--input xlsx"),
    (b"PAR1", "a Parquet file", "--input parquet"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (XLS)", None),
    (b"\x1f\x8b", "compressed with gzip twice", None),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", None),
    (b"BZh", "compressed with bzip2", None),
    (b"\xfd7zXZ", "compressed with xz", None),
    (b"SQLite format 3", "an SQLite database", None),
    (b"%PDF-", "a PDF", None),
)
"""The first bytes of files that are not text, with their name and the option that reads them."""

BYTE_ORDER_MARKS = (
    # UTF-32 first: its mark begins with that of UTF-16.
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
GZIP = b"\x1f\x8b"
PEEK_BYTES = 64
SAMPLE_BYTES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions:
    """The options to read a file of questions.

    Attributes:
        form: One of `FORMATS`.
        template: The question, with `{column}` in place of a row's value.
        system_template: The system prompt, with `{column}` as in the template; None means that of
            the batch.
        column: The column with the question, if there is no template.
        id_column: The column with the id of a row; None means `id` where there is one, and an empty
            text is no column.
        tags: The tags of all records.
        models: The models that each question is asked of; empty if there are not several.
        skip_bad: Return a row that cannot be asked with its error, instead of raising it.
        quotes: Whether fields of a table can be quoted; None means true for CSV, false for TSV.
        delimiter: The character between two fields; None means the one that the header has.
        encoding: The encoding of a text; None means that of the byte order mark, or UTF-8 without
            one.
        sheet: The sheet of a workbook; None means the only one with content.
    """

    form: str
    template: str | None = None
    system_template: str | None = None
    column: str | None = None
    id_column: str | None = None
    tags: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    skip_bad: bool = False
    quotes: bool | None = None
    delimiter: str | None = None
    encoding: str | None = None
    sheet: str | None = None

    def check(self) -> None:
        """Check that the options belong to the format.

        Raises:
            InvalidRequest: An option is for another format, or has no usable value.
        """
        is_table = self.form in {"csv", "tsv"}
        wrong = (
            (
                self.quotes is not None and not is_table,
                "--quotes and --no-quotes are",
                "CSV and TSV",
            ),
            (self.delimiter is not None and not is_table, "--delimiter is", "CSV and TSV"),
            (self.sheet is not None and self.form != "xlsx", "--sheet is", "XLSX"),
            (
                self.encoding is not None and self.form in {"xlsx", "parquet"},
                "--encoding is",
                "text files",
            ),
        )
        for is_wrong, options, form in wrong:
            if is_wrong:
                raise InvalidRequest(f"{options} for {form}.", "Leave the option out.")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise InvalidRequest(
                f"--delimiter {self.delimiter!r} is not one character.", "Use: --delimiter ';'"
            )


def format_of(path: Path | None, option: str | None) -> str:
    """Return the format of the option `--input` or of the file's name; by default text.

    Raises:
        InvalidRequest: The option or the file's suffix is unknown.
    """
    if option is not None:
        if option not in FORMATS:
            raise InvalidRequest(
                f"There is no --input {option}.", f"There are {', '.join(FORMATS)}."
            )
        return option
    if path is None:
        return "txt"
    if path.is_dir() or is_pattern(path):
        return "files"
    suffix = Path(path.stem if path.suffix == ".gz" else path.name).suffix.removeprefix(".")
    form = OTHER_SUFFIXES.get(suffix.lower(), suffix.lower())
    if form not in FORMATS or form == "files":
        raise InvalidRequest(
            f"The format of {path} cannot be recognised by its name.",
            ADVICE_BY_SUFFIX.get(form) or f"Name it: --input {'|'.join(FORMATS)}",
        )
    return form


def is_pattern(path: Path) -> bool:
    """Return whether the path is a pattern of file names, such as `notes/*.txt`."""
    return any(mark in str(path) for mark in "*?[") and not path.exists()


@contextmanager
def open_binary(
    path: Path | None, spool: IO[bytes] | None = None
) -> Iterator["io.BufferedReader[Any]"]:
    """Open a file, decompressed if it is compressed with gzip.

    Args:
        path: The file; None means standard input.
        spool: A copy to read instead, from its beginning.

    Raises:
        InvalidRequest: The file cannot be opened.
    """
    binary: IO[bytes]
    try:
        if spool is not None:
            binary = os.fdopen(os.dup(spool.fileno()), "rb")
            binary.seek(0)
        else:
            binary = sys.stdin.buffer if path is None else path.open("rb")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.", "Name a file.") from error
    with binary:
        reader: io.BufferedReader[Any]
        if isinstance(binary, io.BufferedReader):
            reader = binary
        else:
            reader = io.BufferedReader(cast("io.RawIOBase", binary))
        if reader.peek(len(GZIP)).startswith(GZIP):
            reader = io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=reader)))
        yield reader


def open_text(binary: "io.BufferedReader[Any]", encoding: str | None) -> io.TextIOWrapper:
    """Return the text of a file, with the line ends as they are.

    Args:
        binary: The file.
        encoding: Its encoding; None means that of the byte order mark, or UTF-8 without one.

    Raises:
        InvalidRequest: The file is not text, or there is no such encoding.
    """
    start = binary.peek(PEEK_BYTES)[:PEEK_BYTES]
    for signature, name, option in SIGNATURES:
        if start.startswith(signature):
            raise InvalidRequest(
                f"The file is {name}.",
                f"Use {option}." if option else "Give text, such as CSV in UTF-8.",
            )
    if encoding is None:
        encoding = next((name for mark, name in BYTE_ORDER_MARKS if start.startswith(mark)), None)
    # Latin text in UTF-16 has zeros in every second byte only.
    zeros = [start[first::2].count(0) for first in (0, 1)]
    if encoding is None and min(zeros) == 0 and sum(zeros) > len(start) // 4:
        order = "le" if zeros[1] else "be"
        raise InvalidRequest(
            "The file is not UTF-8 text, but looks like UTF-16 without a byte order mark.",
            f"Use --encoding utf-16-{order}.",
        )
    try:
        return io.TextIOWrapper(binary, encoding=encoding or "utf-8-sig", newline="")
    except LookupError:
        raise InvalidRequest(
            f"There is no --encoding {encoding}.", "Use one such as cp1252, utf-16 or shift_jis."
        ) from None


def decode_error(error: UnicodeDecodeError, encoding: str | None) -> InvalidRequest:
    """Return the error for text in another encoding, with the first place that cannot be read."""
    data, start = bytes(error.object), error.start
    before = data[max(start - SAMPLE_BYTES, 0) : start].splitlines()[-1:]
    after = data[start : start + SAMPLE_BYTES].splitlines()[:1]
    sample = b"".join((*before, *after)).decode("cp1252", "replace").strip()
    if error.encoding == "utf-8" and encoding is None and not data[:start].isascii():
        return InvalidRequest(
            f"A part of the file is UTF-8 text, and a part is not: near {sample!r}.",
            "Save each part in UTF-8, then join them: --encoding would garble one part.",
        )
    if encoding is not None:
        return InvalidRequest(
            f"The file is not text in the encoding {encoding}: {error.reason}.",
            "Name another one with --encoding.",
        )
    return InvalidRequest(
        f"The file is not UTF-8 text. In the encoding cp1252 a part of it would be {sample!r}.",
        "If that is right, use --encoding cp1252; else name the encoding, such as cp1250, "
        "mac_roman, shift_jis or gb18030, or save the file as UTF-8.",
    )
