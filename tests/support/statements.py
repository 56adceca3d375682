"""Count the statements and connections of a block: a test of speed without a clock."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa


@contextmanager
def counted() -> Iterator[list[str]]:
    """Collect the queries and the connections of a block: each is a text in the list."""
    log: list[str] = []

    def on_statement(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):
            log.append(statement)

    def on_connect(*_: object) -> None:
        log.append("connect")

    sa.event.listen(sa.Engine, "before_cursor_execute", on_statement)
    sa.event.listen(sa.pool.Pool, "connect", on_connect)
    try:
        yield log
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", on_statement)
        sa.event.remove(sa.pool.Pool, "connect", on_connect)
