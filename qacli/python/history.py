"""`qacli.show` and `qacli.search`: read the records."""

from datetime import datetime
from typing import Any

from qacli.python.session import Session


def show(record_id: int) -> dict[str, Any]:
    """Return a record, with the fields of `qa show --json`; see docs/record.md.

    Raises:
        NotFound: There is no such record.
        DatabaseError: The history cannot be used.
    """
    with Session() as session:
        return session.store().get_dict(record_id)


def search(  # noqa: PLR0913 - the filters, by name
    words: str | None = None,
    *,
    limit: int = 20,
    model: str | None = None,
    tag: str | None = None,
    status: str | None = None,
    batch: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[dict[str, Any]]:
    """Return records, with the fields of `qa list --json`.

    Args:
        words: Words and "quoted phrases" that a record must have; the best match comes first.
            Without them the newest record comes first.
        limit: The number of records at most.
        model: The model that answered.
        tag: One of the tags.
        status: `answered`, `failed`, `interrupted` or `asking`.
        batch: The name of the batch.
        since: Asked at this time or later.
        until: Asked before this time.

    Raises:
        DatabaseError: The history cannot be used.
    """
    with Session() as session:
        store = session.store()
        from qacli.db.filters import Filter

        only = Filter(
            search=words,
            model=model,
            tag=tag,
            status=status,
            batch=batch,
            since=since,
            until=until,
        )
        if words is None:
            records = store.page(limit=limit, newest_first=True, only=only)
        else:
            records = store.search(only, limit)
        return [record.to_dict() for record in records]
