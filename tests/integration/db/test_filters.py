from dataclasses import replace
from datetime import timedelta

import pytest

from qacli.dates import format_age, parse_when
from qacli.db.filters import Filter
from qacli.db.records import Store
from qacli.db.search import parse_terms
from qacli.domain import Outcome, Question, Status, now
from qacli.errors import InvalidRequest

TEXTS = [
    ("what is c++ and don't panic, naïve café", "C++ is a language; running runners ran"),
    ("你好世界 どうぞ", "こんにちは世界"),
    ("Email a@b.com C# 100%_x https://x.example/a?b=c", "emoji 🌍 here, the end"),
    ("plain words here", "an exact phrase, found"),
]


@pytest.fixture
def filled(store: Store) -> Store:
    for number, (question, answer) in enumerate(TEXTS):
        ask = Question(
            question=question, params={"model": "m"}, tags=[f"t{number}"], system="Be brief."
        )
        outcome = Outcome(
            status=Status.ANSWERED, answer=answer, model="m-2026-01-01", cost_usd=number
        )
        outcome.endpoint = None if number == 3 else "api.openai.com"
        store.upsert(ask, outcome)
    return store


def search_ids(store: Store, search: str) -> list[int]:
    return [record.id or 0 for record in store.page(limit=50, only=Filter(search=search))]


@pytest.mark.parametrize(
    ("search", "ids"),
    [
        *(("what?", [1]), ("c++", [1]), ("C++", [1]), ("don't", [1]), ("café", [1]), ("run", [1])),
        *(("世界", [2]), ("🌍", [3]), ("C#", [3]), ("100%_x", [3]), ("a@b.com", [3])),
        *(('"exact phrase"', [4]), ('"phrase exact"', []), ("words plain", [4]), ("the", [3])),
        *(("", [1, 2, 3, 4]), ("  ", [1, 2, 3, 4]), ("nowhere", []), ("plain nowhere", [])),
    ],
)
def test_search_finds_the_expected_records(filled: Store, search: str, ids: list[int]) -> None:
    assert search_ids(filled, search) == ids
    assert sorted(record.id or 0 for record in filled.search(Filter(search=search), 9)) == ids


def test_search_each_word_of_a_record_finds_it(filled: Store) -> None:
    for number, texts in enumerate(TEXTS, 1):
        for word in " ".join(texts).split():
            assert number in search_ids(filled, word), word


@pytest.mark.parametrize("start", ["t", "世界 ' \" \\ %", "x" * 500, "🌍" * 3000])
def test_filter_by_tag_finds_only_the_whole_tag(store: Store, start: str) -> None:
    answered = Outcome(status=Status.ANSWERED, answer="Yes.")
    for tags in ([start], [f"{start}1", "a"], [f"{start}2"], [], ["b", start]):
        store.upsert(Question(question="Who?", tags=tags), answered)
    for tag, ids in ((start, [1, 5]), (f"{start}1", [2]), (f"{start}3", []), (start[:-1], [])):
        records = store.page(limit=9, only=Filter(tag=tag))
        assert [record.id for record in records] == ids, tag
        both = store.page(limit=9, only=Filter(tag=tag, search="who"))
        assert [record.id for record in both] == ids, tag


def test_search_best_match_is_first(store: Store) -> None:
    for question in (
        "apple",
        "something about pears and one apple, among many other words",
        "pear",
    ):
        store.upsert(Question(question=question), Outcome(status=Status.ANSWERED, answer="Yes."))
    assert [record.id for record in store.search(Filter(search="apple"), 5)] == [1, 2]


def test_search_frequent_word_is_not_ranked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def best(search: str) -> list[int | None]:
        return [record.id for record in store.search(Filter(search=search), 5)]

    for question in ("ice", "ice, and much more that is not cold at all", "snow"):
        store.upsert(Question(question=question), Outcome(status=Status.ANSWERED, answer="Yes."))
    assert best("ice") == [1, 2]
    monkeypatch.setattr("qacli.db.record_queries.COMMON_MATCHES", 1)
    # PostgreSQL ranks a record without reading the others.
    assert best("ice") == ([2, 1] if store.sqlite else [1, 2])
    monkeypatch.setattr("qacli.db.record_queries.MAX_RANKED", 1)
    assert best("ice") == [2]
    assert best("ice \u96ea") == []


def test_search_changed_or_removed_text_is_not_found(store: Store) -> None:
    ask = Question(question="first")
    record_id = store.upsert(ask, Outcome())
    store.upsert(ask, Outcome(status=Status.ANSWERED, answer="second"))
    assert search_ids(store, "second") == [record_id]
    store.remove(record_id)
    assert search_ids(store, "first") == []


def test_filter_fields_combine(filled: Store) -> None:
    def ids(**fields: object) -> list[int]:
        only = replace(Filter(), **fields)
        return [record.id or 0 for record in filled.page(limit=9, only=only)]

    assert ids(tag="t2") == [3]
    assert ids(tag="t") == []
    assert ids(model="m", min_cost=2) == [3, 4]
    assert ids(model="m-2026-01-01") == [1, 2, 3, 4]
    assert ids(endpoint="api.openai.com", min_cost=1) == [2, 3]
    assert ids(endpoint="openai.com") == []
    assert ids(status="failed") == []
    assert ids(system="brief", search="words") == [4]
    assert ids(system="bri%f") == []
    assert ids(since=now() + timedelta(days=1)) == []
    assert ids(until=now() + timedelta(days=1), since=now() - timedelta(days=1)) == [1, 2, 3, 4]
    assert ids(follows_id=1) == []


def test_parse_terms_splits_words_and_quoted_phrases() -> None:
    assert [term.text for term in parse_terms('what? "an exact  one" (c++) "" \'x\'')] == [
        *("what", "an exact  one", "c++", "x"),
    ]


@pytest.mark.parametrize("text", ["", "yesterday", "2x", "2026-13-01", "9" * 9 + "d", "-1d"])
def test_parse_when_invalid_text_raises(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_when(text, now())


def test_parse_when_durations_and_dates_return_times() -> None:
    clock = now()
    assert clock - parse_when("2d", clock) == timedelta(days=2)
    assert clock - parse_when("45m", clock) == timedelta(minutes=45)
    assert parse_when("2026-11-01T12:30:00+00:00", clock).isoformat() == "2026-11-01T12:30:00+00:00"
    assert parse_when("2026-11-01", clock).tzinfo is not None
    assert format_age(clock - timedelta(seconds=5), clock) == "just now"
    assert format_age(clock - timedelta(hours=3), clock) == "3 h ago"
    assert format_age(clock - timedelta(days=3), clock) == "3 d ago"
