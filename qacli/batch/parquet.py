"""Read and write Parquet files; needs the extra `parquet`."""

import base64
import math
from collections.abc import Iterator
from datetime import date, time, timedelta
from io import BufferedReader, BufferedWriter, BytesIO
from typing import IO, TYPE_CHECKING, Any, get_args

from qacli.batch.row import Row, checked_header
from qacli.dates import iso_duration
from qacli.errors import InvalidRequest
from qacli.installation import extra_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qacli.batch.result_table import ResultTable
    from qacli.db.batches import FinishedItem

ROWS = 1000
"""The rows that are in memory at once."""


def parquet_rows(binary: BufferedReader) -> Iterator[Row]:
    """Yield the rows of a Parquet file.

    Times and durations are written as ISO 8601, decimal numbers as text, and bytes in base64; NaN
    is no value. A map is an object, or a list of pairs if it has a key twice.

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
            for values in zip(*map(_column_values, batch.columns), strict=True):
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


def _column_values(column: Any) -> Any:  # noqa: ANN401 - an array of pyarrow
    """Return the list of a column's values as Python has them; times that it has not are text.

    Those are nanoseconds, which only pandas has, and years after 9999.
    """
    import pyarrow as pa

    if pa.types.is_floating(column.type) and column.type != pa.float64():
        # The shortest text of a float32 is that of 0.1, and not of 0.10000000149011612.
        return [text and float(text) for text in column.cast(pa.string()).to_pylist()]
    try:
        return column.to_pylist(maps_as_pydicts="strict")
    except KeyError:  # a map has a key twice
        return column.to_pylist()
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError):
        if pa.types.is_duration(column.type):
            return column.cast(pa.duration("us"), safe=False).to_pylist()
        texts = column.cast(pa.string()).to_pylist()
        return [text and text.replace(" ", "T", 1) for text in texts]


def _value(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a value as JSON has it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (list, tuple)):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _value(item) for name, item in value.items()}
    if isinstance(value, (date, time)) or hasattr(value, "isoformat"):
        return value.isoformat()
    return _text_or_number(value)


def _text_or_number(value: object) -> str | float | None:
    if isinstance(value, timedelta):
        return iso_duration(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def require_pyarrow() -> None:
    """Check that pyarrow is installed.

    Raises:
        InvalidRequest: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise InvalidRequest(
            "Parquet needs a package that is not installed.",
            f"Run: {extra_command('parquet')}",
        ) from error


class ParquetTable:
    """Writer of a Parquet file, which is readable once it is closed."""

    def __init__(self, file: IO[bytes], table: "ResultTable") -> None:
        import pyarrow as pa
        from pyarrow import parquet

        kinds: dict[Any, Any] = {int: pa.int64(), float: pa.float64()}
        self._types = [_plain_type(table.types.get(name)) for name in table.names]
        # Two columns of a file can have no name, but a column of Parquet cannot be named twice.
        names = [name or f"column {number}" for number, name in enumerate(table.names, 1)]
        kinds_by_name = zip(names, self._types, strict=True)
        self._schema = pa.schema(
            [(name, kinds.get(kind, pa.string())) for name, kind in kinds_by_name]
        )
        self._columns = table.values
        self._table = pa.Table
        self._array = pa.array
        self._buffer = BufferedWriter(file)
        self._writer = parquet.ParquetWriter(pa.PythonFile(self._buffer, mode="w"), self._schema)

    def write(self, items: "Sequence[FinishedItem]") -> None:
        """Add items."""
        if not items:
            return
        rows = [self._columns(item) for item in items]
        arrays = [
            self._array([_typed(value, kind) for value in column], type=field.type)
            for column, kind, field in zip(
                zip(*rows, strict=True), self._types, self._schema, strict=True
            )
        ]
        self._writer.write_table(self._table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """Complete the file."""
        self._writer.close()
        self._buffer.flush()
        self._buffer.detach()


def _plain_type(annotation: Any) -> Any:  # noqa: ANN401 - an annotation
    """Return int or float for a field of that type, also if it can be None; else str."""
    kinds = {*(get_args(annotation) or (annotation,))} - {type(None)}
    return next((kind for kind in (int, float) if kinds == {kind}), str)


def _typed(value: Any, kind: type) -> Any:  # noqa: ANN401 - a cell
    return str(value) if kind is str and value is not None and not isinstance(value, str) else value
