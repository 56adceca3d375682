"""Searches of a history with several blocks of ids: the matches, and the rows that are read."""

from __future__ import annotations

import itertools
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from qacli.db.filters import Filter
from qacli.db.models import RECORDS
from qacli.db.search import BLOCK_BITS, MAX_RANKED
from qacli.domain import Outcome, Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qacli.db.records import Store

SPACE = 8
"""The distance of two ids."""

BLOCK = (1 << BLOCK_BITS) // SPACE
"""Records in a block of ids."""

NUMBER = 12 * BLOCK
GAP = 1 << 40
"""The last record has an id this far above the others."""

INDEX = "ix_question_answer_search"
WORDS = {"everywhere": 1, "often": 20, "seldom": 1000, "early": 0}


def matches(word: str, number: int) -> bool:
    """Return whether the record with this number has the word."""
    if word == "early":
        return number <= 2 * BLOCK
    return number % WORDS[word] == 0


@pytest.fixture
def big(store: Store) -> Store:
    """Twelve blocks of records, then one with a much higher id, and one in flight."""
    series = (
        f"WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {NUMBER}) "  # noqa: S608
        "SELECT n FROM s"
    )
    uid = "printf('%032x', n)" if store.sqlite else "lpad(to_hex(n), 32, '0')"
    insert = (
        "INSERT INTO question_answer (id, question, created_at, status, params, tags, uid) "  # noqa: S608
        f"SELECT n * {SPACE}, 'everywhere' "
        "|| CASE WHEN n % 20 = 0 THEN ' often' ELSE '' END "
        "|| CASE WHEN n % 1000 = 0 THEN ' seldom' ELSE '' END "
        f"|| CASE WHEN n <= {2 * BLOCK} THEN ' early' ELSE '' END, "
        f"'2026-01-01 00:00:00.000000{'' if store.sqlite else '+00'}', 'answered', '{{}}', "
        f"CASE WHEN n % 50 = 0 THEN '[\"work\"]' ELSE '[]' END{'' if store.sqlite else '::jsonb'}, "
        f"{uid} FROM ({series}) numbers"
    )
    last = sa.update(RECORDS).where(RECORDS.c.id == NUMBER * SPACE).values(id=GAP)
    with store.transaction(write=True) as connection:
        connection.exec_driver_sql(insert.replace("%", "%%") if not store.sqlite else insert)
        connection.execute(last)
        if not store.sqlite:
            connection.exec_driver_sql("ANALYZE question_answer")
            following = sa.func.setval(sa.func.pg_get_serial_sequence("question_answer", "id"), GAP)
            connection.scalar(sa.select(following))
    store.upsert(Question(question="everywhere often seldom early"), Outcome())
    return store


def test_search_in_steps_finds_the_same_in_both_orders(big: Store) -> None:
    low, high = 5 * SPACE, 3 * BLOCK * SPACE
    for word, tagged in itertools.product(WORDS, (False, True)):
        only = Filter(search=word, tag="work" if tagged else None)
        # The record with the id GAP has the same words as the first one.
        numbers = [n for n in range(1, NUMBER) if matches(word, n) and not (tagged and n % 50)]
        ids = [number * SPACE for number in numbers]
        ids += [] if tagged else [GAP] * (word == "everywhere") + [GAP + 1]
        for limit in (1, 30, 900):
            page = big.page(limit=limit, only=only)
            assert [record.id for record in page] == ids[:limit]
            page = big.page(limit=limit, only=only, newest_first=True)
            assert [record.id for record in page] == ids[::-1][:limit]
        between = [number for number in ids if low < number < high]
        page = big.page(limit=30, only=only, after=low, before=high, newest_first=True)
        assert [record.id for record in page] == between[::-1][:30]
        lines = big.dicts(only, after=low, before=high, limit=1200)
        assert [line["id"] for line in lines] == between[:1200]
        assert {record.id for record in big.search(only, 2000)} == set(ids[::-1][:MAX_RANKED])


