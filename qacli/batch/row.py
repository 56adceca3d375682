"""A row of a batch's file, before a question is made of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qacli.errors import InvalidRequest
from qacli.validation import validate_text

MAX_LISTED_NAMES = 10


class CellError(str):
    """The error of a spreadsheet program in a cell, such as `#N/A`; it is no text to ask."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of any format.

    Attributes:
        place: The place in the file, for a message: `Line 3`.
        fields: The values by column, or the error of a row that cannot be used.
        cells: The values that the results repeat: a list for a table, whose names are in
            `columns`, or an object; None if the row is nothing but its question.
        columns: The names of a table's columns.
        raw: The row as text; None makes it of the fields.
    """

    place: str
    fields: Mapping[str, Any] | InvalidRequest
    cells: list[Any] | dict[str, Any] | None = None
    columns: tuple[str, ...] = ()
    raw: str | None = None

    def check_cells(self) -> None:
        """Check that a database can store the cells.

        Raises:
            InvalidRequest: A cell, or the name of a field, has a character that it cannot store.
        """
        if isinstance(self.cells, dict):
            validate_text(list(self.cells), "the names of its fields")
            named = list(self.cells.items())
        else:
            named = list(zip(self.columns, self.cells or (), strict=True))
        for name, cell in named:
            validate_text(cell, f"the column {name!r}")

    @property
    def text(self) -> str:
        """The row as text."""
        if self.raw is None:
            fields = {} if isinstance(self.fields, InvalidRequest) else self.fields
            return json.dumps(fields, ensure_ascii=False)
        return self.raw


def checked_header(names: list[str]) -> tuple[str, ...]:
    """Return the names of a table's columns.

    Raises:
        InvalidRequest: Two columns have the same name, of which any number may have none; or no
            database can store a name.
    """
    validate_text(names, "the header")
    for index, name in enumerate(names):
        if name and name in names[:index]:
            raise InvalidRequest(
                f"The header has the column {name!r} twice.", "Rename one of them."
            )
    return tuple(names)


def listed(names: tuple[str, ...] | list[str]) -> str:
    """Return names of columns for a message, in quotes; only the first ones if there are many."""
    text = ", ".join(map(repr, names[:MAX_LISTED_NAMES]))
    return f"{text}, ..." if len(names) > MAX_LISTED_NAMES else text
