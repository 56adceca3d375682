"""Write many records in one transaction."""

from collections.abc import Sequence

import sqlalchemy as sa

from qacli.db.records import Store, to_row
from qacli.db.search import RECORDS
from qacli.domain import Outcome, Question, Status
from qacli.serializers import field_values

UPDATE = sa.update(RECORDS).where(
    RECORDS.c.uid == sa.bindparam("of_uid"), RECORDS.c.status == Status.ASKING
)
FIND = sa.select(RECORDS.c.uid, RECORDS.c.id).where(
    RECORDS.c.uid.in_(sa.bindparam("uids", expanding=True))
)
FORGET = sa.delete(RECORDS).where(
    RECORDS.c.uid.in_(sa.bindparam("uids", expanding=True)), RECORDS.c.status == Status.ASKING
)


def upsert_many(store: Store, group: Sequence[tuple[Question, Outcome]]) -> dict[str, int]:
    """Keep questions with their outcomes so far; returns the records' ids by uid.

    As `Store.upsert` does; all or none of them.

    Raises:
        RecordRefused: The database does not take one of them; it has none of them then.
        DatabaseError: It is not to be had.
    """
    reserved = [to_row(*pair) for pair in group if pair[1].status is Status.ASKING]
    ended = [
        {"of_uid": ask.uid, **field_values(outcome)}
        for ask, outcome in group
        if outcome.status is not Status.ASKING
    ]
    uids = [ask.uid for ask, _ in group]
    with store.transaction(write=True) as connection:
        if reserved:
            insert = store.insert(RECORDS).on_conflict_do_nothing(index_elements=["uid"])
            connection.execute(insert, reserved)
        if ended:
            connection.execute(UPDATE, ended)
        ids = {row.uid: row.id for row in connection.execute(FIND, {"uids": uids})}
    for ask, outcome in group:
        # Records that were removed meanwhile, or were never reserved.
        if ask.uid not in ids:
            ids[ask.uid] = store.upsert(ask, outcome)
    return ids


def delete_reserved(store: Store, uids: Sequence[str]) -> None:
    """Remove what may have been reserved for questions that were then not asked.

    Raises:
        DatabaseError: The database is not to be had.
    """
    with store.transaction(write=True) as connection:
        connection.execute(FORGET, {"uids": list(uids)})
