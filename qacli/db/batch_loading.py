"""Load the items of a batch: all those of its file, in one transaction.

Items are matched by their keys. A file whose rows have ids can have them in another order, with
some more and some fewer; the key of a row without an id is made of its position and its content.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from qacli.batch_states import ItemState
from qacli.db.batch_changes import Changes, Item, second_key
from qacli.db.batch_parts import OPEN
from qacli.db.batch_workers import BatchWorkers
from qacli.db.extra_models import PARTS, WORKERS
from qacli.db.models import BATCHES, ITEMS, OUTPUTS, RECORDS, Batch, BatchItem
from qacli.domain import Status, now
from qacli.errors import InvalidRequest, NotFound

MAX_NAMED_ROWS = 10
ROWS_PER_STATEMENT = 500


class BatchLoading(BatchWorkers):
    """The loading of items; `qacli.db.batches.Batches` adds the other changes."""

    def load(  # noqa: PLR0913 - what is loaded, by name
        self,
        name: str,
        settings: dict[str, Any],
        pages: Iterable[Sequence[Item]],
        source: dict[str, Any],
        *,
        ask_changed: bool = False,
        report: Callable[[str], None] = lambda _message: None,
    ) -> Batch:
        """Create a batch, or bring its items up to date: all in one transaction, or none.

        Args:
            name: The batch's name; it is created if it does not exist.
            settings: The options that shape its answers.
            pages: The items; they are read twice.
            source: The state of the file; see `qacli.batch.loader.BatchSource.state`.
            ask_changed: Ask changed rows again instead of refusing them.
            report: Called with a sentence on what has changed.

        Raises:
            InvalidRequest: There are no items, a key occurs twice, items have changed, or the batch
                was begun with other settings.
        """
        with self.store.transaction(write=True) as connection:
            self._insert(connection, name, settings)
            # A process that loads the same batch at the same time waits here.
            batch = connection.execute(
                sa.select(BATCHES).where(BATCHES.c.name == name).with_for_update()
            ).one()
            values: dict[str, Any] = {"cancelled_at": None}
            if batch.items is None:
                # An older version of qa was stopped while it loaded the items.
                connection.execute(sa.delete(ITEMS).where(ITEMS.c.batch_id == batch.id))
                values["settings"] = settings
                count = self._add_all(connection, batch.id, pages)
            else:
                refuse_changed_settings(name, batch.settings, settings)
                changes = self._compare(connection, batch, pages)
                self._check(connection, batch, changes, ask_changed=ask_changed, report=report)
                self._apply(connection, batch.id, changes)
                if changes.outdated_pages:
                    self._update_all(connection, batch.id, pages, changes)
                count = changes.count
            if not count:
                raise InvalidRequest("There is no question in the file.", "Write one in each line.")
            outputs = {key: value for key, value in batch.source.items() if key == OUTPUTS}
            values |= {"items": count, "source": {**source, **outputs}}
            connection.execute(sa.update(BATCHES).where(BATCHES.c.id == batch.id).values(**values))
            if not self.store.sqlite:
                # Without statistics PostgreSQL expects few rows, and reads all of them for each
                # claim.
                connection.execute(sa.text("ANALYZE batch_item"))
        return self.get(name)

    def find(self, name: str) -> Batch | None:
        """Return the batch of that name, or None."""
        query = sa.select(Batch).where(col(Batch.name) == name)
        with self.store.session() as session:
            batch: Batch | None = session.execute(query).scalar()
        return batch

    def get(self, name: str) -> Batch:
        """Return the batch of that name.

        Raises:
            NotFound: There is no batch of that name.
        """
        batch = self.find(name)
        if batch is None:
            raise NotFound(f"There is no batch {name!r}.", "List them: qa batch list")
        return batch

    def _insert(self, connection: sa.Connection, name: str, settings: dict[str, Any]) -> None:
        insert = self.store.insert(BATCHES)
        values = insert.values(name=name, created_at=now(), settings=settings, source={})
        connection.execute(values.on_conflict_do_nothing(index_elements=["name"]))

    def _add_all(
        self, connection: sa.Connection, batch_id: int, pages: Iterable[Sequence[Item]]
    ) -> int:
        """Add the items of a new batch; return their number.

        Raises:
            InvalidRequest: A key occurs twice.
        """
        count = 0
        insert = self.store.insert(BatchItem).on_conflict_do_nothing()
        for page in pages:
            connection.execute(insert, [_row(batch_id, item) for item in page])
            _refuse_second_keys(connection, batch_id, page)
            count += len(page)
        return count

    def _compare(
        self,
        connection: sa.Connection,
        batch: Any,  # noqa: ANN401 - a row
        pages: Iterable[Sequence[Item]],
    ) -> Changes:
        """Return the differences between the file and the stored items.

        Raises:
            InvalidRequest: A key occurs twice.
        """
        changes = Changes(is_seen=bytearray(batch.items))
        for number, page in enumerate(pages):
            stored = {row.key: row for row in _stored(connection, batch.id, page)}
            for item in page:
                row = stored.get(item["key"])
                changes.compare(item, row)
                if row is None or row.payload != item["payload"]:
                    changes.outdated_pages.add(number)
        changes.find_missing()
        return changes

    def _check(
        self,
        connection: sa.Connection,
        batch: Any,  # noqa: ANN401 - a row
        changes: Changes,
        *,
        ask_changed: bool,
        report: Callable[[str], None],
    ) -> None:
        """Check that the batch can continue with these changes.

        Raises:
            InvalidRequest: Rows have changed that may not be asked again, too many are gone, or
                another process works on the batch, or the provider's Batch API has questions of it.
        """
        number, gone = len(changes.changed), changes.gone
        names = ", ".join(changes.changed[:MAX_NAMED_ROWS])
        names += f" and {number - MAX_NAMED_ROWS:,} more" if number > MAX_NAMED_ROWS else ""
        todo = (
            "Use --changed to ask changed rows again, or give the file a batch of its own: --name. "
            "Rows with an id (--id COLUMN) can be moved, inserted and removed."
        )
        if number and not ask_changed:
            raise InvalidRequest(f"{names} changed since this batch was begun.", todo)
        if gone > (batch.items // 2 if changes.has_ids else 0) and not ask_changed:
            raise InvalidRequest(
                f"{gone:,} of the {batch.items:,} rows with which the batch was begun are not in "
                "the file.",
                todo,
            )
        is_changed = bool(number or changes.removed or changes.moved_from)
        if is_changed and self._has_open_part(connection, batch.id):
            raise InvalidRequest(
                "Rows of the file have changed while questions of this batch are at the provider's "
                "Batch API.",
                "Run it again after qa batch collect has stored their results, or cancel them: qa "
                "batch cancel NAME",
            )
        if is_changed and self._has_worker(connection, batch.id):
            raise InvalidRequest(
                "Rows of the file have changed while another process works on this batch, or has "
                "just been killed.",
                "Run it again when that process has ended, or in a minute.",
            )
        if number:
            report(f"Rows that changed are asked again: {names}.")
        if gone:
            report(f"Rows that are no longer in the file: {gone:,}; their records stay.")

    def _has_open_part(self, connection: sa.Connection, batch_id: int) -> bool:
        query = sa.select(PARTS.c.id).where(PARTS.c.batch_id == batch_id, PARTS.c.state.in_(OPEN))
        return connection.execute(query.limit(1)).first() is not None

    def _has_worker(self, connection: sa.Connection, batch_id: int) -> bool:
        is_alive = self._clock() - WORKERS.c.seen_at <= WORKERS.c.lease_seconds
        query = sa.select(WORKERS.c.uid).where(WORKERS.c.batch_id == batch_id, is_alive)
        return connection.execute(query.limit(1)).first() is not None

    def _apply(self, connection: sa.Connection, batch_id: int, changes: Changes) -> None:
        """Remove and move items. Those that move go to free positions below 0 first."""
        own = ITEMS.c.batch_id == batch_id
        for part in _parts(changes.removed):
            connection.execute(sa.delete(ITEMS).where(own, ITEMS.c.position.in_(part)))
        for pairs in _parts(zip(changes.moved_from, changes.moved_to, strict=True)):
            targets = {old: -new - 1 for old, new in pairs}
            position = sa.case(targets, value=ITEMS.c.position)
            moved = sa.update(ITEMS).where(own, ITEMS.c.position.in_(targets))
            connection.execute(moved.values(position=position))
        if changes.moved_from:
            back = sa.update(ITEMS).where(own, ITEMS.c.position < 0)
            connection.execute(back.values(position=-ITEMS.c.position - 1))

    def _update_all(
        self,
        connection: sa.Connection,
        batch_id: int,
        pages: Iterable[Sequence[Item]],
        changes: Changes,
    ) -> None:
        """Add the new items, and change those that are not as in the file."""
        own = ITEMS.c.batch_id == batch_id
        insert = self.store.insert(BatchItem).on_conflict_do_nothing()
        for number, page in enumerate(pages):
            if number not in changes.outdated_pages:
                continue
            stored: dict[str, Any] = {row.key: row for row in _stored(connection, batch_id, page)}
            new = [item for item in page if item["key"] not in stored]
            if new:
                answered = _with_answers(connection, batch_id, new)
                rows = [_row(batch_id, item) for item in new]
                for row in rows:
                    if row["key"] in answered:
                        row["state"] = ItemState.ANSWERED
                connection.execute(insert, rows)
                _refuse_second_keys(connection, batch_id, new)
            for item in page:
                before = stored.get(item["key"])
                if before is not None and before.position != item["position"]:
                    raise second_key(item)
                if before is None or before.payload == item["payload"]:
                    continue
                values: dict[str, Any] = {"payload": item["payload"]}
                if item["key"] in changes.changed_keys:
                    values |= {"state": ItemState.WAITING, "worker": None}
                    _detach_records(connection, batch_id, [item["key"]])
                update = sa.update(ITEMS).where(own, ITEMS.c.key == item["key"])
                connection.execute(update.values(**values))


def _row(batch_id: int, item: Item) -> dict[str, Any]:
    """Return an item as a row of the table, waiting."""
    columns = {name: item[name] for name in ("position", "key", "payload")}
    return {"batch_id": batch_id, "state": ItemState.WAITING, "worker": None, **columns}


def _stored(connection: sa.Connection, batch_id: int, page: Sequence[Item]) -> Iterator[Any]:
    """Yield the stored items that have a key of these items."""
    query = sa.select(ITEMS.c.position, ITEMS.c.key, ITEMS.c.payload)
    for part in _parts([item["key"] for item in page]):
        yield from connection.execute(
            query.where(ITEMS.c.batch_id == batch_id, ITEMS.c.key.in_(part))
        )


def _refuse_second_keys(connection: sa.Connection, batch_id: int, items: Sequence[Item]) -> None:
    """Check that all of these items were added: an item with an existing key is not.

    Raises:
        InvalidRequest: An item was not added.
    """
    span = ITEMS.c.position.between(items[0]["position"], items[-1]["position"])
    query = sa.select(ITEMS.c.position, ITEMS.c.key).where(ITEMS.c.batch_id == batch_id, span)
    keys = {row.position: row.key for row in connection.execute(query)}
    for item in items:
        if keys.get(item["position"]) != item["key"]:
            raise second_key(item)


def _with_answers(connection: sa.Connection, batch_id: int, items: Sequence[Item]) -> set[str]:
    """Return the keys of items that were removed from the batch earlier, and have an answer.

    The answer to another question under the same id is no longer the item's.
    """
    texts = {item["key"]: item["payload"]["question"] for item in items}
    query = sa.select(RECORDS.c.item_key, RECORDS.c.question).where(
        RECORDS.c.batch_id == batch_id,
        RECORDS.c.item_key.in_(texts),
        RECORDS.c.status == Status.ANSWERED,
    )
    rows = list(connection.execute(query))
    other = [row.item_key for row in rows if texts[row.item_key] != row.question]
    _detach_records(connection, batch_id, other)
    return {row.item_key for row in rows} - {*other}


def _detach_records(connection: sa.Connection, batch_id: int, keys: Sequence[str]) -> None:
    """Remove the keys of answered records, which stay in the batch; no new answer replaces them."""
    if keys:
        own = sa.and_(RECORDS.c.batch_id == batch_id, RECORDS.c.item_key.in_(keys))
        answered = RECORDS.c.status == Status.ANSWERED
        connection.execute(sa.update(RECORDS).where(own, answered).values(item_key=None))


def _parts(values: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(values)
    while part := list(islice(rest, ROWS_PER_STATEMENT)):
        yield part


def refuse_changed_settings(name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Check that a batch continues with its first settings.

    Raises:
        InvalidRequest: The settings differ; the message names them.
    """
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    if changed:
        changes = "; ".join(
            f"{key} was {before.get(key)!r}, is {after.get(key)!r}" for key in changed
        )
        raise InvalidRequest(
            f"The batch {name!r} was begun with other settings: {changes}.",
            "Run it with the same settings, or give this batch a name of its own: --name",
        )
