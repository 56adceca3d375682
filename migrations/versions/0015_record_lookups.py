"""Find records by their HTTP request and by the tools that the model called.

The table `tool_call` has the names of the tools that each record's answer calls. Triggers keep it:
every statement that stores, changes or deletes a record changes it too. A name is cut at 200
characters, because an index has a limit.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLE, CALLS = "question_answer", "tool_call"
REQUEST_INDEX = f"ix_{TABLE}_request_id"
EVENTS = ("INSERT", "UPDATE OF id, details", "DELETE")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# Chat Completions has the name in `function`, a custom tool of Responses has it beside the type.
SQLITE_NAME = (
    "CASE WHEN c.type = 'object' THEN substr(coalesce(json_extract(c.value, '$.function.name'), "
    "json_extract(c.value, '$.custom.name'), json_extract(c.value, '$.name')), 1, 200) END"
)
POSTGRES_NAME = "left(coalesce(c #>> '{function,name}', c #>> '{custom,name}', c ->> 'name'), 200)"
POSTGRES_NAMES = f"""
CREATE FUNCTION {CALLS}_names(details jsonb) RETURNS SETOF text LANGUAGE sql IMMUTABLE AS $$
    SELECT DISTINCT {POSTGRES_NAME} FROM jsonb_path_query(details, '$.tool_calls[*]') AS c
    WHERE {POSTGRES_NAME} IS NOT NULL
$$
"""
POSTGRES_TRIGGER = f"""
CREATE FUNCTION {CALLS}_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM {CALLS}
        WHERE record_id = OLD.id AND name IN (SELECT {CALLS}_names(OLD.details));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO {CALLS} (name, record_id) SELECT {CALLS}_names(NEW.details), NEW.id
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    in_use = sa.text("request_id IS NOT NULL")
    options = {"sqlite_where": in_use, "postgresql_where": in_use}
    op.create_index(REQUEST_INDEX, TABLE, ["request_id"], **options)
    op.create_table(
        CALLS,
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("record_id", BIG, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("name", "record_id", name=op.f(f"pk_{CALLS}")),
        sqlite_with_rowid=False,
    )
    if op.get_context().dialect.name == "postgresql":
        op.execute(POSTGRES_NAMES)
        op.execute(POSTGRES_TRIGGER)
        op.execute(
            f"INSERT INTO {CALLS} (name, record_id) SELECT {CALLS}_names(details), id FROM {TABLE} "
            "WHERE details ? 'tool_calls'"
        )
        for event in EVENTS:
            # Most records call no tool.
            rows = {"I": ("NEW",), "D": ("OLD",), "U": ("OLD", "NEW")}[event[0]]
            condition = " OR ".join(f"{row}.details ? 'tool_calls'" for row in rows)
            op.execute(
                f"CREATE TRIGGER {trigger(event)} AFTER {event} ON {TABLE} FOR EACH ROW "
                f"WHEN ({condition}) EXECUTE FUNCTION {CALLS}_changed()"
            )
        return
    op.execute(sqlite_insert(TABLE, source=f"{TABLE}, "))
    for event in EVENTS:
        delete = (
            f"DELETE FROM {CALLS} WHERE record_id = old.id AND name IN ({sqlite_names('old')}); "
        )
        insert = f"{sqlite_insert('new')}; "
        body = ("" if event == "INSERT" else delete) + ("" if event == "DELETE" else insert)
        op.execute(f"CREATE TRIGGER {trigger(event)} AFTER {event} ON {TABLE} BEGIN {body}END")


def downgrade() -> None:
    on_table = f" ON {TABLE}" if op.get_context().dialect.name == "postgresql" else ""
    for event in EVENTS:
        op.execute(f"DROP TRIGGER {trigger(event)}{on_table}")
    if on_table:
        op.execute(f"DROP FUNCTION {CALLS}_changed()")
        op.execute(f"DROP FUNCTION {CALLS}_names(jsonb)")
    op.drop_table(CALLS)
    op.drop_index(REQUEST_INDEX, TABLE)


def trigger(event: str) -> str:
    """Return the name of the trigger of an event."""
    return f"{CALLS}_{event.partition(' ')[0].lower()}"


def sqlite_names(row: str, *, columns: str = "", source: str = "") -> str:
    """Return a query of the names of the tools that a row calls.

    Args:
        row: The name of the row.
        columns: Columns before the name, each with a comma.
        source: A table before the calls, with a comma.
    """
    details = f"CASE WHEN json_valid({row}.details) THEN {row}.details ELSE '{{}}' END"
    calls = f"json_each({details}, '$.tool_calls') AS c"
    return (
        f"SELECT DISTINCT {columns}{SQLITE_NAME} FROM {source}{calls} "
        f"WHERE {SQLITE_NAME} IS NOT NULL"
    )


def sqlite_insert(row: str, *, source: str = "") -> str:
    """Return a statement that stores the names of the tools that a row calls."""
    names = sqlite_names(row, columns=f"{row}.id, ", source=source)
    return f"INSERT OR IGNORE INTO {CALLS} (record_id, name) {names}"
