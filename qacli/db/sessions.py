"""The sessions of browsers that have signed in. See `qacli.web.app.sessions`."""

from datetime import datetime

import sqlalchemy as sa

from qacli.db.engine import Database
from qacli.db.models import BrowserSession

SESSIONS = BrowserSession.__table__  # type: ignore[attr-defined]


def add_session(
    database: Database, digest: str, caller: str, expires_at: datetime, now: datetime
) -> None:
    """Keep a session, and remove those that have expired.

    Raises:
        DatabaseError: The database did not take it.
    """
    values = {"digest": digest, "caller": caller, "expires_at": expires_at}
    with database.transaction(write=True) as connection:
        connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.expires_at <= now))
        connection.execute(sa.insert(SESSIONS).values(values))


def has_session(database: Database, digest: str, now: datetime) -> bool:
    """Return whether the session is there and has not expired.

    Raises:
        DatabaseError: The database does not answer.
    """
    query = sa.select(SESSIONS.c.digest).where(
        SESSIONS.c.digest == digest, SESSIONS.c.expires_at > now
    )
    with database.reading() as connection:
        return connection.execute(query).first() is not None


def remove_session(database: Database, digest: str) -> None:
    """Remove a session, if it is there.

    Raises:
        DatabaseError: The database does not answer.
    """
    with database.transaction(write=True) as connection:
        connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.digest == digest))
