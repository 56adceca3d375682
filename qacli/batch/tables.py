"""The rows of a CSV or TSV file, read strictly: a row is either used as it stands or refused.

Python's reader takes a quote in the middle of a field for text and an unclosed one for a field
that goes on to the end of the file, and fills or cuts rows of another length than the header. Each
of these turns rows into other questions without a word, so quotes and lengths are checked here.
See RFC 4180, section 2.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from qacli.errors import InvalidRequest

Row: TypeAlias = tuple[int, str, Mapping[str, Any] | InvalidRequest]
"""Line number, from 1; the row as it stands; its fields by column, or why it cannot be used."""

NAMES_SHOWN = 10
TODO = (
    'Close the quote, or write "" for a quote inside a quoted field; where quotes are plain text, '
    "say --no-quotes."
)


def table_rows(lines: Iterable[str], delimiter: str, *, quotes: bool) -> Iterator[Row]:
    """Read the rows of a table; its first row names the columns, blank ones are left out.

    Args:
        lines: The file's lines, with their ends.
        delimiter: What stands between two fields.
        quotes: Whether a field may stand in quotes; else a quote is a character like any other.

    Raises:
        InvalidRequest: A quote is not closed or not where one may be; says on which line. What is
            a row and what is not cannot be known then.
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
                yield number, delimiter.join(fields), _other_length(fields, names)
    except csv.Error as error:
        raise InvalidRequest(f"Line {first}: the row cannot be read: {error}.", TODO) from None


def _other_length(fields: list[str], names: list[str]) -> InvalidRequest:
    shown = ", ".join(map(repr, names[:NAMES_SHOWN]))
    more = ", ..." if len(names) > NAMES_SHOWN else ""
    return InvalidRequest(
        f"the row has {len(fields)} columns, and the header has {len(names)}: {shown}{more}."
    )


def _checked_quotes(lines: Iterable[str], delimiter: str) -> Iterator[str]:
    """Pass lines on while each quote opens a field, closes one, or is doubled inside one."""
    opened = 0
    for number, line in enumerate(lines, 1):
        if '"' in line:
            opened = _scan(line, delimiter, number, opened)
        yield line
    if opened:
        raise InvalidRequest(f"Line {opened}: a quote opens a field and is never closed.", TODO)


def _scan(line: str, delimiter: str, number: int, opened: int) -> int:
    """Check the quotes of a line.

    Args:
        line: The line.
        delimiter: What stands between two fields.
        number: Its number.
        opened: The line of the quote that is open at its start; 0 is none.

    Returns:
        The line of the quote that is open at its end; 0 is none.
    """
    *befores, rest = line.split('"')
    inside = opened > 0
    for place, before in enumerate(befores):
        if inside:
            inside = False
        elif place and not before:
            # The second of two quotes: the field goes on.
            inside = True
        else:
            if place and not before.startswith(delimiter):
                raise _text_after(number, opened)
            if before and not before.endswith(delimiter):
                raise InvalidRequest(f"Line {number}: a quote is in the middle of a field.", TODO)
            inside, opened = True, number
    if inside:
        return opened
    if rest.rstrip("\r\n") and not rest.startswith(delimiter):
        raise _text_after(number, opened)
    return 0


def _text_after(number: int, opened: int) -> InvalidRequest:
    since = "" if opened == number else f" that is open since line {opened}"
    return InvalidRequest(
        f"Line {number}: text follows the quote that closes a field{since}.", TODO
    )
