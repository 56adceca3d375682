"""Find out whether a PostgreSQL server accepts connections."""

import ctypes
from typing import Any

import sqlalchemy as sa

PQPING_OK = 0


def accepts_connections(url: str) -> bool:
    """Return True if the server of a PostgreSQL database accepts connections of some user.

    It is False while the server is away, starts or stops. The user, the password and the name of
    the database need not be right: see PQping in
    https://www.postgresql.org/docs/current/libpq-connect.html. psycopg2 has no function for it,
    but has loaded the library.

    Args:
        url: The database with its driver; see `Settings.database`.
    """
    parsed = sa.make_url(url)
    dialect = parsed.get_dialect()
    driver: Any = dialect.import_dbapi()
    _, options = dialect().create_connect_args(parsed)
    # Only the module in C is linked to libpq.
    library = ctypes.CDLL(driver._psycopg.__file__)  # noqa: SLF001
    return bool(library.PQping(driver.extensions.make_dsn(**options).encode()) == PQPING_OK)
