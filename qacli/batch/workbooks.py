"""Read and write the sheets of XLSX workbooks; needs the extra `xlsx`."""

import re
import zipfile
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from io import BufferedReader, BytesIO
from itertools import repeat
from typing import IO, TYPE_CHECKING, Any

from qacli.batch.row import Row, checked_header, listed
from qacli.errors import InvalidRequest
from qacli.installation import extra_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openpyxl import Workbook

    from qacli.batch.result_table import ResultTable
    from qacli.db.batches import FinishedItem

MIDNIGHT = time()
FORMULA = b"<f"
"""The beginning of a formula in the XML of a sheet."""

CHUNK_BYTES = 1 << 20
ESCAPED = r"_x([0-9A-Fa-f]{4})_"
"""A character that XML cannot have, as XLSX writes it: `_x000D_` is a carriage return (ECMA-376,
part 1, 22.9.2.19). The first character of a text that only looks like one is written so."""

MAX_CELL_TEXT = 32_767
"""The characters of one cell of XLSX."""


def workbook_rows(binary: BufferedReader, sheet: str | None) -> Iterator[Row]:
    """Yield the rows of a sheet below its first, which has the columns' names; skip blank rows.

    Numbers, dates and booleans are written as JSON has them. A formula is the value that the
    program computed which has saved the file.

    Args:
        binary: The file.
        sheet: The name of the sheet; None means the only one with content.

    Raises:
        InvalidRequest: The file is not a workbook, its sheet must be named, or openpyxl is not
            installed.
    """
    openpyxl = require_openpyxl()
    data: IO[bytes] = binary if binary.seekable() else BytesIO(binary.read())
    try:
        has_formulas = _has_formulas(data)
        workbook = openpyxl.load_workbook(data, read_only=True, data_only=True)
    except (
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        openpyxl.utils.exceptions.InvalidFileException,
    ):
        raise InvalidRequest(
            "The file is not an XLSX workbook.", "Name its format: --input csv"
        ) from None
    rows = _cells(workbook, name := _sheet_name(workbook, sheet))
    formulas: Iterator[Any] = repeat(())
    if has_formulas:
        formulas = _cells(openpyxl.load_workbook(data, read_only=True), name)
    names: tuple[str, ...] | None = None
    for number, (cells, source) in enumerate(zip(rows, formulas, strict=False), 1):
        if all(cell is None for cell in cells) and not any(source):
            continue
        if names is None:
            header = ["" if cell is None else _unescape(str(cell)) for cell in cells]
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
        error = InvalidRequest("the row has more cells than the header.", "Name each column.")
        return Row(place, error, raw=str(values))
    row = dict(zip(names, values, strict=False))
    if uncomputed:
        error = InvalidRequest(
            f"the formula in {listed(uncomputed)} has no value.",
            "Open the file in a spreadsheet program and save it, which computes the formulas.",
        )
        return Row(place, error, raw=str(values))
    return Row(place, row, cells=values[: len(names)], columns=names)


def _cells(workbook: "Workbook", name: str) -> Iterator[tuple[Any, ...]]:
    sheet = workbook[name]
    # Some programs write a wrong size of the sheet, beyond which nothing would be read.
    sheet.reset_dimensions()
    yield from sheet.iter_rows(values_only=True)


def _sheet_name(workbook: "Workbook", name: str | None) -> str:
    """Return the name of the sheet to read.

    Raises:
        InvalidRequest: There is no sheet of that name, or several have content.
    """
    sheets: list[str] = [sheet.title for sheet in workbook.worksheets]
    if name is not None:
        if name not in sheets:
            raise InvalidRequest(
                f"The workbook has no sheet {name!r}.", f"Its sheets are {listed(sheets)}."
            )
        return name
    used = [title for title in sheets if any(map(any, _cells(workbook, title)))]
    if len(used) > 1:
        raise InvalidRequest(
            f"The workbook has several sheets: {listed(used)}.", "Name one: --sheet NAME"
        )
    return (used or sheets)[0]


def _has_formulas(data: IO[bytes]) -> bool:
    """Return whether any sheet has a formula: then the sheet is read twice."""
    data.seek(0)
    with zipfile.ZipFile(data) as archive:
        names = [name for name in archive.namelist() if name.startswith("xl/worksheets/sheet")]
        return any(_sheet_has_formula(archive, name) for name in names)


def _sheet_has_formula(archive: zipfile.ZipFile, name: str) -> bool:
    with archive.open(name) as sheet:
        end = b""
        while chunk := sheet.read(CHUNK_BYTES):
            if FORMULA in end + chunk:
                return True
            end = chunk[-1:]
    return False


def _value(cell: object) -> Any:  # noqa: ANN401 - any JSON
    """Return a cell as JSON has it; a date without a time is only the date."""
    if isinstance(cell, str):
        return _unescape(cell)
    if isinstance(cell, datetime):
        return (cell.date() if cell.time() == MIDNIGHT else cell).isoformat()
    if isinstance(cell, (date, time)):
        return cell.isoformat()
    return str(cell) if isinstance(cell, timedelta) else cell


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
