"""Records as JSON has them, straight from what the driver gives.

That is nearly JSON already: the way over Python's types and back takes three times as long, and an
export of a million records is made of nothing else. So PostgreSQL gives as text what SQLite has as
text; and a page of records becomes lines column by column, since there a loop is C's.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypedDict, Unpack

import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from qacli.db.engine import Database
from qacli.db.filters import Filter
from qacli.db.search import RECORDS
from qacli.serializers import (
    FLOAT_FIELDS,
    INT_FIELDS,
    JSON_FIELDS,
    RECORD_FIELDS,
    TIME_FIELDS,
    to_jsonable,
)
from qacli.validation import MAX_ID

WHOLE_SECOND = ".000000"
MICROSECOND = len("2026-01-02 03:04:05.123456")
SHORT = 1000
"""Characters of a text that is worth remembering: a long one, a whole conversation say, is hardly
ever there twice, and a thousand of them are the memory of a machine."""

PAGE = 1000
"""How many records are in memory at once."""


class _AsText(FunctionElement[Any]):
    """A moment in UTC, or JSON, as text: as it is in SQLite."""

    inherit_cache = True
    type = sa.types.NullType()


@compiles(_AsText)
def _in_sqlite(element: _AsText, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    return compiler.process(element.clauses, **options)


@compiles(_AsText, "postgresql")
def _in_postgres(element: _AsText, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    [column] = element.clauses
    in_utc = " AT TIME ZONE 'UTC'" if column.key in TIME_FIELDS else ""
    return f"CAST({compiler.process(column, **options)}{in_utc} AS TEXT)"


def _raw(name: str) -> sa.ColumnElement[Any]:
    column = RECORDS.c[name]
    if name in TIME_FIELDS or name in JSON_FIELDS:
        return _AsText(column)
    return sa.type_coerce(column, sa.types.NullType())


RAW = sa.select(*map(_raw, RECORD_FIELDS))
"""The fields as the driver gives them; `row_to_dict` and `rows_to_json_lines` take its rows."""


class IdRange(TypedDict, total=False):
    """A part of the records, by their ids.

    Attributes:
        after: Only ids above this one.
        before: Only ids below this one.
        limit: How many at the most.
        newest_first: From the newest id down, instead of from the oldest up.
    """

    after: int | None
    before: int | None
    limit: int | None
    newest_first: bool


def pages(
    database: Database, only: Filter, **stretch: Unpack[IdRange]
) -> Iterator[Sequence[sa.Row[Any]]]:
    """The rows of `RAW`, a page at a time, each read in a transaction of its own."""
    newest_first = stretch.get("newest_first", False)
    low, high, left = stretch.get("after"), stretch.get("before"), stretch.get("limit")
    left = MAX_ID if left is None else left
    query = RAW.where(*only.conditions(sqlite=database.sqlite))
    query = query.order_by(RECORDS.c.id.desc() if newest_first else RECORDS.c.id)
    while left > 0:
        page = query.limit(min(left, PAGE))
        if low is not None:
            page = page.where(RECORDS.c.id > low)
        if high is not None:
            page = page.where(RECORDS.c.id < high)
        with database.transaction() as connection:
            rows = connection.execute(page).all()
        yield rows
        if len(rows) < PAGE:
            return
        left -= len(rows)
        low, high = (low, rows[-1].id) if newest_first else (rows[-1].id, high)


def _moment(text: str) -> str:
    """As `datetime.isoformat` has it: SQLite keeps zeros at its end, PostgreSQL none."""
    text = text.removesuffix(WHOLE_SECOND)
    if "." in text:
        text = text.ljust(MICROSECOND, "0")
    return f"{text[:10]}T{text[11:]}+00:00"


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:  # noqa: ANN401 - JSON
    return to_jsonable(json.loads(text))


def _value(text: str) -> object:
    # Most records have the same parameters, and no tags; no two documents share an object.
    return _parsed(text).copy() if len(text) <= SHORT else _parsed.__wrapped__(text)


def _value_of(name: str) -> Callable[[Any], object]:
    if name in TIME_FIELDS:
        return _moment
    return _value if name in JSON_FIELDS else to_jsonable


CONVERTED = (*TIME_FIELDS, *JSON_FIELDS, *FLOAT_FIELDS)
_VALUES = tuple((RECORD_FIELDS.index(name), _value_of(name)) for name in CONVERTED)


def row_to_dict(row: Sequence[Any]) -> dict[str, Any]:
    """The document of a row of `RAW`."""
    values = list(row)
    for place, value in _VALUES:
        if values[place] is not None:
            values[place] = value(values[place])
    return dict(zip(RECORD_FIELDS, values, strict=True))


def rows_to_json_lines(rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Return rows of `RAW` as lines of JSON, without line ends.

    The bytes are those that pydantic makes of `row_to_dict`, in half of the time: a column with
    the same value in all rows, as most unset columns have, is encoded once.
    """
    fields, columns = [], []
    for name, written, column in zip(
        RECORD_FIELDS, _WRITTEN, zip(*rows, strict=True), strict=False
    ):
        if name != "id" and column.count(column[0]) == len(column):
            [value] = written(column[:1])
            fields.append(b'"%b":%b' % (name.encode(), value.replace(b"%", b"%%")))
        else:
            fields.append(b'"%b":%%b' % name.encode())
            columns.append(written(column))
    line = b"{%b}" % b",".join(fields)
    return ((line % values).decode() for values in zip(*columns, strict=True))


def _texts(column: Iterable[str | None]) -> Iterator[bytes]:
    return map(to_json, column)


def _at_once(column: Iterable[object]) -> list[bytes]:
    """Of values that have no comma in them."""
    return to_json(list(column))[1:-1].split(b",")


def _moments(column: Iterable[str | None]) -> list[bytes]:
    return _at_once(text and _moment(text) for text in column)


def _numbers(column: Iterable[float | None]) -> list[bytes]:
    return _at_once(map(to_jsonable, column))


@lru_cache(maxsize=1024)
def _rewritten(text: str) -> bytes:
    return to_json(to_jsonable(json.loads(text)))


def _objects(column: Iterable[str]) -> Iterator[bytes]:
    whole = _rewritten.__wrapped__
    return (_rewritten(text) if len(text) <= SHORT else whole(text) for text in column)


def _written(name: str) -> Callable[[Iterable[Any]], Iterable[bytes]]:
    if name in TIME_FIELDS:
        return _moments
    if name in JSON_FIELDS:
        return _objects
    if name in FLOAT_FIELDS:
        return _numbers
    return _at_once if name in INT_FIELDS else _texts


_WRITTEN = tuple(map(_written, RECORD_FIELDS))
