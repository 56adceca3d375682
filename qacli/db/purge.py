"""Records that are removed, and every trace of them in a SQLite file."""

import sqlalchemy as sa

from qacli.db.filters import Filter
from qacli.db.records import Store
from qacli.db.search import RECORDS


def delete_matching(store: Store, only: Filter) -> int:
    """Remove the records that fit, and every trace of them from the file; returns how many."""
    conditions = store.narrowed(only).conditions(sqlite=store.sqlite)
    chosen = sa.select(RECORDS.c.id).where(*conditions)
    with store.transaction(write=True) as connection:
        removed = connection.execute(sa.delete(RECORDS).where(RECORDS.c.id.in_(chosen)))
    if removed.rowcount:
        purge_deleted(store)
    return removed.rowcount


def purge_deleted(store: Store, *, shrink: bool = True) -> None:
    """Leave nothing of what was removed in the file: in the index, the pages or the log.

    What is removed is overwritten at once, but for its words in the index: they go when that is
    made anew. PostgreSQL reuses the space by itself; its owner decides about more.

    Args:
        store: The history.
        shrink: Whether the file becomes smaller, too. That takes several times as long.
    """
    if not store.sqlite:
        return
    with store.transaction(write=True) as connection:
        connection.exec_driver_sql(
            "INSERT INTO question_answer_search(question_answer_search) VALUES ('optimize')"
        )
    vacuum = ("VACUUM",) if shrink else ()
    store.outside_transaction(*vacuum, "PRAGMA wal_checkpoint(TRUNCATE)")
