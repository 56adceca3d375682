"""Add imported records to a history; `qacli.db.import_source` reads them from a file.

The uid identifies a record, so repeating an import adds nothing. A record keeps its id if no other
record has it. Otherwise it gets a new id, and the links of the records that refer to it
are changed to match, see `LINKS`.
"""

from collections.abc import Iterable, Iterator
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

from qacli.cache_key import cache_key, canonical_json
from qacli.db.models import QuestionAnswer
from qacli.db.records import Store
from qacli.db.search import RECORDS
from qacli.errors import InvalidRequest
from qacli.serializers import (
    FIELD_TYPES,
    INT_FIELDS,
    JSON_FIELDS,
    RECORD_FIELDS,
    TIME_FIELDS,
    with_error_kind,
)
from qacli.validation import MAX_ID, sanitize_text, validate_text

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

    Args:
        store: The history.
        documents: The records; a follow-up comes after the record that it follows up.
        result: The counts to add to; after an error it has the counts up to the error.

    Raises:
        InvalidRequest: A record cannot be read or stored. The records before it have been added.
    """
    result = ImportResult() if result is None else result
    for page in _pages(document.row() for document in documents):
        with store.transaction(write=True) as connection:
            _add(store, connection, page, result)
            # With each page: a question that is asked after a failed import needs a new id, too.
            _advance_sequence(store, connection)
    return result


def _pages(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows, many at a time; on an error, first the rows before it.

    Raises:
        InvalidRequest: A row cannot be used.
    """
    page: list[dict[str, Any]] = []
    try:
        for row in rows:
            page.append(row)
            if len(page) == CHUNK_SIZE:
                yield page
                page = []
    except InvalidRequest:
        yield page
        raise
    yield page


def _add(
    store: Store, connection: sa.Connection, page: list[dict[str, Any]], result: ImportResult
) -> None:
    follows = {row["uid"]: uid for row in page if (uid := row.pop("follows_uid", None))}
    uids = {row["uid"] for row in page}.union(follows.values())
    same_uid = sa.select(RECORDS.c.uid, RECORDS.c.id).where(RECORDS.c.uid.in_(uids))
    existing = {uid: record_id for uid, record_id in connection.execute(same_uid)}  # noqa: C416 - rows
    ids = [row["id"] for row in page if row["id"] is not None]
    used_ids = set(connection.scalars(sa.select(RECORDS.c.id).where(RECORDS.c.id.in_(ids))))
    with_own_id: list[dict[str, Any]] = []
    without_id: list[dict[str, Any]] = []
    for row in page:
        if row["uid"] in existing:
            result.skipped += 1
            _note_new_id(result, row["id"], existing[row["uid"]])
        elif row["id"] is None or row["id"] in used_ids:
            without_id.append(row)
        else:
            used_ids.add(row["id"])
            with_own_id.append(row)
        existing.setdefault(row["uid"], row["id"])
    # First the records that keep their ids, so that no new id is the same as one of these.
    _insert(store, connection, with_own_id)
    if without_id:
        _advance_sequence(store, connection)
    for row in without_id:
        if row["uid"] in follows:
            row["follows_id"] = existing.get(follows[row["uid"]])
            row["fingerprint"] = _fingerprint(row)
        existing[row["uid"]] = _insert_renumbered(store, connection, row, result)
    result.added += len(with_own_id) + len(without_id)
    for row in (*with_own_id, *without_id):
        links = {name: result.new_ids[row[name]] for name in LINKS if row[name] in result.new_ids}
        if links:
            values = {**links, "fingerprint": _fingerprint({**row, **links})}
            update = sa.update(RECORDS).where(RECORDS.c.uid == row["uid"])
            connection.execute(update.values(values))


def _insert(store: Store, connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
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
    values = {name: value for name, value in row.items() if name != "id"}
    insert = store.insert(QuestionAnswer).on_conflict_do_nothing().returning(RECORDS.c.id)
    new_id: int | None = connection.scalar(insert, values) or connection.scalar(
        insert, {**values, **NO_UNIQUE_KEYS}
    )
    if row["id"] is not None and new_id is not None:
        result.renumbered += 1
        _note_new_id(result, row["id"], new_id)
    return new_id


def _advance_sequence(store: Store, connection: sa.Connection) -> None:
    """Make PostgreSQL generate ids above the largest one; SQLite does so itself."""
    if not store.sqlite:
        statement = "SELECT setval(pg_get_serial_sequence('question_answer', 'id'), max(id)) "
        connection.execute(sa.text(statement + "FROM question_answer HAVING max(id) IS NOT NULL"))


def _fingerprint(row: dict[str, Any]) -> int:
    names = ("question", "system", "params", "attachments", "follows_id")
    return cache_key(canonical_json(*(row[name] for name in names)))


def _note_new_id(result: ImportResult, old_id: int | None, new_id: int) -> None:
    if old_id is not None and old_id != new_id:
        result.new_ids[old_id] = new_id


def from_jsonl(lines: Iterable[str]) -> Iterator[ImportedRecord]:
    """Yield the records of a JSON Lines export.

    Raises:
        InvalidRequest: A line is not a record; the message has its number and the reason.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield ImportedRecord.model_validate_json(line)
        except ValidationError as error:
            raise not_a_record(f"Line {number}", error) from None


def not_a_record(where: str, error: ValidationError) -> InvalidRequest:
    """Return the error for a line or a row that is not a record.

    Args:
        where: The place in the file, at the beginning of a sentence.
        error: The reason.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return InvalidRequest(
        f"{where} is not a record: {field + ': ' if field else ''}{first['msg']}.",
        "The records before it were added; correct it and import again.",
    )
