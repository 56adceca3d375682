"""The SQL views for other programs that open the database: DuckDB, Datasette, psql, sqlite3.

`migrations/env.py` drops the views before each migration and creates them after the newest one, so
that a migration can change any table. After a change of `VIEWS` add a revision, which can be empty.
The SQL for SQLite is also that of DuckDB, which reads the definition of a view as its own SQL.
"""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a view.

    Attributes:
        meaning: The meaning, for docs/record.md.
        sql: The expression, or a form of `DIALECTS` with its arguments: `time r.created_at`.
    """

    meaning: str
    sql: str


DIALECTS = {
    "sqlite": {
        "time": "replace(CAST({0} AS TEXT), ' ', 'T') || 'Z'",
        "day": "substr(CAST({0} AS TEXT), 1, 10)",
        "list": "(SELECT group_concat(trim(CAST(value AS TEXT), '\"'), ', ') FROM json_each({0}))",
        # DuckDB returns JSON, with quotes; older versions of SQLite have no `->>`.
        "field": "json_extract({0}, '$.{1}')",
        "name": "trim(json_extract({0}, '$.{1}'), '\"')",
        "question": "coalesce(r.question, json_extract({0}, '$.question'))",
    },
    "postgresql": {
        "time": "{0}",
        "day": "CAST({0} AT TIME ZONE 'UTC' AS date)",
        "list": "(SELECT string_agg(value, ', ') FROM jsonb_array_elements_text({0}) AS t (value))",
        "field": "({0} ->> '{1}')",
        "name": "({0} ->> '{1}')",
        "question": "coalesce(r.question, {0} ->> 'question')",
    },
}
"""The expressions that differ: of a time, its day in UTC, a list as text, and fields of objects."""

TIME = "in ISO 8601 and UTC (in PostgreSQL a `timestamptz`)"
SHARED = {
    "model": Column("The model that answered.", "r.model"),
    "prompt_tokens": Column("The provider's count; null if unknown.", "r.prompt_tokens"),
    "completion_tokens": Column("The provider's count; null if unknown.", "r.completion_tokens"),
    "cost_usd": Column("US dollars; null if the price is unknown.", "r.cost_usd"),
    "answered_at": Column("The time of the answer, as `created_at`.", "time r.answered_at"),
    "seconds": Column("Seconds until the answer was complete.", "r.latency_ms / 1000.0"),
    "error_kind": Column("The kind of the error; null without one.", "r.error_kind"),
    "error": Column("The message of the error.", "r.error"),
}
"""The columns that both views have, from a record `r`."""

ANSWERS = {
    "id": Column("The number of the record.", "r.id"),
    "question": Column("The question.", "r.question"),
    "answer": Column("The answer; null if nothing came.", "r.answer"),
    "created_at": Column(f"The time of the question, {TIME}.", "time r.created_at"),
    "day": Column("The day of the question in UTC, such as 2026-11-27.", "day r.created_at"),
    "status": Column("`asking`, `answered`, `failed` or `interrupted`.", "r.status"),
    **SHARED,
    "requested_model": Column("The model that was asked for.", "name r.params model"),
    "endpoint": Column("The provider's host.", "r.endpoint"),
    "system": Column(
        "The system prompt.",
        "coalesce(r.system, (SELECT v.value FROM shared_value v WHERE v.id = r.system_id))",
    ),
    "finish_reason": Column("How the answer ended, in the provider's words.", "r.finish_reason"),
    "tags": Column("The tags with commas between them; null without tags.", "list r.tags"),
    "title": Column("The name that a user has given it.", "r.title"),
    "rating": Column("The judgement of a user, 1 to 5.", "r.rating"),
    "batch_name": Column("The name of its batch; null if it has none.", "b.name"),
    "custom_id": Column("The id of its row in the batch.", "r.item_key"),
    "follows_id": Column("The record that it follows up.", "r.follows_id"),
    "caller": Column("The name of the token that asked.", "r.caller"),
}

BATCH_RESULTS = {
    "batch_name": Column("The name of the batch.", "b.name"),
    "position": Column("The position of the row in the file, from 0.", "i.position"),
    "custom_id": Column("The id of the row, or one made of its position and content.", "i.key"),
    "status": Column("`waiting`, `claimed`, `answered` or `failed`.", "i.state"),
    "question": Column("The question of the row.", "question i.payload"),
    "answer": Column("The answer; null if there is none yet.", "r.answer"),
    **SHARED,
    "row_data": Column(
        "The columns of the row as JSON; null if it has none.", "field i.payload row"
    ),
    "record_id": Column("The number of the record in `answers`.", "r.id"),
}

ITEMS = (
    "batch_item i JOIN batch b ON b.id = i.batch_id LEFT JOIN question_answer r "
    "ON r.batch_id = i.batch_id AND r.item_key = i.key"
)

VIEWS = MappingProxyType(
    {
        "answers": (ANSWERS, "question_answer r LEFT JOIN batch b ON b.id = r.batch_id"),
        "batch_results": (BATCH_RESULTS, ITEMS),
    }
)
"""The columns and the tables of each view."""


def drop_statements() -> list[str]:
    """Return the SQL that drops the views that exist."""
    return [f"DROP VIEW IF EXISTS {name}" for name in VIEWS]


def create_statements(dialect: str) -> list[str]:
    """Return the SQL that creates the views.

    Args:
        dialect: `sqlite` or `postgresql`.
    """
    statements = []
    for view, (columns, tables) in VIEWS.items():
        listed = ", ".join(
            f"{_expression(column.sql, dialect)} AS {name}" for name, column in columns.items()
        )
        statements.append(f"CREATE VIEW {view} AS SELECT {listed} FROM {tables}")  # noqa: S608 - ours
    return statements


def _expression(sql: str, dialect: str) -> str:
    """Return an expression; `FORM ARGUMENTS` is one of `DIALECTS`."""
    form, *arguments = sql.split(" ")
    pattern = DIALECTS[dialect].get(form)
    return sql if pattern is None else pattern.format(*arguments)
