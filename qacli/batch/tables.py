"""Read the rows of a CSV or TSV file strictly: an incorrect row is refused, never changed.

Python's reader treats a quote in the middle of a field as text, and an unclosed one as a field that
ends with the file; it fills or cuts rows whose length differs from the header's. Each of these
would silently change questions, so quotes and lengths are checked here. See RFC 4180, section 2.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from qacli.errors import InvalidRequest

Row: TypeAlias = tuple[int, str, Mapping[str, Any] | InvalidRequest]
"""Line number, from 1; the row as text; its fields by column, or the error if it is invalid."""

MAX_LISTED_NAMES = 10
ADVICE = (
    'Close the quote, or write "" for a quote inside a quoted field; if quotes are plain text, '
    "use --no-quotes."
)


def table_rows(lines: Iterable[str], delimiter: str, *, quotes: bool) -> Iterator[Row]:
    """Yield the rows of a table below its first, which has the columns' names; skip blank rows.

    Args:
        lines: The file's lines, with their ends.
        delimiter: The character between two fields.
        quotes: Whether fields can be quoted; if not, a quote is a normal character.

    Raises:
        InvalidRequest: A quote is not closed or not allowed at its place; the message has the line.
            No rows can be recognised after it.
    """
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(
        _checked_quotes(lines, delimiter) if quotes else lines,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        strict=True,
    )
    names: list[str] | None = None
    first = 1
    try:
        for fields in reader:
            number, first = first, reader.line_num + 1
            if not fields:
                continue
            if names is None:
                names = fields
            elif len(fields) == len(names):
                row = dict(zip(names, fields, strict=True))
                yield number, json.dumps(row, ensure_ascii=False), row
            else:
                yield number, delimiter.join(fields), _length_error(fields, names)
    except csv.Error as error:
        raise InvalidRequest(f"Line {first}: the row cannot be read: {error}.", ADVICE) from None


def _length_error(fields: list[str], names: list[str]) -> InvalidRequest:
    header = ", ".join(map(repr, names[:MAX_LISTED_NAMES]))
    header += ", ..." if len(names) > MAX_LISTED_NAMES else ""
    return InvalidRequest(
        f"the row has {len(fields)} columns, and the header has {len(names)}: {header}."
    )


def _checked_quotes(lines: Iterable[str], delimiter: str) -> Iterator[str]:
    """Yield the lines while each quote opens a field, closes one, or is doubled inside one."""
    open_line: int | None = None
    for number, line in enumerate(lines, 1):
        if '"' in line:
            open_line = _check_line(line, delimiter, number, open_line)
        yield line
    if open_line is not None:
        raise InvalidRequest(
            f"Line {open_line}: a quote opens a field and is never closed.", ADVICE
        )


def _check_line(line: str, delimiter: str, number: int, open_line: int | None) -> int | None:
    """Check the quotes of a line.

    Args:
        line: The line.
        delimiter: The character between two fields.
        number: The line's number.
        open_line: The line of the quote that is open at the beginning of this line, or None.

    Returns:
        The line of the quote that is open at the end of this line, or None.
    """
    *texts, rest = line.split('"')
    is_open = open_line is not None
    for index, text in enumerate(texts):
        if is_open:
            is_open = False
        elif index and not text:
            # The second of two quotes: the field continues.
            is_open = True
        else:
            if index and not text.startswith(delimiter):
                raise _text_after_quote(number, open_line)
            if text and not text.endswith(delimiter):
                raise InvalidRequest(f"Line {number}: a quote is in the middle of a field.", ADVICE)
            is_open, open_line = True, number
    if is_open:
        return open_line
    if rest.rstrip("\r\n") and not rest.startswith(delimiter):
        raise _text_after_quote(number, open_line)
    return None


def _text_after_quote(number: int, open_line: int | None) -> InvalidRequest:
    since = "" if open_line == number else f" that is open since line {open_line}"
    return InvalidRequest(
        f"Line {number}: text follows the quote that closes a field{since}.", ADVICE
    )
