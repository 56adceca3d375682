"""The columns of a batch's results: those of its records, or those of its file and the answer.

A table of the second kind has every column of the file as it was read, the fields of the schema,
and then the answer with its status, error, tokens and cost.
"""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from qacli.db.batches import FinishedItem
from qacli.errors import InvalidRequest
from qacli.json_schema import extract_json
from qacli.record_fields import FIELD_TYPES, RECORD_FIELDS
from qacli.serializers import error_text, flat_values

if TYPE_CHECKING:
    from qacli.db.models import Batch

TABLE_FORMATS = frozenset({"csv", "tsv", "xlsx", "parquet"})
"""The formats that are tables, of files of questions and of results."""

ANSWER_FIELDS = (*("answer", "status", "error", "prompt_tokens", "completion_tokens", "cost_usd"),)
"""The columns of a joined table behind those of the file and of the schema."""

PREFIX = "qa_"
"""The beginning of the name of a column whose own name the file has already."""


class ResultTable(Protocol):
    """The columns of the results.

    Attributes:
        names: The names of the columns.
        types: The types of the columns, by name; a column without a type is text.
        has_rows: The values need the rows of the file.
        dialect: The form of CSV; see `qacli.batch.rows.csv_dialect`.
    """

    names: Sequence[str]
    types: Mapping[str, Any]
    has_rows: bool
    dialect: Mapping[str, Any]

    def values(self, item: FinishedItem) -> list[Any]:
        """Return the values of an item that has a record."""

    def object(self, item: FinishedItem) -> dict[str, Any]:
        """Return the values by name, as JSON has them."""


class RecordTable:
    """The fields of a record."""

    names: Sequence[str] = RECORD_FIELDS
    types: Mapping[str, Any] = FIELD_TYPES
    has_rows = False
    dialect: Mapping[str, Any] = MappingProxyType({})

    def values(self, item: FinishedItem) -> list[Any]:
        """Return the values of an item that has a record."""
        return list(flat_values(item.record or {}).values())

    def object(self, item: FinishedItem) -> dict[str, Any]:
        """Return the record."""
        return item.record or {}


class JoinedTable:
    """The columns of the file, the fields of the schema, and the answer.

    Args:
        columns: The names of the columns of the file; without any, there is the question.
        fields: The names of the fields of the schema.
        dialect: The form of CSV.
        has_models: Each question is asked of several models, so that the model is a column.
    """

    has_rows = True

    def __init__(
        self,
        columns: Sequence[str],
        fields: Sequence[str],
        dialect: Mapping[str, Any],
        *,
        has_models: bool = False,
    ) -> None:
        self.dialect = dialect
        self._answer_fields = (*(("model",) if has_models else ()), *ANSWER_FIELDS)
        self._columns = columns
        self._fields = fields
        names = list(columns or ("question",))
        for name in (*fields, *self._answer_fields):
            unique = name
            while unique in names:
                unique = PREFIX + unique
            names.append(unique)
        self.names: Sequence[str] = names
        own = names[-len(self._answer_fields) :]
        self.types: Mapping[str, Any] = {
            name: FIELD_TYPES[field] for name, field in zip(own, self._answer_fields, strict=True)
        }

    def values(self, item: FinishedItem) -> list[Any]:
        """Return the values of an item that has a record, with texts for objects and lists."""
        cells = _cells(item, self._columns)
        return [_flat(value) for value in (*cells, *self._answer(item))]

    def object(self, item: FinishedItem) -> dict[str, Any]:
        """Return the values by name, as JSON has them, without fields that a row does not have."""
        answer = self._answer(item)
        own = dict(zip(self.names[-len(answer) :], answer, strict=True))
        if isinstance(item.row, dict):
            # The database does not keep the order of the fields of an object.
            row = {name: item.row[name] for name in self._columns if name in item.row}
            return {**row, **own}
        names = self.names[: -len(answer)]
        cells = _cells(item, self._columns)
        texts = zip(names, cells, strict=True)
        row = {name or f"column {number}": value for number, (name, value) in enumerate(texts, 1)}
        return {**row, **own}

    def _answer(self, item: FinishedItem) -> list[Any]:
        record = item.record or {}
        fields = _answer_fields(record) if self._fields else {}
        own = {
            **record,
            "model": asked_model(record),
            "error": error_text(record["error_kind"], record["error"]) or None,
        }
        return [
            *(fields.get(name) for name in self._fields),
            *(own[name] for name in self._answer_fields),
        ]


def asked_model(record: Mapping[str, Any]) -> str | None:
    """Return the model that was asked; the provider may name that of the answer differently."""
    model: str | None = (record["params"] or {}).get("model") or record["model"]
    return model


def _cells(item: FinishedItem, columns: Sequence[str]) -> list[Any]:
    """Return the cells of an item's row, in the order of the columns."""
    row = item.row
    if not columns:
        return [(item.record or {})["question"]]
    if isinstance(row, dict):
        return [row.get(name) for name in columns]
    # A row that could not be used has no cells, and a column can be newer than the row.
    cells = list(row or ())[: len(columns)]
    return cells + [None] * (len(columns) - len(cells))


def _flat(value: Any) -> Any:  # noqa: ANN401 - a cell
    if isinstance(value, (dict, list, bool)):
        return json.dumps(value, ensure_ascii=False)
    return value


def _answer_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an answer that fits its schema; none of another one."""
    if record["status"] != "answered":
        return {}
    try:
        value = json.loads(extract_json(record["answer"] or ""))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def table_of(batch: "Batch | None", form: str, *, join: bool | None) -> ResultTable:
    """Return the columns of the results of a batch.

    Args:
        batch: The batch; None if it has not been begun.
        form: The format of the results.
        join: Whether they have the columns of the file; None means yes for a table of a table.

    Raises:
        InvalidRequest: The columns of the file are not known, or the format has none.
    """
    if batch is None:
        return RecordTable()
    if join is None:
        join = form in TABLE_FORMATS and batch.settings.get("input") in TABLE_FORMATS
        join = join and batch.columns is not None
    if not join:
        return RecordTable()
    if form == "openai":
        raise InvalidRequest(
            "The format openai cannot have the columns of the file.", "Use --format jsonl."
        )
    if batch.columns is None:
        raise InvalidRequest(
            f"The batch {batch.name} was begun by an earlier version, without the file's columns.",
            "Run its command again, which adds them, or use --no-join.",
        )
    return JoinedTable(
        batch.columns,
        _schema_fields(batch.settings),
        batch.dialect,
        has_models=bool(batch.models),
    )


def _schema_fields(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields of a batch's schema; none without a schema.

    The required ones are first, in their order; the database keeps no order of the others.
    """
    form = (settings.get("params") or {}).get("response_format") or {}
    schema = (form.get("json_schema") or {}).get("schema") or {}
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return []
    required = [name for name in schema.get("required", ()) if name in properties]
    return list(dict.fromkeys((*required, *properties)))
