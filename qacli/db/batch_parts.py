"""The parts of batches that are sent to the provider's Batch API.

Each change of a part's state is allowed only to its owner and from the state that the owner has
read, so that two processes never take the same step. The results of a part are stored in one
transaction with the states of its items: a line that is read again settles nothing again.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlmodel import col

from qacli.batch_states import ItemState, PartState
from qacli.db.batch_results import IS_UNFIT
from qacli.db.batch_workers import (
    BudgetReached,
    ClaimedItem,
    claim_each,
    claims_of,
    lock_budget,
    release_items,
)
from qacli.db.extra_models import PARTS, WORKERS, BatchPart
from qacli.db.models import ITEMS, RECORDS
from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status, now

OPEN = tuple(
    state for state in PartState if state not in {PartState.TAKEN, PartState.DONE, PartState.FAILED}
)
"""The states of parts with results that are not stored yet."""

UNSETTLED = (ItemState.WAITING, ItemState.CLAIMED, ItemState.FAILED)


class PartTaken(Exception):
    """Another process has taken the part over."""


class BatchParts:
    """The parts in a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def create(self, batch_id: int, **columns: Any) -> BatchPart:  # noqa: ANN401 - by column
        """Store a part without items, in the state `filling`; return it with its id.

        Args:
            batch_id: The batch.
            columns: `owner`, `model`, `path`, `endpoint`, `completion_window` and `round`.
        """
        columns |= {"batch_id": batch_id, "uid": uuid4().hex, "state": PartState.FILLING}
        part = BatchPart(**columns, created_at=now())
        insert = sa.insert(PARTS).values(part.model_dump(exclude={"id"})).returning(PARTS.c.id)
        with self.store.transaction(write=True) as connection:
            part_id = connection.execute(insert).scalar_one()
        return self.get(part_id)

    def get(self, part_id: int) -> BatchPart:
        """Return a part."""
        with self.store.session() as session:
            query = sa.select(BatchPart).where(col(BatchPart.id) == part_id)
            part: BatchPart = session.execute(query).scalar_one()
        return part

    def all(self, batch_id: int, *states: PartState) -> list[BatchPart]:
        """Return the parts of a batch, oldest first; with `states`, only those in one of them."""
        query = sa.select(BatchPart).where(col(BatchPart.batch_id) == batch_id)
        if states:
            query = query.where(col(BatchPart.state).in_(states))
        with self.store.session() as session:
            return list(session.execute(query.order_by(col(BatchPart.id))).scalars())

    def batches_with(self, *states: PartState) -> set[int]:
        """Return the ids of the batches that have parts in these states."""
        query = sa.select(PARTS.c.batch_id).where(PARTS.c.state.in_(states)).distinct()
        with self.store.transaction() as connection:
            return set(connection.scalars(query))

    def take_over(self, part: BatchPart, owner: str) -> bool:
        """Make a worker the owner of a part; return False if another live worker owns it."""
        is_live = sa.exists().where(WORKERS.c.uid == PARTS.c.owner)
        free = sa.or_(PARTS.c.owner.is_(None), PARTS.c.owner == owner, ~is_live)
        update = sa.update(PARTS).where(PARTS.c.id == part.id, free).values(owner=owner)
        with self.store.transaction(write=True) as connection:
            return connection.execute(update).rowcount > 0

    def change(self, part: BatchPart, **values: object) -> BatchPart:
        """Change the values of a part; return the part.

        Args:
            part: The part as its owner has read it.
            values: The columns to change, for example `state`.

        Raises:
            PartTaken: The part has another owner or another state by now.
        """
        with self.store.transaction(write=True) as connection:
            if not connection.execute(
                sa.update(PARTS).where(_unchanged(part)).values(**values)
            ).rowcount:
                raise PartTaken
        return self.get(part.id or 0)

    def waiting(self, batch_id: int, after: int, limit: int) -> list[ClaimedItem]:
        """Return waiting items behind a position, without those that have an unfit answer."""
        unfit = sa.exists().where(
            RECORDS.c.batch_id == batch_id,
            RECORDS.c.item_key == ITEMS.c.key,
            IS_UNFIT,
        )
        return self._read_items(
            after,
            limit,
            ITEMS.c.batch_id == batch_id,
            ITEMS.c.state == ItemState.WAITING,
            ~unfit,
        )

    def items(self, part: BatchPart, after: int, limit: int) -> list[ClaimedItem]:
        """Return the items of a part behind a position that are not settled."""
        return self._read_items(after, limit, *_claims_of(part))

    def _read_items(
        self, after: int, limit: int, *conditions: sa.ColumnElement[bool]
    ) -> list[ClaimedItem]:
        query = (
            sa.select(ITEMS.c.position, ITEMS.c.key, ITEMS.c.payload)
            .where(*conditions, ITEMS.c.position > after)
            .order_by(ITEMS.c.position)
            .limit(limit)
        )
        with self.store.transaction() as connection:
            return [ClaimedItem(*row) for row in connection.execute(query)]

    def add_items(
        self,
        part: BatchPart,
        items: Sequence[ClaimedItem],
        cost_of: Callable[[ClaimedItem], float],
    ) -> int:
        """Claim waiting items for a part that is being filled; return how many were claimed.

        Args:
            part: The part.
            items: The items; those that do not wait any more are left out.
            cost_of: Returns the likely cost of an item in US dollars; used if there is a budget.

        Raises:
            BudgetReached: The budget does not allow all of them; those that it allows are claimed.
        """
        reached: BudgetReached | None = None
        with self.store.transaction(write=True) as connection:
            budget = lock_budget(connection, part.batch_id)
            costs: dict[int, float] = {}
            room = 0.0 if budget is None else budget[0]
            for item in items:
                cost = 0.0 if budget is None else cost_of(item)
                room -= cost
                if budget is not None and room < 0:
                    reached = BudgetReached(budget[1])
                    break
                costs[item.position] = cost
            claim_each(connection, part.batch_id, part.uid, costs)
            added = sa.select(sa.func.count()).where(
                *_claims_of(part), ITEMS.c.position.in_(list(costs))
            )
            claimed = connection.scalar(added) or 0
            own = sa.update(PARTS).where(PARTS.c.id == part.id)
            connection.execute(own.values(items=PARTS.c["items"] + claimed))
        if reached is not None:
            raise reached
        return claimed

    def open_items(
        self,
        batch_id: int,
        keys: Sequence[str],
        positions: Sequence[int],
        part_id: int | None = None,
    ) -> list[ClaimedItem]:
        """Return the items with these keys or positions that have no answer yet.

        Args:
            batch_id: The batch.
            keys: The keys.
            positions: The positions.
            part_id: The part to which they belong; None for all open items.
        """
        # By two indexes: with the state as a condition too, SQLite would read all open items.
        items: dict[int, ClaimedItem] = {}
        with self.store.transaction() as connection:
            is_open = self._open_condition(connection, part_id)
            for condition in (ITEMS.c.key.in_(keys), ITEMS.c.position.in_(positions)):
                query = sa.select(
                    *(ITEMS.c.state, ITEMS.c.worker),
                    *(ITEMS.c.position, ITEMS.c.key, ITEMS.c.payload),
                ).where(ITEMS.c.batch_id == batch_id, condition)
                for state, worker, *row in connection.execute(query):
                    if is_open(state, worker):
                        items[row[0]] = ClaimedItem(*row)
        return [item for _, item in sorted(items.items())]

    def store_results(
        self,
        batch_id: int,
        results: Sequence[tuple[Question, Outcome]],
        part_id: int | None = None,
    ) -> Counter[Status]:
        """Store the outcomes of items that have no answer yet; return how many of each status.

        Args:
            batch_id: The batch.
            results: The questions with their outcomes.
            part_id: The part to which the items must belong; None for all open items.

        Raises:
            DatabaseError: The records could not be stored.
        """
        keys = [question.item_key for question, _ in results]
        with self.store.transaction(write=True) as connection:
            is_open = self._open_condition(connection, part_id)
            query = sa.select(ITEMS.c.key, ITEMS.c.state, ITEMS.c.worker).where(
                ITEMS.c.batch_id == batch_id, ITEMS.c.key.in_(keys)
            )
            rows = connection.execute(query.with_for_update())
            open_keys = {key for key, state, worker in rows if is_open(state, worker)}
            own = [result for result in results if result[0].item_key in open_keys]
            self.store.write_items(connection, batch_id, own)
            if part_id is not None and own:
                update = sa.update(PARTS).where(PARTS.c.id == part_id)
                connection.execute(update.values(taken=PARTS.c.taken + len(own)))
        return Counter(outcome.status for _, outcome in own)

    def _open_condition(
        self, connection: sa.Connection, part_id: int | None
    ) -> Callable[[ItemState, str | None], bool]:
        """Return a function of state and worker: whether such an item has no answer yet."""
        if part_id is None:
            return lambda state, _worker: state in UNSETTLED
        uid = connection.scalar(sa.select(PARTS.c.uid).where(PARTS.c.id == part_id))
        return lambda state, worker: state is ItemState.CLAIMED and worker == uid

    def close(self, part: BatchPart, state: PartState, **values: object) -> BatchPart:
        """Set the final state of a part and release its unsettled items, in one transaction.

        Raises:
            PartTaken: See `change`.
        """
        with self.store.transaction(write=True) as connection:
            update = sa.update(PARTS).where(_unchanged(part)).values(state=state, **values)
            if not connection.execute(update).rowcount:
                raise PartTaken
            connection.execute(release_items(*_claims_of(part)))
        return self.get(part.id or 0)

    def wait_for_room(self, part: BatchPart, *, retry_at: float, error: str) -> bool:
        """Make a part wait, and all others of its model that are not submitted; return if halved.

        The part is replaced by two halves, unless it has one item, or another part of its model is
        submitted and may fill the queue.

        Args:
            part: The part, which the provider's full queue has refused.
            retry_at: The time before which nothing is submitted, in seconds since 1970.
            error: The provider's reason.

        Raises:
            PartTaken: See `change`.
        """
        model = sa.and_(PARTS.c.batch_id == part.batch_id, PARTS.c.model == part.model)
        submitted = sa.select(PARTS.c.id).where(
            model, PARTS.c.state == PartState.SUBMITTED, PARTS.c.id != part.id
        )
        with self.store.transaction(write=True) as connection:
            query = sa.select(ITEMS.c.position).where(*_claims_of(part))
            positions = list(connection.scalars(query.order_by(ITEMS.c.position)))
            is_halved = len(positions) > 1 and not connection.execute(submitted.limit(1)).first()
            values: dict[str, Any] = {"state": PartState.FAILED}
            if not is_halved:
                values = {"state": PartState.UPLOADED, "retry_at": retry_at, "remote_id": None}
                values |= {"attempts": PARTS.c.attempts + 1}
            update = sa.update(PARTS).where(_unchanged(part)).values(error=error, **values)
            if not connection.execute(update).rowcount:
                raise PartTaken
            if is_halved:
                middle = (len(positions) + 1) // 2
                for half in (positions[:middle], positions[middle:]):
                    self._insert_half(connection, part, half, retry_at, error)
            others = sa.update(PARTS).where(
                model,
                PARTS.c.state.in_([PartState.READY, PartState.UPLOADED]),
                PARTS.c.retry_at < retry_at,
            )
            connection.execute(others.values(retry_at=retry_at))
        return is_halved

    def _insert_half(
        self,
        connection: sa.Connection,
        part: BatchPart,
        positions: Sequence[int],
        retry_at: float,
        error: str,
    ) -> None:
        names = ("batch_id", "owner", "model", "path", "endpoint", "completion_window", "round")
        values = {name: getattr(part, name) for name in names}
        values |= {"uid": uuid4().hex, "state": PartState.READY, "items": len(positions)}
        values |= {"taken": 0, "attempts": part.attempts + 1, "retry_at": retry_at}
        values |= {"error": error, "created_at": now()}
        connection.execute(sa.insert(PARTS).values(**values))
        span = ITEMS.c.position.between(positions[0], positions[-1])
        move = sa.update(ITEMS).where(*_claims_of(part), span)
        connection.execute(move.values(worker=values["uid"]))


def _unchanged(part: BatchPart) -> sa.ColumnElement[bool]:
    return sa.and_(PARTS.c.id == part.id, PARTS.c.owner == part.owner, PARTS.c.state == part.state)


def _claims_of(part: BatchPart) -> tuple[sa.ColumnElement[bool], ...]:
    return ITEMS.c.batch_id == part.batch_id, claims_of(part.uid)
