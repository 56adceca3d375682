"""Store long settings of requests once for all records that have them.

An agent sends its system prompt, its tools and its schema with each request. The table
`shared_value` has each such text once, by its digest, and a record has the ids of its values:
`system_id` is the text of `system`, and `params_id` a JSON object with a part of `params`.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from qacli.db.models import RECORDS, VALUES, QuestionAnswer

if TYPE_CHECKING:
    from sqlmodel import Session
    from sqlmodel.sql.expression import SelectOfScalar

    from qacli.db.engine import Database

SHARED_PARAMS = frozenset(
    {
        *("tools", "functions", "tool_choice", "response_format", "text", "logit_bias"),
        # Of vLLM, llama.cpp and others.
        *("guided_json", "guided_grammar", "structured_outputs", "json_schema", "grammar"),
        "chat_template",
    }
)
"""The params that are often the same in many requests, and can be long."""

MIN_SHARED_LENGTH = 256
"""Characters of the shortest text that is shared; a shorter one is stored with its record."""

POSTGRES_LOCK = 0x7161_7661_6C
"""The key of the advisory lock of shared values: any number that no other program uses."""

_SYSTEM, _PARAMS = VALUES.alias("shared_system"), VALUES.alias("shared_params")
WITH_VALUES = RECORDS.outerjoin(_SYSTEM, _SYSTEM.c.id == RECORDS.c.system_id).outerjoin(
    _PARAMS, _PARAMS.c.id == RECORDS.c.params_id
)
"""The records with their shared values, for the expressions `SYSTEM` and `PARAMS`."""


class _JoinedParams(FunctionElement[Any]):
    """The text of a JSON object with a record's own params and its shared ones."""

    inherit_cache = True
    type = sa.types.NullType()


@compiles(_JoinedParams)
def _in_sqlite(element: _JoinedParams, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    own, shared = (compiler.process(clause, **options) for clause in element.clauses)
    # json_patch() would drop each member that is null.
    return (
        f"CASE WHEN {shared} IS NULL THEN {own} WHEN {own} = '{{}}' THEN {shared} "
        f"ELSE substr({shared}, 1, length({shared}) - 1) || ', ' || substr({own}, 2) END"
    )


@compiles(_JoinedParams, "postgresql")
def _in_postgres(element: _JoinedParams, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    own, shared = (compiler.process(clause, **options) for clause in element.clauses)
    return f"CAST(coalesce({own} || CAST({shared} AS jsonb), {own}) AS TEXT)"


SYSTEM = sa.func.coalesce(_SYSTEM.c.value, RECORDS.c.system, type_=sa.types.NullType())
PARAMS = _JoinedParams(RECORDS.c.params, _PARAMS.c.value)


def share_values(
    database: "Database", connection: sa.Connection, rows: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Store the long values of rows that are about to be inserted, and return rows with their ids.

    Args:
        database: The history.
        connection: Its open transaction.
        rows: The values of records, with `system` and `params`; they are not changed.
    """
    new_rows, texts = separate_values(rows)
    if texts:
        ids = _stored_ids(database, connection, texts)
        for row in new_rows:
            row |= {name: ids.get(row[name]) for name in ("system_id", "params_id")}
    return new_rows


def separate_values(
    rows: Iterable[dict[str, Any]],
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return rows with the digests of their long values in place of ids, and these by digest."""
    new_rows = []
    texts: dict[str, str] = {}
    for row in rows:
        system = row["system"]
        names = SHARED_PARAMS & row["params"].keys()
        # Their own members keep their order: in a schema, it is that of the answer's fields.
        shared = {name: row["params"][name] for name in sorted(names)}
        params = json.dumps(shared) if names else ""
        new = {**row, "system_id": None, "params_id": None}
        if system is not None and len(system) >= MIN_SHARED_LENGTH:
            new |= {"system": None, "system_id": _add_text(texts, system)}
        if len(params) >= MIN_SHARED_LENGTH:
            rest = {name: value for name, value in row["params"].items() if name not in names}
            new |= {"params": rest, "params_id": _add_text(texts, params)}
        new_rows.append(new)
    return new_rows, texts


def _add_text(texts: dict[str, str], text: str) -> str:
    """Add a text to `texts`; return its digest, by which it is stored there."""
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    texts[digest] = text
    return digest


def _stored_ids(
    database: "Database", connection: sa.Connection, texts: dict[str, str]
) -> dict[str, int]:
    """Store the texts that the database does not have yet; return the ids of all by digest."""

    def select_ids(digests: Collection[str]) -> dict[str, int]:
        query = sa.select(VALUES.c.digest, VALUES.c.id).where(VALUES.c.digest.in_(digests))
        return {row.digest: row.id for row in connection.execute(query)}

    # `delete_unused_values` waits until the record of a value is stored as well.
    _lock(database, connection, shared=True)
    ids = select_ids(texts)
    # Sorted, so that two transactions do not wait for each other.
    missing = sorted(texts.keys() - ids.keys())
    if missing:
        insert = database.insert(VALUES).on_conflict_do_nothing(index_elements=["digest"])
        connection.execute(insert, [{"digest": key, "value": texts[key]} for key in missing])
        ids |= select_ids(missing)
    return ids


def _lock(database: "Database", connection: sa.Connection, *, shared: bool) -> None:
    """Lock the values until the transaction ends; SQLite has one writer at a time anyway."""
    if not database.sqlite:
        name = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
        connection.exec_driver_sql(f"SELECT {name}({POSTGRES_LOCK})")


def load_records(
    session: "Session", query: "SelectOfScalar[QuestionAnswer]"
) -> list[QuestionAnswer]:
    """Return the records of a query, with their shared values."""
    from sqlalchemy.orm.attributes import set_committed_value

    records = list(session.exec(query))
    ids = {number for record in records for number in (record.system_id, record.params_id)}
    if ids == {None} or not ids:
        return records
    rows = session.connection().execute(
        sa.select(VALUES.c.id, VALUES.c.value).where(VALUES.c.id.in_(ids - {None}))
    )
    texts = {row.id: row.value for row in rows}
    for record in records:
        if record.system_id in texts:
            set_committed_value(record, "system", texts[record.system_id])
        if record.params_id in texts:
            shared = json.loads(texts[record.params_id])
            set_committed_value(record, "params", {**record.params, **shared})
    return records


def delete_unused_values(database: "Database", ids: Collection[int] | None = None) -> None:
    """Delete shared values that no record has.

    It is a transaction of its own, after the one that deletes records: another one may wait for a
    record in that while it has the lock.

    Args:
        database: The history.
        ids: The values to look at; None for all.
    """
    if ids is not None and not ids:
        return
    used = (
        sa.exists().where(column == VALUES.c.id)
        for column in (RECORDS.c.system_id, RECORDS.c.params_id)
    )
    query = sa.delete(VALUES).where(*(~condition for condition in used))
    if ids is not None:
        query = query.where(VALUES.c.id.in_(ids))
    with database.transaction(write=True) as connection:
        _lock(database, connection, shared=False)
        connection.execute(query)


def ids_of_values(rows: Sequence[sa.Row[Any, Any]]) -> set[int]:
    """Return the ids of the shared values of rows with `system_id` and `params_id`."""
    return {number for row in rows for number in (row.system_id, row.params_id)} - {None}
