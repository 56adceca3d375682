"""Read the rows of a CSV or TSV file strictly: an incorrect row is refused, never changed.

Python's reader treats a quote in the middle of a field as text, and an unclosed one as a field that
ends with the file; it fills or cuts rows whose length differs from the header's. Each of these
would silently change questions, so quotes and lengths are checked here. See RFC 4180, section 2.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from qacli.batch.row import Row, checked_header, listed
from qacli.errors import InvalidRequest

DELIMITERS = ",;\t|"
"""The delimiters that are recognised in a header; the first of them is the default."""

EXCEL_DELIMITER = re.compile(r'"?sep=(.)"?[\r\n]*')
"""The first line by which Excel names the delimiter; it is no part of the table."""

MARK = "\ufeff"
"""The byte order mark, as a character."""

END_OF_FILE = "\x1a"
"""The last character of text files of DOS."""

QUOTED = re.compile(r'"((?:[^"]|"")*)"')
"""A field in quotes, with each quote inside doubled."""

ADVICE = (
    'Close the quote, or write "" for a quote inside a quoted field; if quotes are plain text, '
    "use --no-quotes."
)
QUOTES_ADVICE = (
    "Use --quotes if the fields are quoted, as pandas, DuckDB and Excel do it; use --no-quotes if "
    "the quotes are text."
)


def table_rows(
    lines: Iterable[str], delimiter: str | None, *, quotes: bool | None, quoted: bool
) -> Iterator[Row]:
    """Yield the rows of a table below its first, which has the columns' names.

    Empty lines, and rows without any text at the end, are skipped. A row that is the header again
    is an error.

    Args:
        lines: The file's lines, with their ends.
        delimiter: The character between two fields; None means the most frequent one of the header.
        quotes: Whether fields can be quoted; if not, a quote is a normal character.
        quoted: The value of `quotes` if that is None; if fields look quoted then, but are not to
            be, the row is refused.

    Raises:
        InvalidRequest: A quote is not closed or not allowed at its place, or two columns have the
            same name; the message has the line. No rows can be recognised after it.
    """
    csv.field_size_limit(2**31 - 1)
    lines = iter(lines)
    # A second byte order mark is that of a program which did not expect the first.
    head, skipped = next(lines, "").lstrip(MARK), 0
    if named := EXCEL_DELIMITER.fullmatch(head):
        delimiter = delimiter or named[1]
        head, skipped = next(lines, ""), 1
    delimiter = delimiter or delimiter_of(head)
    can_quote = quoted if quotes is None else quotes
    is_guess = quotes is None and not can_quote
    lines = chain((head,), lines)
    reader = csv.reader(
        _checked_quotes(lines, delimiter, skipped) if can_quote else lines,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if can_quote else csv.QUOTE_NONE,
        strict=True,
    )
    names: tuple[str, ...] | None = None
    first = skipped + 1
    blank: list[Row] = []
    try:
        for fields in reader:
            number, first = first, reader.line_num + skipped + 1
            if _is_empty_line(fields, names):
                continue
            if names is None:
                names = checked_header(fields)
                continue
            if len(names) > 1 and (fields[0].removeprefix(MARK), *fields[1:]) == names:
                yield Row(f"Line {number}", _second_header(), raw=delimiter.join(fields))
                continue
            row = _row(f"Line {number}", fields, names, delimiter, may_be_quoted=is_guess)
            if not any(fields):
                # Spreadsheet programs write such rows at the end of a table.
                blank.append(row)
                continue
            yield from blank
            blank.clear()
            yield row
    except csv.Error as error:
        raise InvalidRequest(f"Line {first}: the row cannot be read: {error}.", ADVICE) from None


def header_delimiter(lines: Iterable[str]) -> str:
    """Return the delimiter of a table by its first lines; see `table_rows`."""
    lines = iter(lines)
    head = next(lines, "").lstrip(MARK)
    if named := EXCEL_DELIMITER.fullmatch(head):
        return named[1]
    return delimiter_of(head)


def delimiter_of(header: str) -> str:
    """Return the most frequent delimiter of a header, outside of quotes."""
    text = QUOTED.sub("", header)
    return max(DELIMITERS, key=text.count)


def _row(
    place: str, fields: list[str], names: tuple[str, ...], delimiter: str, *, may_be_quoted: bool
) -> Row:
    error = _quotes_error(fields) if may_be_quoted else None
    if error is None and len(fields) != len(names):
        error = _length_error(fields, names, delimiter)
        if may_be_quoted and any(field.startswith('"') for field in fields):
            error.todo = QUOTES_ADVICE
    if error is not None:
        return Row(place, error, raw=delimiter.join(fields))
    return Row(place, dict(zip(names, fields, strict=True)), cells=fields, columns=names)


def _is_empty_line(fields: list[str], names: tuple[str, ...] | None) -> bool:
    """Return whether a line has no row; blanks alone are a row only in a table of one column."""
    if len(fields) != 1:
        return not fields
    is_blank = not fields[0].strip() and (names is None or len(names) > 1)
    return is_blank or fields[0] == END_OF_FILE


def _second_header() -> InvalidRequest:
    return InvalidRequest(
        "the row is the header again, as in files that were joined.",
        "Remove it, or use --skip-bad.",
    )


def _length_error(fields: list[str], names: tuple[str, ...], delimiter: str) -> InvalidRequest:
    text = f"the row has {len(fields)} columns, and the header has {len(names)}: {listed(names)}."
    if len(names) == 1:
        return InvalidRequest(
            text,
            "If the table begins further down, remove the lines above its header; if it has one "
            "column, quote its texts, or use --delimiter with a character that no text has.",
        )
    return InvalidRequest(
        text,
        f"Correct it, or use --skip-bad; if {delimiter!r} is not the character between two fields, "
        "use --delimiter.",
    )


def _quotes_error(fields: list[str]) -> InvalidRequest | None:
    """Return the error if a field is quoted as in CSV, although quotes are text."""
    for field in fields:
        if field.startswith('"') and (match := QUOTED.fullmatch(field)) and '"' in match[1]:
            return InvalidRequest(f"the field {field[:60]!r} is quoted as in CSV.", QUOTES_ADVICE)
    return None


def _checked_quotes(lines: Iterable[str], delimiter: str, skipped: int) -> Iterator[str]:
    """Yield the lines while each quote opens a field, closes one, or is doubled inside one."""
    open_line: int | None = None
    for number, line in enumerate(lines, skipped + 1):
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
