"""Count events in windows of time, for all processes that share the database."""

from hashlib import sha256

import sqlalchemy as sa

from qacli.db.clock import database_seconds
from qacli.db.engine import Database
from qacli.db.extra_models import RATE_COUNTS


def count_event(database: Database, key: str, window: int) -> tuple[int, float]:
    """Count an event; a window begins with its first event, by the database's clock.

    Args:
        database: The database of the history.
        key: A text that names the limit and the client; only a digest is stored.
        window: The length of the window in seconds.

    Returns:
        The events in this window, with this one, and the seconds until the window ends.

    Raises:
        DatabaseError: The database cannot be used.
    """
    # An SQL expression, evaluated by each statement, not a number.
    now = database_seconds(sqlite=database.sqlite)
    digest, has_ended = sha256(key.encode()).hexdigest(), RATE_COUNTS.c.ends_at <= now
    insert = database.insert(RATE_COUNTS).values(digest=digest, events=1, ends_at=now + window)
    upsert = insert.on_conflict_do_update(
        index_elements=["digest"],
        set_={
            "events": sa.case((has_ended, 1), else_=RATE_COUNTS.c.events + 1),
            "ends_at": sa.case((has_ended, now + window), else_=RATE_COUNTS.c.ends_at),
        },
    )
    with database.writing_one() as connection:
        events, seconds = connection.execute(
            upsert.returning(RATE_COUNTS.c.events, RATE_COUNTS.c.ends_at - now)
        ).one()
    if events == 1:
        # Only when a window begins, which is rare.
        _delete_ended(database, now)
    return events, seconds


def _delete_ended(database: Database, now: sa.ColumnElement[float]) -> None:
    """Delete the ended windows, except those that another process has locked to count in."""
    ended = sa.select(RATE_COUNTS.c.digest).where(RATE_COUNTS.c.ends_at <= now)
    with database.writing_one() as connection:
        connection.execute(
            sa.delete(RATE_COUNTS).where(
                RATE_COUNTS.c.digest.in_(ended.with_for_update(skip_locked=True))
            )
        )
