"""Read the rows of a batch's file, in any of its formats, one at a time."""

import json
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from qacli.batch.csv_tables import END_OF_FILE, header_delimiter, table_rows
from qacli.batch.input_file import InputOptions, decode_error, is_pattern, open_binary, open_text
from qacli.batch.row import Row
from qacli.errors import InvalidRequest

CHUNK_CHARACTERS = 65_536
WHITESPACE = " \t\r\n\x1e"
"""The blanks of JSON, and the character before each text of a JSON sequence (RFC 7464)."""

ROWS_ADVICE = (
    "Give one object for each question, in an array or one after the other: pandas writes them "
    'with orient="records", and jq extracts a list with jq .name.'
)


LINES_ADVICE = (
    "Write each object in one line, as jq -c does; for an array, or objects of several lines, use "
    "--input json. Or use --skip-bad."
)
CUT_ADVICE = "Check that it is complete."
CONSTANTS = ("NaN", "Infinity", "-Infinity")
"""Numbers that Python and pandas write, and JSON does not have."""


def file_rows(
    path: Path | None, options: InputOptions, spool: IO[bytes] | None = None
) -> Iterator[Row]:
    """Yield the rows of a file.

    Args:
        path: The file; None means standard input.
        options: How it is read.
        spool: A copy to read instead; see `qacli.batch.input_file.open_binary`.

    Raises:
        InvalidRequest: The file cannot be read.
    """
    options.check()
    if options.form == "files":
        if path is None:
            raise InvalidRequest(
                "Standard input is no directory.", "Name one, or a pattern: qa batch 'notes/*.txt'"
            )
        yield from _text_files(path, options)
        return
    try:
        with open_binary(path, spool) as binary:
            if options.form == "xlsx":
                from qacli.batch.workbooks import workbook_rows

                yield from workbook_rows(binary, options.sheet)
            elif options.form == "parquet":
                from qacli.batch.parquet import parquet_rows

                yield from parquet_rows(binary)
            else:
                with open_text(binary, options.encoding) as text:
                    yield from _text_rows(text, options)
    except UnicodeDecodeError as error:
        raise decode_error(error, options.encoding) from None
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidRequest(
            f"The file cannot be read: {error}.", "Check that it is complete."
        ) from None


def csv_dialect(
    path: Path | None, options: InputOptions, spool: IO[bytes] | None = None
) -> dict[str, Any]:
    """Return the form of a CSV file, which joined results have as well; empty for other formats.

    It has the `delimiter`, and as `mark` whether the encoding is one of a spreadsheet program,
    which needs a byte order mark to recognise UTF-8.
    """
    if options.form != "csv":
        return {}
    with open_binary(path, spool) as binary:
        is_marked = binary.peek(len(BOM_UTF8)).startswith(BOM_UTF8)
        with open_text(binary, options.encoding) as text:
            delimiter = options.delimiter or header_delimiter(text)
            is_utf8 = text.encoding.lower().replace("_", "-") in {"utf-8", "utf-8-sig", "utf8"}
    return {"delimiter": delimiter, "mark": is_marked or not is_utf8}


def _text_rows(file: IO[str], options: InputOptions) -> Iterator[Row]:
    form = options.form
    if form in {"csv", "tsv"}:
        delimiter = "\t" if form == "tsv" and options.delimiter is None else options.delimiter
        yield from table_rows(file, delimiter, quotes=options.quotes, quoted=form == "csv")
    elif form == "json":
        yield from _json_rows(file)
    else:
        for number, line in enumerate(file, 1):
            # Each of several files that were joined can have its byte order mark.
            text = line.rstrip("\r\n").removeprefix("\ufeff")
            if not text.strip().strip(END_OF_FILE):
                continue
            place = f"Line {number}"
            if form == "jsonl":
                yield _json_line(place, text)
            else:
                yield Row(place, {"question": text}, raw=text)


