"""Delete records, and every trace of them in a SQLite file."""

import sqlalchemy as sa

from qacli.db.filters import Filter
from qacli.db.models import RECORDS
from qacli.db.records import Store
from qacli.db.shared_values import delete_unused_values


def delete_matching(store: Store, only: Filter) -> int:
    """Delete the matching records, and every trace of them in the file; return their number."""
    conditions = store.with_owner(only).conditions(sqlite=store.sqlite)
    ids = sa.select(RECORDS.c.id).where(*conditions)
    with store.transaction(write=True) as connection:
        number = connection.execute(sa.delete(RECORDS).where(RECORDS.c.id.in_(ids))).rowcount
    if number:
        delete_unused_values(store)
        purge_deleted(store)
    return number


def purge_deleted(store: Store, *, shrink: bool = True) -> None:
    """Remove every trace of deleted records from a SQLite file: its index, pages and log.

    SQLite overwrites a deleted record at once, except its words in the full-text index, which stay
    until the index is rebuilt. PostgreSQL reuses the space itself.

    Args:
        store: The history.
        shrink: Make the file smaller, too. This takes several times as long.
    """
    if not store.sqlite:
        return
    with store.transaction(write=True) as connection:
        connection.exec_driver_sql(
            "INSERT INTO question_answer_search(question_answer_search) VALUES ('optimize')"
        )
    vacuum = ("VACUUM",) if shrink else ()
    store.outside_transaction(*vacuum, "PRAGMA wal_checkpoint(TRUNCATE)")
