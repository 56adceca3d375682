"""The database's clock, the same for all machines that share a database."""

import sqlalchemy as sa


def database_seconds(*, sqlite: bool) -> sa.ColumnElement[float]:
    """Return an expression for the seconds since 1970 at the statement's execution."""
    if sqlite:
        return sa.literal_column("(julianday('now') - 2440587.5) * 86400.0", sa.Double())
    return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double())
