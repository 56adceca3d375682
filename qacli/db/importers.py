"""Add imported records to a history; `qacli.db.import_source` reads them from a file.

The uid identifies a record, so repeating an import adds nothing. A record keeps its id if no other
record has it. Otherwise it gets a new id above all others, and the links of the records that refer
to it are changed to match, see `LINKS`. The newest record is the one of the latest time, not the
one with the highest id, so a record does not become the newest by its new id.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, get_origin

import sqlalchemy as sa
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import to_json

from qacli.cache_key import cache_key, canonical_json
from qacli.db.models import RECORDS, QuestionAnswer
from qacli.db.records import Store
from qacli.db.shared_values import share_values
from qacli.errors import InvalidRequest
from qacli.record_fields import FIELD_TYPES, INT_FIELDS, JSON_FIELDS, RECORD_FIELDS, TIME_FIELDS
from qacli.serializers import with_error_kind
from qacli.validation import MAX_ID, sanitize_text, validate_text

Row = dict[str, Any]

CHUNK_SIZE = 1000
LINKS = ("follows_id", "corrects_id", "repeats_id")
"""The fields that name another record."""

NO_UNIQUE_KEYS = {"idempotency_key": None, "batch_id": None, "item_key": None}
"""Values for a record whose idempotency key or batch item belongs to another record."""

REQUIRED_FIELDS = frozenset({"question", "created_at", "status", "uid"})


def _import_field(name: str) -> tuple[Any, Any]:
    """Return the type and the default of a field of `ImportedRecord`."""
    kind = FIELD_TYPES[name]
    if name == "id":
        return Annotated[int, Field(gt=0, le=MAX_ID)] | None, None
    if name == "uid":
        kind = Annotated[str, Field(min_length=1, max_length=32)]
    elif name in INT_FIELDS:
        kind = Annotated[int, Field(ge=0, le=MAX_ID)] | None
    elif name in TIME_FIELDS:
        kind = AwareDatetime if name in REQUIRED_FIELDS else AwareDatetime | None
    if name in REQUIRED_FIELDS:
        return kind, ...
    return kind, Field(default_factory=get_origin(kind)) if name in JSON_FIELDS else None


if TYPE_CHECKING:
    _Fields = BaseModel
else:
    _Fields = create_model(
        "_Fields",
        __config__=ConfigDict(extra="forbid", allow_inf_nan=False),
        **{name: _import_field(name) for name in RECORD_FIELDS},
    )


class ImportedRecord(_Fields):
    """A record as it is in an export."""

    @model_validator(mode="before")
    @classmethod
    def _of_older_version(cls, values: Any) -> Any:  # noqa: ANN401 - any JSON
        return with_error_kind(values) if isinstance(values, dict) else values

    def row(self) -> dict[str, Any]:
        """Return the values as the database takes them.

        Raises:
            InvalidRequest: A text cannot be stored.
        """
        values = dict(self)
        validate_text(values, "a field")
        return {**values, "fingerprint": _fingerprint(values)}


class ForeignRecord(ImportedRecord):
    """A record of another program: it has no id yet, and names the one that it follows up by uid.

    It gets the next id, so that records keep the order in which they come.
    """

    follows_uid: str | None = None


def foreign_record(values: dict[str, Any]) -> ForeignRecord | None:
    """Return a record with these values, made storable; None if one of them is not valid."""
    try:
        return ForeignRecord.model_validate({name: storable(values[name]) for name in values})
    except (ValidationError, OverflowError):
        return None


def storable(value: Any) -> Any:  # noqa: ANN401 - a field's value
    """Return a value whose texts can be stored in any database."""
    if isinstance(value, str):
        return sanitize_text(value)
    if isinstance(value, dict):
        return {sanitize_text(str(name)): storable(item) for name, item in value.items()}
    return [storable(item) for item in value] if isinstance(value, list) else value


@dataclass(slots=True)
class ImportResult:
    """The counts of an import.

    Attributes:
        added: Records that were added.
        skipped: Records that the history already had.
        renumbered: Added records that got another id.
        new_ids: The id in the history by the id in the import, if they differ.
    """

    added: int = 0
    skipped: int = 0
    renumbered: int = 0
    new_ids: dict[int, int] = field(default_factory=dict)


def import_records(
    store: Store, documents: Iterable[ImportedRecord], result: ImportResult | None = None
) -> ImportResult:
    """Add records, `CHUNK_SIZE` in each transaction.

    A record whose id is taken waits until all others are in, because its new id must not be the id
    of a later one; so do the records that refer to it.

    Args:
        store: The history.
        documents: The records; a follow-up comes after the record that it follows up.
        result: The counts to add to; after an error it has the counts up to the error.

    Raises:
        InvalidRequest: A record cannot be read or stored. The records before it have been added.
    """
    result = ImportResult() if result is None else result
    with closing(_WaitingRows()) as waiting:
        try:
            for page in _pages(documents):
                _add_page(store, page, result, waiting)
        except InvalidRequest:
            _add_waiting(store, result, waiting)
            raise
        _add_waiting(store, result, waiting)
    return result


class _WaitingRows:
    """The rows that are added last, in a temporary database of SQLite (named "").

    Attributes:
        highest_id: The largest of their ids.
    """

    def __init__(self) -> None:
        self.highest_id = 0
        self._ids: set[int] = set()
        self._file = sqlite3.connect("")
        self._file.execute("CREATE TABLE waiting (number INTEGER PRIMARY KEY, record TEXT)")

    def close(self) -> None:
        """Delete the rows."""
        self._file.close()

    def takes(self, row: Row, *, is_taken: bool) -> bool:
        """Store a row whose id is taken, or that refers to such a row; return whether it does."""
        if not is_taken and self._ids.isdisjoint(row[name] for name in LINKS):
            return False
        self._ids.add(row["id"])
        self.highest_id = max(self.highest_id, row["id"])
        values = {name: row[name] for name in RECORD_FIELDS}
        self._file.execute("INSERT INTO waiting (record) VALUES (?)", [to_json(values).decode()])
        return True

    def pages(self) -> Iterator[list[Row]]:
        """Yield the rows in the order in which they came, `CHUNK_SIZE` at a time."""
        rows = self._file.execute("SELECT record FROM waiting ORDER BY number")
        while page := rows.fetchmany(CHUNK_SIZE):
            yield [ImportedRecord.model_validate_json(text).row() for (text,) in page]


def _add_waiting(store: Store, result: ImportResult, waiting: _WaitingRows) -> None:
    for page in waiting.pages():
        _add_page(store, page, result, None, waiting.highest_id)


def _pages(documents: Iterable[ImportedRecord]) -> Iterator[list[Row]]:
    """Yield the rows of records, many at a time; on an error, first those before it.

    Raises:
        InvalidRequest: A record cannot be used.
    """
    page: list[Row] = []
    try:
        for document in documents:
            page.append(document.row())
            if len(page) == CHUNK_SIZE:
                yield page
                page = []
    except InvalidRequest:
        yield page
        raise
    yield page


def _add_page(
    store: Store,
    page: list[Row],
    result: ImportResult,
    waiting: _WaitingRows | None,
    highest_id: int = 0,
) -> None:
    """Add rows in one transaction.

    Args:
        store: The history.
        page: The rows.
        result: The counts to add to.
        waiting: Takes the rows whose id is taken; None gives them new ids.
        highest_id: New ids are above it.
    """
    follows = {row["uid"]: uid for row in page if (uid := row.pop("follows_uid", None))}
    uids = {row["uid"] for row in page}.union(follows.values())
    same_uid = sa.select(RECORDS.c.uid, RECORDS.c.id).where(RECORDS.c.uid.in_(uids))
    ids = [row["id"] for row in page if row["id"] is not None]
    same_id = sa.select(RECORDS.c.id).where(RECORDS.c.id.in_(ids))
    with_own_id: list[Row] = []
    with store.transaction(write=True) as connection:
        existing: dict[str, int | None] = {row.uid: row.id for row in connection.execute(same_uid)}
        used_ids = set(connection.scalars(same_id))
        new: list[Row] = []
        for row in page:
            if row["uid"] in existing:
                result.skipped += 1
                _add_new_id(result, row["id"], existing[row["uid"]])
                continue
            existing[row["uid"]] = row["id"]
            is_taken = row["id"] in used_ids
            used_ids.add(row["id"])
            if row["id"] is None or (is_taken and waiting is None):
                new.append(row)
            elif waiting is None or not waiting.takes(row, is_taken=is_taken):
                with_own_id.append(row)
        if waiting is not None:
            # First add the records that keep their ids, so that no new id is equal to one of these.
            _insert(store, connection, with_own_id, result)
        if new:
            _advance_sequence(store, connection, highest_id)
        for row in new:
            if row["uid"] in follows:
                row["follows_id"] = existing.get(follows[row["uid"]])
                row["fingerprint"] = _fingerprint(row)
            _link(row, result)
            existing[row["uid"]] = _insert_renumbered(store, connection, row, result)
        if waiting is None:
            # Their links are to the records with new ids.
            _insert(store, connection, with_own_id, result)
        result.added += len(with_own_id) + len(new)
        # With each page: a question that is asked after a failed import needs a new id, too.
        _advance_sequence(store, connection)


def _link(row: Row, result: ImportResult) -> None:
    """Change the links of a row to the new ids of the records that they name."""
    links = {name: result.new_ids[row[name]] for name in LINKS if row[name] in result.new_ids}
    if links:
        row.update(links)
        row["fingerprint"] = _fingerprint(row)


def _insert(store: Store, connection: sa.Connection, rows: list[Row], result: ImportResult) -> None:
    if not rows:
        return
    for row in rows:
        _link(row, result)
    rows = share_values(store, connection, rows)
    insert = store.insert(QuestionAnswer).on_conflict_do_nothing()
    connection.execute(insert, rows)
    uids = [row["uid"] for row in rows]
    stored = set(connection.scalars(sa.select(RECORDS.c.uid).where(RECORDS.c.uid.in_(uids))))
    for row in rows:
        if row["uid"] not in stored:
            connection.execute(insert, {**row, **NO_UNIQUE_KEYS})


def _insert_renumbered(
    store: Store, connection: sa.Connection, row: dict[str, Any], result: ImportResult
) -> int | None:
    [values] = share_values(store, connection, [row])
    del values["id"]
    insert = store.insert(QuestionAnswer).on_conflict_do_nothing().returning(RECORDS.c.id)
    new_id: int | None = connection.scalar(insert, values) or connection.scalar(
        insert, {**values, **NO_UNIQUE_KEYS}
    )
    if row["id"] is not None and new_id is not None:
        result.renumbered += 1
        _add_new_id(result, row["id"], new_id)
    return new_id


def _advance_sequence(store: Store, connection: sa.Connection, above: int = 0) -> None:
    """Generate ids above this one and above all that exist or existed."""
    if store.sqlite:
        # AUTOINCREMENT keeps the largest id in this table: https://www.sqlite.org/autoinc.html
        statement = "UPDATE sqlite_sequence SET seq = max(seq, :above) WHERE name = :name"
    else:
        statement = (
            "SELECT setval(sequence, greatest(pg_sequence_last_value(sequence), :above,"
            " (SELECT max(id) FROM question_answer), 1))"
            " FROM (SELECT CAST(pg_get_serial_sequence(:name, 'id') AS regclass) AS sequence) own"
            " WHERE EXISTS (SELECT 1 FROM question_answer)"
        )
    connection.execute(sa.text(statement), {"above": above, "name": "question_answer"})


def _fingerprint(row: dict[str, Any]) -> int:
    names = ("question", "system", "params", "attachments", "follows_id")
    return cache_key(canonical_json(*(row[name] for name in names)))


def _add_new_id(result: ImportResult, old_id: int | None, new_id: int | None) -> None:
    if old_id is not None and new_id is not None and old_id != new_id:
        result.new_ids[old_id] = new_id
