"""Read and write the sheets of XLSX workbooks; needs the extra `xlsx`."""

import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from io import BufferedReader, BytesIO
from itertools import repeat
from typing import IO, TYPE_CHECKING, Any

from qacli.batch.row import CellError, Row, checked_header, listed
from qacli.errors import InvalidRequest
from qacli.installation import extra_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openpyxl import Workbook

    from qacli.batch.result_table import ResultTable
    from qacli.db.batches import FinishedItem

MIDNIGHT = time()
FORMULA, ERROR, MERGED = b"<f", b't="e"', b"<mergeCell "
"""The parts of a sheet's XML that show a formula, a cell with an error, and merged cells."""

OLE2 = b"\xd0\xcf\x11\xe0"
"""The first bytes of an old workbook, and of a new one with a password (MS-CFB, 2.2)."""

CHUNK_BYTES = 1 << 20
ESCAPED = r"_x([0-9A-Fa-f]{4})_"
"""A character that XML cannot have, as XLSX writes it: `_x000D_` is a carriage return (ECMA-376,
part 1, 22.9.2.19). The first character of a text that only looks like one is written so."""

MAX_CELL_TEXT = 32_767
"""The characters of one cell of XLSX."""


def workbook_rows(binary: BufferedReader, sheet: str | None) -> Iterator[Row]:
    """Yield the rows of a sheet below its first, which has the columns' names; skip blank rows.

    Numbers, dates and booleans are written as JSON has them, and durations in hours. A formula is
    the value that the program computed which has saved the file. Merged cells have their value in
    each row.

    Args:
        binary: The file.
        sheet: The name of the sheet; None means the only one with content.

    Raises:
        InvalidRequest: The file is not a workbook, its sheet must be named, or openpyxl is not
            installed.
    """
    require_openpyxl()
    data: IO[bytes] = binary if binary.seekable() else BytesIO(binary.read())
    if data.read(len(OLE2)) == OLE2:
        raise InvalidRequest(
            "The file is an old Excel workbook (XLS), or has a password.",
            "Save it as XLSX without a password.",
        )
    with _explain_damage():
        yield from _sheet_rows(data, sheet)


@contextmanager
def _explain_damage() -> Iterator[None]:
    """Turn any error of openpyxl, which raises what its parsers raise, into one sentence.

    Raises:
        InvalidRequest: The file is not a workbook, or is damaged.
    """
    try:
        yield
    except (InvalidRequest, MemoryError):
        raise
    except zipfile.BadZipFile:
        raise InvalidRequest(
            "The file is not an XLSX workbook.",
            "Check that it is complete, or name its format: --input csv",
        ) from None
    except Exception as error:  # noqa: BLE001 - KeyError, TypeError, AttributeError, ParseError, ...
        raise InvalidRequest(
            f"The workbook cannot be read: {type(error).__name__}: {error}.",
            "Open it in a spreadsheet program, and save it as XLSX or CSV.",
        ) from None


def _sheet_rows(data: IO[bytes], sheet: str | None) -> Iterator[Row]:
    """Yield the rows of a sheet; see `workbook_rows`."""
    openpyxl = require_openpyxl()
    parts = _parts_of_sheets(data)
    workbook = openpyxl.load_workbook(data, read_only=True, data_only=True)
    rows = _cells(workbook, name := _sheet_name(workbook, sheet), with_errors=ERROR in parts)
    if MERGED in parts:
        # Only a workbook that is loaded whole knows them.
        merged = openpyxl.load_workbook(data, data_only=True)[name].merged_cells.ranges
        rows = _filled(rows, [area.bounds for area in merged])
    formulas: Iterator[Any] = repeat(())
    if FORMULA in parts:
        formulas = _cells(openpyxl.load_workbook(data, read_only=True), name)
    names: tuple[str, ...] | None = None
    for number, (cells, source) in enumerate(zip(rows, formulas, strict=False), 1):
        if all(cell is None for cell in cells) and not any(source):
            continue
        if names is None:
            header = ["" if cell is None else str(_value(cell)) for cell in cells]
            while header and not header[-1]:
                header.pop()
            names = checked_header(header)
            continue
        yield _row(f"Row {number}", cells, source, names)


def _row(place: str, cells: tuple[Any, ...], source: Iterable[Any], names: tuple[str, ...]) -> Row:
    values = [_value(cell) for cell in cells]
    uncomputed = [
        names[index]
        for index, (cell, formula) in enumerate(zip(cells, source, strict=False))
        if cell is None and formula is not None and index < len(names)
    ]
    values += [None] * (len(names) - len(values))
    if any(value is not None for value in values[len(names) :]):
        error = InvalidRequest(
            f"the row has more cells than the header, which has {listed(names)}.",
            "Name each column; if the table begins further down, remove the rows above it.",
        )
        return Row(place, error, raw=str(values))
    row = dict(zip(names, values, strict=False))
    if uncomputed:
        error = InvalidRequest(
            f"the formula in {listed(uncomputed)} has no value.",
            "Open the file in a spreadsheet program and save it, which computes the formulas.",
        )
        return Row(place, error, raw=str(values))
    return Row(place, row, cells=values[: len(names)], columns=names)


def _cells(
    workbook: "Workbook", name: str, *, with_errors: bool = False
) -> Iterator[tuple[Any, ...]]:
    """Yield the values of each row; with `with_errors`, an error is a `CellError`."""
    sheet = workbook[name]
    # Some programs write a wrong size of the sheet, beyond which nothing would be read.
    sheet.reset_dimensions()
    if not with_errors:
        yield from sheet.iter_rows(values_only=True)
        return
    for row in sheet.iter_rows():
        yield tuple(CellError(cell.value) if cell.data_type == "e" else cell.value for cell in row)