def _json_line(place: str, text: str) -> Row:
    content = text.strip()
    try:
        value = json.loads(content, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        is_cut = error.pos >= len(content)
        advice = LINES_ADVICE if is_cut and content.startswith(("[", "{")) else _json_advice(error)
        invalid = InvalidRequest(
            f"it is not a JSON object: {error.msg} at character {error.pos + 1}.", advice
        )
    except (ValueError, RecursionError) as error:
        invalid = InvalidRequest(f"it is not a JSON object: {error}.", _json_advice(error))
    else:
        row = _object_row(place, value, text)
        if isinstance(row.fields, InvalidRequest) and isinstance(value, list):
            row.fields.todo = LINES_ADVICE
        return row
    return Row(place, invalid, raw=text)


def _json_advice(error: Exception) -> str:
    """Return how to correct a text that is not JSON."""
    if str(error).startswith(CONSTANTS):
        return "Write null, as pandas does with to_json, or use --skip-bad."
    return (
        "JSON has names and texts in double quotes, no comments, and no comma after the last "
        "value. Correct it, or use --skip-bad."
    )


def _object_row(place: str, value: object, raw: str | None = None) -> Row:
    if isinstance(value, str):
        return Row(place, {"question": value}, raw=raw)
    if isinstance(value, dict):
        return Row(place, value, cells=value, raw=raw)
    raw = json.dumps(value, ensure_ascii=False) if raw is None else raw
    advice = ROWS_ADVICE if isinstance(value, list) else ""
    return Row(place, InvalidRequest("it is not a JSON object.", advice), raw=raw)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _json_rows(file: IO[str]) -> Iterator[Row]:
    """Yield the objects of an array, or objects one after the other, with one of them in memory."""
    stream = _JsonText(file)
    in_array = stream.take("[")
    for number, (line, value) in enumerate(_json_values(stream, in_array=in_array)):
        is_only = number == 0 and not in_array and not stream.skip_blanks()
        if is_only and isinstance(value, dict) and _has_columns(value):
            raise InvalidRequest(
                f"Line {line}: the object has columns or lists in it, and not one question.",
                ROWS_ADVICE,
            )
        yield _object_row(f"Line {line}", value)


def _has_columns(value: dict[str, Any]) -> bool:
    """Return whether an object is a whole table or the envelope of a list."""
    is_request = any(name in value for name in ("messages", "body", "params"))
    values = list(value.values())
    has_nested = any(isinstance(item, (dict, list)) for item in values)
    return has_nested and not is_request and not any(isinstance(item, str) for item in values)


def _json_values(stream: "_JsonText", *, in_array: bool) -> Iterator[tuple[int, Any]]:
    """Yield the line and the value of each element of an array, or of each value of a sequence.

    Raises:
        InvalidRequest: The text is not JSON; the message has the line.
    """
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    is_first = True
    while stream.skip_blanks():
        if in_array:
            if stream.take("]"):
                break
            if not is_first and not stream.take(","):
                raise _not_json(stream.line, "a comma between two values is missing")
            stream.skip_blanks()
        is_first = False
        yield stream.line, stream.value(decoder)
    else:
        if in_array:
            raise _not_json(stream.line, "the array is not closed")
    if stream.skip_blanks():
        raise _not_json(stream.line, "text follows the array")


def _not_json(line: int, reason: str, advice: str = CUT_ADVICE) -> InvalidRequest:
    return InvalidRequest(f"Line {line}: the file is not JSON: {reason}.", advice)


class _JsonText:
    """The text of a file of JSON, of which only the part that is being parsed is in memory."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._text = ""
        self._start = 0
        self.line = 1

    def _read(self, size: int = CHUNK_CHARACTERS) -> bool:
        """Read more of the file; return False at its end."""
        more = self._file.read(size)
        self._text = self._text[self._start :] + more
        self._start = 0
        return bool(more)

    def _move(self, end: int) -> None:
        text = self._text
        self.line += text.count("\n", self._start, end)
        self._start = end

    def skip_blanks(self) -> bool:
        """Move to the next character that is not blank; return False at the end of the file."""
        while True:
            end = self._start
            while end < len(self._text) and self._text[end] in WHITESPACE:
                end += 1
            self._move(end)
            if end < len(self._text):
                return True
            if not self._read():
                return False

    def take(self, character: str) -> bool:
        """Move over this character, if it is the next one that is not blank."""
        if not self.skip_blanks() or self._text[self._start] != character:
            return False
        self._move(self._start + 1)
        return True

    def value(self, decoder: json.JSONDecoder) -> Any:  # noqa: ANN401 - any JSON
        """Return the value that begins here, and move to its end.

        Raises:
            InvalidRequest: The value is not JSON.
        """
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._start)
            except RecursionError:
                raise _not_json(self.line, "it is nested too deeply") from None
            except json.JSONDecodeError as error:
                # The value can go on in the part of the file that has not been read.
                size = len(self._text) - self._start
                if not self._read(max(size, CHUNK_CHARACTERS)):
                    line = self.line + error.doc.count("\n", 0, error.pos)
                    is_cut = error.pos >= len(error.doc.rstrip())
                    advice = CUT_ADVICE if is_cut else _json_advice(error)
                    raise _not_json(line, error.msg, advice) from None
            except ValueError as error:
                raise _not_json(self.line, str(error), _json_advice(error)) from None
            else:
                if end == len(self._text) and self._read():  # a number can go on
                    continue
                self._move(end)
                return value


def _text_files(path: Path, options: InputOptions) -> Iterator[Row]:
    """Yield a row for each file of a directory or a pattern: its name, and its text."""
    for name, file in matching_files(path):
        place = f"File {name}"
        fields: Any = {"file": name}
        try:
            with open_binary(file) as binary, open_text(binary, options.encoding) as text:
                fields["text"] = text.read()
        except UnicodeDecodeError as error:
            fields = decode_error(error, options.encoding)
        except InvalidRequest as error:
            fields = error
        except (OSError, EOFError, zlib.error) as error:
            fields = InvalidRequest(f"it cannot be read: {error}.")
        yield Row(place, fields, cells={"file": name}, raw=name)


def _split_pattern(path: Path) -> tuple[Path, str]:
    """Return the directory that has no wildcard in its name, and the pattern below it.

    Raises:
        InvalidRequest: The path is neither a directory nor a pattern.
    """
    if path.is_dir():
        return path, "*"
    parts = path.parts
    index = next((n for n, part in enumerate(parts) if any(m in part for m in "*?[")), None)
    if index is None:
        raise InvalidRequest(
            f"{path} is neither a directory nor a pattern.",
            "Name a directory, or a pattern in quotes: 'notes/*.txt'",
        )
    return Path(*parts[:index]), str(Path(*parts[index:]))


def name_of(path: Path) -> str:
    """Return a short name of a file, a directory, or the directory of a pattern."""
    named = _split_pattern(path)[0] if is_pattern(path) else path
    return named.absolute().name.partition(".")[0]


def matching_files(path: Path) -> list[tuple[str, Path]]:
    """Return the files of a directory or a pattern, sorted, with their names below its fixed part.

    Hidden files are left out, and so are the directories in a directory.

    Raises:
        InvalidRequest: There are no such files.
    """
    root, pattern = _split_pattern(path)
    files = sorted(
        (str(file.relative_to(root)), file)
        for file in root.glob(pattern)
        if file.is_file() and not file.name.startswith(".")
    )
    if not files:
        raise InvalidRequest(
            f"There is no file in {path}."
            if path.is_dir()
            else f"No file has a name such as {path}.",
            "Name another directory, or a pattern in quotes: 'notes/*.txt'",
        )
    return files
