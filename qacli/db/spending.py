"""Add up the cost of a caller's records."""

from datetime import datetime

import sqlalchemy as sa

from qacli.db.models import RECORDS
from qacli.db.records import Store


def first_record_id(store: Store, caller: str, since: datetime | None) -> int | None:
    """Return the first id of a caller's records of this time or later; None without such a record.

    Raises:
        DatabaseError: The database cannot be read.
    """
    column = RECORDS.c
    query = sa.select(sa.func.min(column.id)).where(column.caller == caller)
    if since is not None:
        query = query.where(column.created_at >= since)
    with store.reading() as connection:
        first: int | None = connection.scalar(query)
        return first


def total_cost(store: Store, caller: str, first_id: int) -> float:
    """Return the US dollars of a caller's records from this id on; unknown costs count as 0.

    Raises:
        DatabaseError: The database cannot be read.
    """
    column = RECORDS.c
    query = sa.select(sa.func.coalesce(sa.func.sum(column.cost_usd), 0.0)).where(
        column.caller == caller, column.id >= first_id
    )
    with store.reading() as connection:
        return float(connection.scalar(query) or 0.0)