def _filled(
    rows: Iterable[tuple[Any, ...]], areas: Iterable[tuple[int, int, int, int]]
) -> Iterator[tuple[Any, ...]]:
    """Yield rows in which the first column of merged cells has their value in each of its rows.

    Args:
        rows: The rows; only the first row of merged cells has their value.
        areas: The first column, first row, last column and last row of merged cells, from 1.
    """
    starts = defaultdict(list)
    for column, first, _last_column, last in areas:
        starts[first].append((column - 1, last))
    values: dict[int, tuple[Any, int]] = {}
    for number, row in enumerate(rows, 1):
        cells = list(row)
        values = {column: area for column, area in values.items() if area[1] >= number}
        if any(cell is not None for cell in cells):
            for column, (value, _last) in values.items():
                cells += [None] * (column + 1 - len(cells))
                cells[column] = value
        values |= {
            column: (cells[column], last)
            for column, last in starts[number]
            if column < len(cells) and last > number
        }
        yield tuple(cells)


def _sheet_name(workbook: "Workbook", name: str | None) -> str:
    """Return the name of the sheet to read; a hidden one has to be named, if there are others.

    Raises:
        InvalidRequest: There is no sheet of that name, or several have content.
    """
    sheets: list[str] = [sheet.title for sheet in workbook.worksheets]
    visible = [sheet.title for sheet in workbook.worksheets if sheet.sheet_state == "visible"]
    if name is not None:
        if name not in sheets:
            raise InvalidRequest(
                f"The workbook has no sheet {name!r}.", f"Its sheets are {listed(sheets)}."
            )
        return name
    used = [title for title in visible or sheets if any(map(any, _cells(workbook, title)))]
    if len(used) > 1:
        raise InvalidRequest(
            f"The workbook has several sheets: {listed(used)}.", "Name one: --sheet NAME"
        )
    return (used or sheets)[0]


def _parts_of_sheets(data: IO[bytes]) -> set[bytes]:
    """Return which of `FORMULA`, `ERROR` and `MERGED` any sheet has; they cost a slower reading."""
    data.seek(0)
    with zipfile.ZipFile(data) as archive:
        names = [name for name in archive.namelist() if name.startswith("xl/worksheets/sheet")]
        return {part for name in names for part in _parts_of_sheet(archive, name)}


def _parts_of_sheet(archive: zipfile.ZipFile, name: str) -> set[bytes]:
    parts, end = set(), b""
    with archive.open(name) as sheet:
        while chunk := sheet.read(CHUNK_BYTES):
            text = end + chunk
            parts |= {part for part in (FORMULA, ERROR, MERGED) if part in text}
            end = chunk[-len(MERGED) :]
    return parts


def _value(cell: object) -> Any:  # noqa: ANN401 - any JSON
    """Return a cell as JSON has it; a date without a time is only the date."""
    if isinstance(cell, CellError):
        return cell
    if isinstance(cell, str):
        return _unescape(cell)
    if isinstance(cell, datetime):
        return (cell.date() if cell.time() == MIDNIGHT else cell).isoformat()
    if isinstance(cell, (date, time)):
        return cell.isoformat()
    return _hours(cell) if isinstance(cell, timedelta) else cell


def _hours(duration: timedelta) -> str:
    """Return a duration as a spreadsheet program shows it, in hours: `26:00:00`."""
    sign, duration = ("-", -duration) if duration < timedelta() else ("", duration)
    hours, rest = divmod(duration, timedelta(hours=1))
    return f"{sign}{hours}:{str(rest).partition(':')[2]}"


def _unescape(text: str) -> str:
    return re.sub(ESCAPED, lambda match: chr(int(match[1], 16)), text)


def require_openpyxl() -> Any:  # noqa: ANN401 - the module
    """Return openpyxl.

    Raises:
        InvalidRequest: openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise InvalidRequest(
            "XLSX needs a package that is not installed.", f"Run: {extra_command('xlsx')}"
        ) from error
    return openpyxl


class WorkbookTable:
    """Writer of a workbook with one sheet, which is readable once it is closed.

    A text is never a formula. Characters that XLSX cannot have are replaced by U+FFFD, and a text
    is cut at the 32,767 characters that a cell can have.
    """

    def __init__(self, file: IO[bytes], table: "ResultTable") -> None:
        self._file = file
        self._values = table.values
        openpyxl = require_openpyxl()
        self._workbook = openpyxl.Workbook(write_only=True)
        self._sheet = self._workbook.create_sheet("Results")
        self._cell = openpyxl.cell.WriteOnlyCell
        self._illegal = openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE
        self._append(table.names)

    def write(self, items: "Sequence[FinishedItem]") -> None:
        """Add items."""
        for item in items:
            self._append(self._values(item))

    def _append(self, values: "Sequence[Any]") -> None:
        cells = []
        for value in values:
            if isinstance(value, str):
                text = self._illegal.sub("\ufffd", value)[:MAX_CELL_TEXT]
                text = re.sub(f"_(?={ESCAPED[1:]})", "_x005F_", text)
                cell = self._cell(self._sheet, text)
                cell.data_type = "s"
                cells.append(cell)
            else:
                cells.append(value)
        self._sheet.append(cells)

    def close(self) -> None:
        """Write the workbook into the file."""
        # The file is open for appending, where a ZIP archive cannot correct its headers.
        data = BytesIO()
        self._workbook.save(data)
        view = memoryview(data.getvalue())
        while view:
            view = view[self._file.write(view) or 0 :]
