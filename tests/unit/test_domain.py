import math
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from qacli.db.models import QuestionAnswer
from qacli.domain import Outcome, Question, Status, create_question, now
from qacli.errors import InvalidRequest
from qacli.serializers import RECORD_FIELDS, record_to_dict
from qacli.validation import MAX_ID, parse_count, sanitize_text
from qacli.web.api.schemas import AskRequest

COLUMNS = {column.name for column in QuestionAnswer.__table__.columns}  # type: ignore[attr-defined]


def test_ask_and_outcome_and_the_id_are_the_columns() -> None:
    ask = {item.name for item in fields(Question)}
    outcome = {item.name for item in fields(Outcome)}
    assert not ask & outcome
    assert ask | outcome | {"id", "fingerprint"} == COLUMNS


def test_the_fields_of_a_record_are_its_columns() -> None:
    assert len(set(RECORD_FIELDS)) == len(RECORD_FIELDS)
    assert {*RECORD_FIELDS, "fingerprint"} == COLUMNS
    assert RECORD_FIELDS[:4] == ("id", "question", "answer", "created_at")


def test_a_document_has_the_fields_in_their_order() -> None:
    made = record_to_dict(
        Question(question="Who am I?"), Outcome(status=Status.ANSWERED, answer="You."), 7
    )
    assert tuple(made) == RECORD_FIELDS
    assert (made["id"], made["question"], made["answer"]) == (7, "Who am I?", "You.")
    assert made["status"] == "answered"
    assert type(made["status"]) is str


def test_times_in_a_document_have_an_offset() -> None:
    zone = timezone(timedelta(hours=2))
    ask = Question(question="q", created_at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    outcome = Outcome(answered_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=zone))
    made = record_to_dict(ask, outcome, None)
    assert made["created_at"] == "2026-01-02T03:04:05.000006+00:00"
    assert made["answered_at"] == "2026-01-02T03:04:05+02:00"
    assert made["id"] is None


def test_the_clock_is_in_utc() -> None:
    assert now().utcoffset() == timedelta(0)


def test_every_ask_has_a_uid_of_its_own() -> None:
    uids = {Question(question="q").uid for _ in range(100)}
    assert len(uids) == 100
    assert {len(uid) for uid in uids} == {32}


@pytest.mark.parametrize("question", ["", " ", "\n\t\r ", "\u2003"])
def test_an_empty_question_is_refused(question: str) -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        Question(question=question)


@pytest.mark.parametrize("question", ["  Who?\r\n", "世界 🌍", "\ufeffx", "0", "\x01\x7f"])
def test_a_question_is_kept_as_it_is(question: str) -> None:
    assert Question(question=question).question == question


UNSTORABLE = [("ab\0c", "NUL", "position 3"), ("a\ud800", "not UTF-8", "position 2")]


@pytest.mark.parametrize(("text", "why", "where"), UNSTORABLE)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("question", "the question"),
        ("system", "the system"),
        ("item_key", "the item key"),
        ("idempotency_key", "the idempotency key"),
        ("model", "the model"),
        ("tags", "a tag"),
    ],
)
def test_what_no_database_can_hold_is_refused_before_it_is_asked(
    name: str, said: str, text: str, why: str, where: str
) -> None:
    given: dict[str, Any] = {"question": "q", name: text}
    if name == "tags":
        given["tags"] = ["fine", text]
    if name == "model":
        given = {"question": "q", "params": {"model": text}}
    with pytest.raises(InvalidRequest) as caught:
        Question(**given)
    assert why in caught.value.what
    assert said in caught.value.what
    assert where in caught.value.what
    str(caught.value).encode()


@pytest.mark.parametrize(
    "temperature", [-0.1, 2.1, math.inf, -math.inf, math.nan, 1e300, -1, 3, 10**400]
)
def test_a_temperature_out_of_range_is_refused(temperature: float) -> None:
    with pytest.raises(InvalidRequest, match="temperature"):
        create_question("q", model="m", system=None, params={"temperature": temperature})


@pytest.mark.parametrize("temperature", [0, 0.0, 1, 2, 2.0])
def test_a_temperature_in_range_is_sent(temperature: float) -> None:
    ask = create_question("q", model="m", system=None, params={"temperature": temperature})
    assert ask.params == {"model": "m", "temperature": temperature}


@pytest.mark.parametrize("max_tokens", [0, -1, MAX_ID + 1, 10**30])
def test_a_token_limit_out_of_range_is_refused(max_tokens: int) -> None:
    with pytest.raises(InvalidRequest, match="token limit"):
        create_question("q", model="m", system=None, params={"max_tokens": max_tokens})


@pytest.mark.parametrize("max_tokens", [1, MAX_ID])
def test_a_token_limit_in_range_is_sent(max_tokens: int) -> None:
    assert create_question(
        "q", model="m", system=None, params={"max_tokens": max_tokens}
    ).params == {
        "model": "m",
        "max_tokens": max_tokens,
    }


def test_what_nobody_said_is_not_sent() -> None:
    ask = create_question("q", model="m", system="", tags=("a", "b"))
    assert ask.params == {"model": "m"}
    assert ask.system is None
    assert ask.tags == ["a", "b"]
    assert ask.model == "m"
    assert Question(question="q").model == ""


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("plain ß 世 🌍 \x01\r\n", "plain ß 世 🌍 \x01\r\n"),
        ("a\0b\0", "a\ufffdb\ufffd"),
        ("a\ud800b", "a\ufffdb"),
        ("a\udc00", "a\ufffd"),
        ("\udc00\ud800", "\ufffd\ufffd"),
        ("\ud83c\udf0d", "🌍"),
        ("\ufeffx", "\ufeffx"),
        ("\ufffex", "\ufffex"),
    ],
)
def test_an_answer_is_made_storable(text: str, kept: str) -> None:
    assert sanitize_text(text) == kept
    sanitize_text(text).encode()


@pytest.mark.parametrize("value", [0, 1, 42, MAX_ID])
def test_a_count_is_taken(value: int) -> None:
    assert parse_count(value) == value


def test_a_count_with_a_point_is_a_whole_number() -> None:
    assert parse_count(3.0) == 3
    assert type(parse_count(3.0)) is int


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, "3", "", [], {}, -1, -0.5, 1e300),
        *(math.nan, math.inf, -math.inf, MAX_ID + 1, float(2**63)),
    ],
)
def test_what_is_no_count_is_none(value: object) -> None:
    assert parse_count(value) is None


def test_a_count_of_any_length_is_no_error() -> None:
    assert parse_count(10**400) is None


@pytest.mark.parametrize(
    "text", ["", " ", " a", "\n", "\x00a", "\x1ca", "\x85a", "\xa0a", "\ufeffa"]
)
def test_what_begins_with_nothing_that_can_be_seen_is_no_tag(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        create_question("x", model="m", system=None, tags=["a", text])
    assert repr(text) in caught.value.what
    # Over HTTP it is the same rule, in another regular language.
    with pytest.raises(ValidationError):
        AskRequest(question="x", tags=[text])


@pytest.mark.parametrize("text", ["a", "+", "a b ", "ß", "-", "\u200bé", "🏷"])
def test_what_is_a_tag_is_one_at_every_door(text: str) -> None:
    assert create_question("x", model="m", system=None, tags=[text]).tags == [text]
    assert AskRequest(question="x", tags=[text]).tags == [text]


def test_a_record_from_elsewhere_keeps_what_is_no_tag() -> None:
    assert Question(question="x", tags=[""]).tags == [""]
