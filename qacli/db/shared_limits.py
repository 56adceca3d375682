"""Limits that all processes with one key share, in the database.

There is one row for each endpoint, digest of the key, and model. Its token buckets refill at the
rates of an option or of the provider's headers. Each process takes what it
is likely to need for about a second, and gives back what it did not use, in one UPDATE ...
RETURNING by the database's clock. A pause that one process writes holds for all of them.

A rate that was learned from refusals is not in the buckets. Each process has a part of it, which is
adjusted when the number of processes changes; see `qacli.batch.shared_limits`. A process is a
worker of a batch or a server.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from qacli.db.clock import database_seconds
from qacli.db.extra_models import LIMITS, USERS, WORKERS
from qacli.db.records import Store

VALID_SECONDS = 10.0
"""The time for which a rate holds after the last report of it, and a process shares the limit."""

BURST_SECONDS = 1.0
"""Seconds' worth of requests or tokens that a bucket holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReport:
    """The known limits and the needs of a process; times in seconds, rates for a second.

    Attributes:
        request_rate: The limit of requests; None if it is unknown.
        token_rate: The limit of tokens; None if it is unknown.
        requests: The requests that it needs.
        tokens: The tokens that it needs.
        unused_requests: The requests that it took and did not need.
        unused_tokens: The tokens that it took and did not need; below 0 if it used more.
        pause: The time for which the provider has asked for no requests.
        pause_reason: The provider's message.
        learned_rate: Its part of the rate that was learned from refusals; None if it is unknown.
        in_flight: Its requests in flight.
        finished: The number of items that it has finished.
        is_last: The process ends; if no other one shares the limit, its rates no longer hold.
    """

    request_rate: float | None = None
    token_rate: float | None = None
    requests: float = 0.0
    tokens: float = 0.0
    unused_requests: float = 0.0
    unused_tokens: float = 0.0
    pause: float = 0.0
    pause_reason: str = ""
    learned_rate: float | None = None
    in_flight: int = 0
    finished: int = 0
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """The amounts that a process may send; None means no limit.

    Attributes:
        requests: The number of requests.
        tokens: The number of tokens.
        request_rate: The limit of requests, by all processes; 0 is no limit.
        token_rate: The limit of tokens, by all processes; 0 is no limit.
        pause: Seconds in which nothing may be sent.
        pause_reason: The provider's message for it.
        users: The number of processes that share the limits.
        learned_rates: The learned rates of the other processes, in requests a second; empty if they
            know no limit.
    """

    requests: float | None
    tokens: float | None
    request_rate: float
    token_rate: float
    pause: float
    pause_reason: str
    users: int
    learned_rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """The state of a shared limit, for a person; None means no limit.

    Attributes:
        model: The model that it holds for.
        requests_per_minute: The known limit of requests.
        tokens_per_minute: The known limit of tokens.
        pause_seconds: The time that is left of a pause.
        pause_reason: The provider's message for it.
    """

    model: str
    requests_per_minute: float | None
    tokens_per_minute: float | None
    pause_seconds: float
    pause_reason: str


