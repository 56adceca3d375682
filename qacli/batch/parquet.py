"""Read the rows of Parquet files; needs the extra `parquet`."""

import base64
import math
from collections.abc import Iterator
from datetime import date, time
from io import BufferedReader, BytesIO
from typing import Any

from qacli.batch.row import Row, checked_header
from qacli.errors import InvalidRequest

ROWS = 1000
"""The rows that are in memory at once."""


def parquet_rows(binary: BufferedReader) -> Iterator[Row]:
    """Yield the rows of a Parquet file.

    Times are written as ISO 8601, decimal numbers as text, and bytes in base64; NaN is no value.

    Raises:
        InvalidRequest: The file is not Parquet, or pyarrow is not installed.
    """
    require_pyarrow()
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(binary if binary.seekable() else BytesIO(binary.read()))
        names = checked_header(file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(ROWS):
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                cells = [_value(value) for value in values]
                row = dict(zip(names, cells, strict=True))
                yield Row(f"Row {number}", row, cells=cells, columns=names)
    except pa.ArrowException as error:
        message = str(error).splitlines()[0].rstrip(".")
        raise InvalidRequest(
            f"The file cannot be read as Parquet: {message}.",
            "Check that it is complete, or name its format: --input csv",
        ) from None


def _value(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a value as JSON has it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {name: _value(item) for name, item in value.items()}
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def require_pyarrow() -> None:
    """Check that pyarrow is installed.

    Raises:
        InvalidRequest: It is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise InvalidRequest(
            "Parquet needs a package that is not installed.",
            "Run: pip install 'qacli[parquet]'",
        ) from error
