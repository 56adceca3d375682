"""The rows of a batch, from any iterable or data frame, as lines of JSON."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from hashlib import sha256
from itertools import chain
from math import isfinite
from typing import IO, Any, TypeAlias

from qacli.dates import iso_duration
from qacli.errors import InvalidRequest

Rows: TypeAlias = "Iterable[str | Mapping[str, Any]] | Any"
"""Questions, or rows by column: any iterable, or a data frame of pandas, polars or pyarrow."""

CHUNK_ROWS = 1000


def write_rows(rows: Rows, file: IO[bytes]) -> str:
    """Write rows as JSON Lines; return the SHA-256 of the lines.

    Raises:
        InvalidRequest: A row is neither a text nor a mapping, or has a value that is not data.
    """
    digest = sha256()
    for number, row in enumerate(_each_row(rows), 1):
        line = f"{_to_json(row, number)}\n".encode("utf-8", "surrogatepass")
        digest.update(line)
        file.write(line)
    file.flush()
    return digest.hexdigest()


def _each_row(rows: Rows) -> Iterator[Any]:
    """Yield the rows; a data frame is recognised by its methods, so that no package is imported."""
    if isinstance(rows, (str, bytes, Mapping)):
        raise InvalidRequest(
            f"The rows are one {type(rows).__name__}.", "Give a list of texts or of dicts."
        )
    if hasattr(rows, "iter_rows"):  # polars
        return iter(rows.iter_rows(named=True))
    if hasattr(rows, "to_batches"):  # pyarrow
        return chain.from_iterable(part.to_pylist() for part in rows.to_batches())
    if hasattr(rows, "itertuples"):  # pandas
        return _pandas_rows(rows)
    return iter(rows)


def _pandas_rows(frame: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - a data frame
    """Yield the rows of a frame, with None for the values that pandas takes for missing."""
    for start in range(0, len(frame), CHUNK_ROWS):
        part = frame.iloc[start : start + CHUNK_ROWS]
        for row in part.astype(object).where(part.notna(), None).to_dict("records"):
            yield {str(name): value for name, value in row.items()}


def _to_json(row: object, number: int) -> str:
    if not isinstance(row, (str, Mapping)):
        raise InvalidRequest(
            f"Row {number} is a value of the type {type(row).__name__}.",
            "Give texts, or dicts with a value for each column.",
        )
    if isinstance(row, Mapping):
        row = {str(name): _finite(value) for name, value in row.items()}
    try:
        return json.dumps(row, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"Row {number} has a value that is not data: {error}.",
            "Give texts, numbers, times, lists and dicts.",
        ) from None


def _finite(value: object) -> object:
    """Return the value, or None for a number that JSON does not have."""
    return None if isinstance(value, float) and not isfinite(value) else value


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value of a data frame
    """Return a value as JSON has it: numbers of numpy, times, decimals, UUIDs and paths."""
    if hasattr(value, "tolist"):  # numpy
        return _finite(value.tolist())
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, timedelta):
        return iso_duration(value)
    if type(value).__module__ in {"decimal", "uuid"} or hasattr(value, "__fspath__"):
        return str(value)
    raise TypeError(f"{value!r} is of the type {type(value).__name__}")