class SharedLimits:
    """The shared limits in a database."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._now = database_seconds(sqlite=store.sqlite)

    def open(self, endpoint: str, key: str, model: str) -> int:
        """Return the id of the limit of this endpoint, key and model; create it if necessary.

        Args:
            endpoint: The base URL without a password.
            key: The API key, of which only a digest is stored.
            model: The model's name.
        """
        digest = sha256(key.encode()).hexdigest()[:32]
        values = {"endpoint": endpoint, "key_digest": digest, "model": model}
        rates = ("request_rate_until", "requests_left", "token_rate_until", "tokens_left")
        defaults = dict.fromkeys((*rates, "filled_at", "paused_until"), 0.0)
        query = sa.select(LIMITS.c.id).filter_by(**values)
        with self._store.transaction(write=True) as connection:
            insert = self._store.insert(LIMITS).values(**values, **defaults, pause_reason="")
            connection.execute(insert.on_conflict_do_nothing(index_elements=list(values)))
            limit_id: int = connection.execute(query).scalar_one()
        return limit_id

    def take(self, limit_id: int, user: str, report: LimitReport) -> Grant:
        """Return unused amounts of a process, take new ones, and publish its pause and rate.

        Args:
            limit_id: See `open`.
            user: The id of the process: that of the worker.
            report: Its limits and needs.
        """
        row_id = LIMITS.c.id == limit_id
        update = sa.update(LIMITS).where(row_id).values(self._changes(report))
        returned = update.returning(
            LIMITS.c.requests_granted,
            LIMITS.c.tokens_granted,
            LIMITS.c.request_rate,
            LIMITS.c.token_rate,
            (LIMITS.c.paused_until - self._now).label("pause"),
            LIMITS.c.pause_reason,
        )
        values = {
            "limit_id": limit_id,
            "seen_at": self._now,
            "learned_rate": report.learned_rate,
            "in_flight": report.in_flight,
            "finished": report.finished,
        }
        insert = self._store.insert(USERS).values(uid=user, **values)
        own = insert.on_conflict_do_update(index_elements=["uid"], set_=values)
        has_ended = USERS.c.uid == user if report.is_last else sa.false()
        has_expired = self._now - USERS.c.seen_at > VALID_SECONDS
        of_limit = USERS.c.limit_id == limit_id
        with self._store.transaction(write=True) as connection:
            # First the limit, whose lock keeps all processes that share it in order.
            row = connection.execute(returned).one()
            connection.execute(own)
            connection.execute(sa.delete(USERS).where(of_limit, has_expired | has_ended))
            others = sa.select(USERS.c.learned_rate).where(of_limit, USERS.c.uid != user)
            rates = list(connection.scalars(others))
            if report.is_last and not rates:
                ended = sa.update(LIMITS).where(row_id)
                connection.execute(ended.values(request_rate_until=0.0, token_rate_until=0.0))
        return Grant(
            requests=row.requests_granted,
            tokens=row.tokens_granted,
            request_rate=row.request_rate or 0.0,
            token_rate=row.token_rate or 0.0,
            pause=max(row.pause, 0.0),
            pause_reason=row.pause_reason,
            users=len(rates) + 1,
            learned_rates=tuple(rate for rate in rates if rate is not None),
        )

    def _changes(self, report: LimitReport) -> dict[str, Any]:
        """Return the new values of the row; every expression refers to the old ones."""
        now, elapsed = self._now, self._now - LIMITS.c.filled_at
        values: dict[str, Any] = {"filled_at": now}
        for kind, limit, need, unused in (
            ("request", report.request_rate, report.requests, report.unused_requests),
            ("token", report.token_rate, report.tokens, report.unused_tokens),
        ):
            rate, until = LIMITS.c[f"{kind}_rate"], LIMITS.c[f"{kind}_rate_until"]
            is_valid = sa.and_(until > now, rate.is_not(None))
            new_rate: sa.ColumnElement[Any]
            if limit is None:
                new_rate = sa.case((is_valid, rate), else_=sa.null())
            else:
                # The smallest rate that any process reports holds for all.
                is_smaller = sa.and_(is_valid, rate < limit)
                new_rate = sa.case((is_smaller, rate), else_=sa.literal(limit, sa.Double()))
                values[until.name] = sa.case((is_smaller, until), else_=now + VALID_SECONDS)
            size = self._larger(new_rate * BURST_SECONDS, sa.literal(1.0, sa.Double()))
            left = LIMITS.c[f"{kind}s_left"] + sa.literal(unused, sa.Double())
            # A bucket that no process has used for long is full, whatever the rate was.
            left = self._smaller(left + self._larger(elapsed, sa.literal(0.0)) * new_rate, size)
            possible = self._smaller(left, sa.literal(need, sa.Double()))
            granted = self._larger(possible, sa.literal(0.0, sa.Double()))
            values[rate.name] = new_rate
            is_limited = new_rate.is_not(None)
            values[f"{kind}s_granted"] = sa.case((is_limited, granted), else_=sa.null())
            values[f"{kind}s_left"] = sa.case((is_limited, left - granted), else_=0.0)
        pause_end = now + sa.literal(report.pause, sa.Double())
        if report.pause > 0:
            is_longer = pause_end > LIMITS.c.paused_until
            values["paused_until"] = sa.case((is_longer, pause_end), else_=LIMITS.c.paused_until)
            values["pause_reason"] = sa.case(
                (is_longer, report.pause_reason), else_=LIMITS.c.pause_reason
            )
        return values

    def status(self, batch_id: int) -> list[LimitStatus]:
        """Return the limits that the workers of a batch draw on."""
        workers = sa.select(WORKERS.c.uid).where(WORKERS.c.batch_id == batch_id)
        used = sa.select(USERS.c.limit_id).where(USERS.c.uid.in_(workers))
        query = sa.select(LIMITS, self._now.label("now")).where(LIMITS.c.id.in_(used))
        with self._store.transaction() as connection:
            rows = connection.execute(query).all()
        return [
            LimitStatus(
                model=row.model,
                requests_per_minute=_per_minute(row.request_rate, row.request_rate_until, row.now),
                tokens_per_minute=_per_minute(row.token_rate, row.token_rate_until, row.now),
                pause_seconds=max(row.paused_until - row.now, 0.0),
                pause_reason=row.pause_reason,
            )
            for row in rows
        ]

    def _smaller(
        self, first: sa.ColumnElement[Any], second: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[float]:
        function = sa.func.min if self._store.sqlite else sa.func.least
        return function(first, second, type_=sa.Double())

    def _larger(
        self, first: sa.ColumnElement[Any], second: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[float]:
        function = sa.func.max if self._store.sqlite else sa.func.greatest
        return function(first, second, type_=sa.Double())


def _per_minute(rate: float | None, until: float, now: float) -> float | None:
    return rate * 60 if rate is not None and until > now else None