def test_search_by_time_with_unordered_ids_finds_the_newest(big: Store) -> None:
    times = {1: 2, 3000: 4, NUMBER - 1: 3}  # the others have an earlier one
    with big.transaction(write=True) as connection:
        for number, day in times.items():
            later = sa.update(RECORDS).where(RECORDS.c.id == number * SPACE)
            connection.execute(later.values(created_at=datetime(2026, 1, day, tzinfo=UTC)))
    big.remove(GAP + 1)

    for limit in (2, 3, 2500):
        lines = big.dicts(Filter(search="everywhere"), limit=limit, by_time=True)
        ids = [line["id"] for line in lines]
        others = [n * SPACE for n in range(NUMBER - 1, 0, -1) if n not in times]
        expected = [3000 * SPACE, (NUMBER - 1) * SPACE, SPACE, GAP, *others]
        assert ids == expected[:limit]
    lines = big.dicts(Filter(search="early"), limit=2, by_time=True)
    assert [line["id"] for line in lines] == [SPACE, 2 * BLOCK * SPACE]


@contextmanager
def explained() -> Iterator[list[str]]:
    """Collect the plan of each query of records in a block, with the rows that it reads."""
    plans: list[str] = []

    def explain(
        connection: sa.Connection, _cursor: object, text: str, values: object, *_: object
    ) -> None:
        if "question_answer" in text:
            driver: Any = connection.connection.driver_connection
            cursor = driver.cursor()
            cursor.execute(f"EXPLAIN ANALYZE {text}", values)
            plans.append("\n".join(row[0] for row in cursor))

    sa.event.listen(sa.Engine, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", explain)


def rows_read(plan: str) -> int:
    """Return the largest number of rows that a node of a plan has returned or removed."""
    numbers = re.findall(r"actual .*?rows=(\d+)", plan) + re.findall(r"Removed.*: (\d+)", plan)
    return max(map(int, numbers))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_search_in_steps_reads_few_rows(big: Store) -> None:
    for word, newest_first, limit in itertools.product(WORDS, (False, True), (1, 100)):
        with explained() as plans:
            only = Filter(search=word)
            big.page(limit=limit, only=only, newest_first=newest_first, before=NUMBER * SPACE)
        # Each of three steps reads the next id and the matches; then the end of the history.
        assert len(plans) <= 7
        assert sum(map(rows_read, plans)) <= (8 if word == "early" else 2) * BLOCK
        searches = [plan for plan in plans if "qa_search_vector" in plan]
        assert not [plan for plan in searches if "Seq Scan" in plan]
        assert [plan for plan in searches if INDEX in plan]
        # The words of an indexed record are not computed again.
        assert not re.search(r"Filter: .*<> 'asking'.*qa_search_vector", "\n".join(plans))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_search_best_first_reads_no_more_rows_than_it_ranks_in_two_steps(big: Store) -> None:
    for word in WORDS:
        with explained() as plans:
            big.search(Filter(search=word, tag="work"), 20)
        assert max(map(rows_read, plans)) <= 8 * BLOCK


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_search_by_time_reads_few_rows_if_ids_have_the_order_of_times(big: Store) -> None:
    time = sa.text("created_at + id % 1000000 * interval '1 second'")
    with big.transaction(write=True) as connection:
        connection.execute(sa.delete(RECORDS).where(RECORDS.c.id >= GAP))
        connection.execute(sa.update(RECORDS).values(created_at=time))
        connection.exec_driver_sql("ANALYZE question_answer")
    for word in ("everywhere", "often", "seldom"):
        with explained() as plans:
            assert list(big.dicts(Filter(search=word), limit=2, by_time=True))
        assert max(map(rows_read, plans)) <= 8 * BLOCK
        assert not re.search(r"Filter: .*<> 'asking'.*qa_search_vector", "\n".join(plans))


@pytest.fixture
def unsorted(big: Store) -> Iterator[Store]:
    """A history whose planner avoids sorting, as if it expected many matches."""
    with big.transaction(write=True) as connection:
        connection.execute(sa.delete(RECORDS).where(RECORDS.c.id >= GAP))
        name = connection.scalar(sa.select(sa.func.current_database()))
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET enable_sort = off")
    yield big
    with big.transaction(write=True) as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} RESET enable_sort")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_search_in_steps_reads_no_rows_in_the_order_of_another_index(unsorted: Store) -> None:
    for newest_first, by_time in ((False, False), (True, False), (True, True)):
        with explained() as plans:
            only = Filter(search="absent")
            assert not list(unsorted.dicts(only, newest_first=newest_first, by_time=by_time))
        assert max(map(rows_read, plans)) <= 1
