"""Convert rows of the driver to records as JSON has them, without Python's types between.

The conversion to Python's types and back takes three times as long. So PostgreSQL casts to text the
columns that SQLite stores as text, and a page of records is converted to lines column by column, in
loops that run in C.

The columns are `RECORD_FIELDS`; CSV is written by `cli.formatters`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, TypedDict, Unpack

import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from qacli.db.engine import Database
from qacli.db.filters import Filter
from qacli.db.models import NEWEST_FIRST, RECORDS
from qacli.db.search_steps import newest_by_time, rows_in_steps
from qacli.db.shared_values import PARAMS, SYSTEM, WITH_VALUES
from qacli.record_fields import FLOAT_FIELDS, INT_FIELDS, JSON_FIELDS, RECORD_FIELDS, TIME_FIELDS
from qacli.serializers import to_jsonable
from qacli.validation import MAX_ID

CREATED_AT = RECORD_FIELDS.index("created_at")
ZERO_MICROSECONDS = ".000000"
TIME_LENGTH = len("2026-01-02 03:04:05.123456")
MAX_CACHED_LENGTH = 1000
"""Maximum characters of a cached JSON text: a longer one is rarely repeated."""

PAGE = 1000
"""Maximum number of records in memory."""


class _AsText(FunctionElement[Any]):
    """A time in UTC, or JSON, as the text that SQLite stores."""

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
    if name in {"system", "params"}:
        return (SYSTEM if name == "system" else PARAMS).label(name)
    column = RECORDS.c[name]
    if name in TIME_FIELDS or name in JSON_FIELDS:
        return _AsText(column)
    return sa.type_coerce(column, sa.types.NullType())


RAW = sa.select(*map(_raw, RECORD_FIELDS)).select_from(WITH_VALUES)
"""The fields as the driver returns them, for `row_to_dict` and `rows_to_json_lines`."""


class IdRange(TypedDict, total=False):
    """A range of records by their ids.

    Attributes:
        after: Only ids above this one.
        before: Only ids below this one.
        limit: The number of records at most.
        newest_first: Sort from the newest to the oldest, by id.
        by_time: Sort from the newest to the oldest, by time; not with `after` and `before`.
    """

    after: int | None
    before: int | None
    limit: int | None
    newest_first: bool
    by_time: bool


def pages(
    database: Database, only: Filter, **id_range: Unpack[IdRange]
) -> Iterator[Sequence[sa.Row[Any]]]:
    """Yield the rows of `RAW`, a page at a time, each page in a transaction of its own."""
    by_time = id_range.get("by_time", False)
    newest_first = by_time or id_range.get("newest_first", False)
    low, high, limit = id_range.get("after"), id_range.get("before"), id_range.get("limit")
    remaining = MAX_ID if limit is None else limit
    timed = RAW.where(*only.conditions(sqlite=database.sqlite))
    last_time: datetime | None = None
    while remaining > 0:
        number = min(remaining, PAGE)
        with database.transaction() as connection:
            if by_time:
                earlier: tuple[sa.ColumnElement[bool], ...] = ()
                if last_time is not None:
                    before = sa.or_(RECORDS.c.created_at < last_time, RECORDS.c.id < high)
                    earlier = (RECORDS.c.created_at <= last_time, before)
                ids = newest_by_time(connection, only, number, *earlier)
                page = timed if ids is None else RAW.where(RECORDS.c.id.in_(ids))
                page = page.where(*earlier).order_by(*NEWEST_FIRST).limit(number)
                rows: Sequence[sa.Row[Any]] = connection.execute(page).all()
            else:
                rows = rows_in_steps(
                    *(connection, RAW, only, number),
                    after=low,
                    before=high,
                    newest_first=newest_first,
                )
        yield rows
        if len(rows) < PAGE:
            return
        remaining -= len(rows)
        low, high = (low, rows[-1].id) if newest_first else (rows[-1].id, high)
        if by_time:
            last_time = datetime.fromisoformat(_iso_time(rows[-1][CREATED_AT]))


def _iso_time(text: str) -> str:
    """Return a time as `datetime.isoformat` does; only SQLite has zeros at the end of a text."""
    text = text.removesuffix(ZERO_MICROSECONDS)
    if "." in text:
        text = text.ljust(TIME_LENGTH, "0")
    return f"{text[:10]}T{text[11:]}+00:00"


@lru_cache(maxsize=1024)
def _parse_cached(text: str) -> Any:  # noqa: ANN401 - JSON
    return to_jsonable(json.loads(text))


def _parse(text: str) -> object:
    # Most records have the same params, and no tags. Each record gets a copy.
    if len(text) <= MAX_CACHED_LENGTH:
        return _parse_cached(text).copy()
    return _parse_cached.__wrapped__(text)


def _converter(name: str) -> Callable[[Any], object]:
    if name in TIME_FIELDS:
        return _iso_time
    return _parse if name in JSON_FIELDS else to_jsonable


_CONVERTERS = tuple(
    (RECORD_FIELDS.index(name), _converter(name))
    for name in (*TIME_FIELDS, *JSON_FIELDS, *FLOAT_FIELDS)
)


def row_to_dict(row: Sequence[Any]) -> dict[str, Any]:
    """Return a row of `RAW` as a record in JSON."""
    values = list(row)
    for index, convert in _CONVERTERS:
        if values[index] is not None:
            values[index] = convert(values[index])
    return dict(zip(RECORD_FIELDS, values, strict=True))


def rows_to_json_lines(rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Return rows of `RAW` as lines of JSON, without line ends.

    The result is the same as pydantic's for `row_to_dict`, in half of the time: a column with the
    same value in all rows, such as an unused one, is encoded once.
    """
    fields, columns = [], []
    for name, encode, column in zip(
        RECORD_FIELDS, _ENCODERS, zip(*rows, strict=True), strict=False
    ):
        if name != "id" and column.count(column[0]) == len(column):
            [value] = encode(column[:1])
            fields.append(b'"%b":%b' % (name.encode(), value.replace(b"%", b"%%")))
        else:
            fields.append(b'"%b":%%b' % name.encode())
            columns.append(encode(column))
    line = b"{%b}" % b",".join(fields)
    return ((line % values).decode() for values in zip(*columns, strict=True))


def _encode_texts(column: Iterable[str | None]) -> Iterator[bytes]:
    return map(to_json, column)


def _encode_column(column: Iterable[object]) -> list[bytes]:
    """Encode a column in one call; its values must not contain a comma."""
    return to_json(list(column))[1:-1].split(b",")


def _encode_times(column: Iterable[str | None]) -> list[bytes]:
    return _encode_column(text and _iso_time(text) for text in column)


def _encode_floats(column: Iterable[float | None]) -> list[bytes]:
    return _encode_column(map(to_jsonable, column))


@lru_cache(maxsize=1024)
def _encode_cached(text: str) -> bytes:
    return to_json(to_jsonable(json.loads(text)))


def _encode_json(column: Iterable[str]) -> Iterator[bytes]:
    encode = _encode_cached.__wrapped__
    return (
        _encode_cached(text) if len(text) <= MAX_CACHED_LENGTH else encode(text) for text in column
    )


def _encoder(name: str) -> Callable[[Iterable[Any]], Iterable[bytes]]:
    if name in TIME_FIELDS:
        return _encode_times
    if name in JSON_FIELDS:
        return _encode_json
    if name in FLOAT_FIELDS:
        return _encode_floats
    return _encode_column if name in INT_FIELDS else _encode_texts


_ENCODERS = tuple(map(_encoder, RECORD_FIELDS))
