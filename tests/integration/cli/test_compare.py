"""`qa compare`: answers side by side, with their differences."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from qacli.domain import Outcome, Question, Status
from qacli.services.compare import MAX_GROUP, MAX_WORDS, compare_texts

if TYPE_CHECKING:
    from conftest import Invoke

    from qacli.db.records import Store

PLAIN = "Paris is the capital. It has 2 million people."
OTHER = "Lyon is the capital. It has 2 million people!"


@pytest.fixture
def compared(invoke: Invoke, store: Store) -> Invoke:
    """`qa` with two answers to one question (1 and 2), and a record of its own (3)."""
    for answer, model, repeats_id in ((PLAIN, "a", None), (OTHER, "b", 1), (None, "c", None)):
        status = Status.ANSWERED if answer else Status.FAILED
        outcome = Outcome(
            status=status,
            answer=answer,
            model=model,
            latency_ms=1500,
            prompt_tokens=9,
            completion_tokens=11,
            cost_usd=0.01,
            error=None if answer else "It failed.",
        )
        store.upsert(Question(question="The capital?", repeats_id=repeats_id), outcome)
    return invoke


@pytest.mark.parametrize("words", [("1", "2"), ("1",), ("2",), ("-3", "-2")])
def test_compare_on_a_pipe_prints_each_answer_under_a_heading(
    compared: Invoke, words: tuple[str, ...]
) -> None:
    done = compared("compare", *words)
    facts = "1.5 s, 9 + 11 tokens, 0.0100 USD"
    expected = f"## #1 a\n\n{facts}\n\n{PLAIN}\n\n## #2 b\n\n{facts}\n\n{OTHER}\n"
    assert (done.code, done.out) == (0, expected)


def test_compare_as_json_has_the_records_and_their_similarity(compared: Invoke) -> None:
    first, second, third = json.loads(compared("compare", "1", "2", "3", "--json").out)
    assert (first["id"], second["id"], third["id"]) == (1, 2, 3)
    assert first["similarity"] == 1
    assert 0.7 < second["similarity"] < 1
    assert third["similarity"] == 0.2857  # "It " and "." of its error


def test_compare_failed_records_compares_their_errors(compared: Invoke, store: Store) -> None:
    for error in ("It failed twice.", "Nothing came"):
        outcome = Outcome(status=Status.FAILED, model="d", error=error)
        store.upsert(Question(question="The capital?"), outcome)
    records = json.loads(compared("compare", "3", "4", "5", "--json").out)
    assert [record["similarity"] for record in records] == [1, 0.5714, 0]


def test_compare_one_of_many_answers_has_it_and_the_newest(invoke: Invoke, store: Store) -> None:
    answer = Outcome(status=Status.ANSWERED, answer="Paris.", model="m")
    first = store.upsert(Question(question="The capital?"), answer)
    again = [Question(question="The capital?", repeats_id=first) for _ in range(MAX_GROUP + 1)]
    newest = sorted(store.upsert_many([(question, answer) for question in again]).values())
    for record_id, others in ((first, newest[2:]), (newest[-1], newest[1:-1])):
        records = json.loads(invoke("compare", str(record_id), "--json").out)
        assert [record["id"] for record in records] == sorted([record_id, *others])


def test_compare_on_a_terminal_marks_differences(
    compared: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for columns in ("100", "40"):
        monkeypatch.setenv("COLUMNS", columns)
        out = compared("compare", "1", "2", terminal=True).out
        for word in ("Paris", "Lyon"):
            assert f"\x1b[1;33m{word}" in out, columns
    assert "million" in out


def test_compare_one_answer_alone_names_the_way_to_compare(compared: Invoke) -> None:
    done = compared("compare", "3")
    assert (done.code, done.out) == (2, "")
    assert "qa compare 3 ID" in done.err
    failed = compared("compare", "3", "1")
    assert "failed" in failed.out
    assert "It failed." in failed.out
    assert compared("compare", "1", "99").code == 4


@pytest.mark.parametrize("words", [0, 3, MAX_WORDS + 100])
def test_differences_of_any_text_lose_nothing(words: int) -> None:
    text = "  \n" + "".join(f"w{number}, \t" for number in range(words))
    pieces = compare_texts("w1, something else\n", text).pieces
    assert "".join(piece for piece, _ in pieces) == text


def test_comparison_of_repeated_words_ends_and_loses_nothing() -> None:
    base, text = "a " * MAX_WORDS, "a a a b " * (MAX_WORDS // 4)
    assert "".join(piece for piece, _ in compare_texts(base, text).pieces) == text


def test_comparison_without_time_left_counts_as_different() -> None:
    assert compare_texts("one two", "one two").pieces == [("one two", True)]
    late = compare_texts("one two", "one two", seconds=-1)
    assert (late.pieces, late.similarity) == ([("one two", False)], 0)


def test_list_with_a_number_as_an_option_limits_the_list(compared: Invoke) -> None:
    ids = [item["id"] for item in json.loads(compared("list", "-2", "--json").out)]
    assert ids == [2, 3]
    assert json.loads(compared("list", "--follow", "-1", "--json").out) == []
