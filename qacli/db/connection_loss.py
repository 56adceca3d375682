"""Handle connections to PostgreSQL that are lost, for example when the database restarts."""

from math import inf
from time import monotonic
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DisconnectionError

IDLE_SECONDS = 1.0
"""The idle time after which a connection is tested before it is used."""


def renew_idle(engine: sa.Engine) -> None:
    """Replace connections that broke while idle, for example when the database restarted.

    A connection that was just used is not tested: a test costs as much as a query. If it breaks
    in that moment, one query fails, and all later ones get new connections. A connection that the
    driver has marked as closed is always replaced.
    """

    def used(_connection: Any, record: Any) -> None:  # noqa: ANN401 - the pool's
        record.info["used"] = monotonic()

    def take(connection: Any, record: Any, _proxy: Any) -> None:  # noqa: ANN401 - the pool's
        if connection.closed:
            raise DisconnectionError
        if monotonic() - record.info.get("used", inf) < IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error

    sa.event.listen(engine, "checkin", used)
    sa.event.listen(engine, "checkout", take)
