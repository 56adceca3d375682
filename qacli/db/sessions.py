"""Sessions of signed-in browsers in the database. See `qacli.web.sessions`."""

from datetime import datetime

import sqlalchemy as sa

from qacli.db.engine import Database
from qacli.db.extra_models import SESSIONS


def add_session(
    database: Database, digest: str, caller: str, expires_at: datetime, now: datetime
) -> None:
    """Store a session, by its digest, until a time; delete the sessions that have expired.

    Raises:
        DatabaseError: The session cannot be stored.
    """
    values = {"digest": digest, "caller": caller, "expires_at": expires_at}
    with database.transaction(write=True) as connection:
        connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.expires_at <= now))
        connection.execute(sa.insert(SESSIONS).values(values))


def has_session(database: Database, digest: str, now: datetime) -> bool:
    """Return whether a session exists and has not expired.

    Raises:
        DatabaseError: The database cannot be used.
    """
    query = sa.select(SESSIONS.c.digest).where(
        SESSIONS.c.digest == digest, SESSIONS.c.expires_at > now
    )
    with database.reading() as connection:
        return connection.execute(query).first() is not None


def remove_session(database: Database, digest: str) -> None:
    """Delete a session, if it exists.

    Raises:
        DatabaseError: The database cannot be used.
    """
    with database.transaction(write=True) as connection:
        connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.digest == digest))
