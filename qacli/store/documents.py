"""Records as JSON has them, straight from what the driver gives.

That is nearly JSON already: the way over Python's types and back takes three times as long, and an
export of a million records is made of nothing else.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from qacli.exchange import FIELDS, plain
from qacli.store.filters import RECORDS

MOMENTS = ("created_at", "answered_at")
OBJECTS = ("params", "tags", "attachments")
WHOLE_SECOND = ".000000"
SHORT = 1000
"""Characters of a text that is worth remembering: a long one, a whole conversation say, is hardly
ever there twice, and a thousand of them are the memory of a machine."""

RAW = sa.select(*(sa.type_coerce(RECORDS.c[name], sa.types.NullType()) for name in FIELDS))
"""The fields as the driver gives them; `document_of` takes its rows."""


def _from_sqlite(name: str) -> Callable[[Any], object]:
    if name in MOMENTS:
        return _moment_of_text
    return _value_of_text if name in OBJECTS else plain


def _from_postgres(name: str) -> Callable[[Any], object]:
    return _moment if name in MOMENTS else plain


def _moment_of_text(text: str) -> str:
    """In UTC, as it is there in any case: as `datetime.isoformat` has it."""
    return f"{text[:10]}T{text[11:].removesuffix(WHOLE_SECOND)}+00:00"


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat()


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:  # noqa: ANN401 - JSON
    return plain(json.loads(text))


def _value_of_text(text: str) -> object:
    # Most records have the same parameters, and no tags; no two documents share an object.
    return _parsed(text).copy() if len(text) <= SHORT else _parsed.__wrapped__(text)


CONVERTED = (*MOMENTS, *OBJECTS, "cost_usd")
_SQLITE = tuple((FIELDS.index(name), _from_sqlite(name)) for name in CONVERTED)
_POSTGRES = tuple((FIELDS.index(name), _from_postgres(name)) for name in CONVERTED)


def document_of(row: Sequence[Any], *, sqlite: bool) -> dict[str, Any]:
    """The document of a row of `RAW`."""
    values = list(row)
    for place, converted in _SQLITE if sqlite else _POSTGRES:
        if values[place] is not None:
            values[place] = converted(values[place])
    return dict(zip(FIELDS, values, strict=True))
