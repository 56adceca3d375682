import math
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from qacli.db.models import QuestionAnswer
from qacli.db.records import DERIVED_COLUMNS
from qacli.domain import Outcome, Question, Status, create_question, now
from qacli.errors import InvalidRequest
from qacli.record_fields import RECORD_FIELDS
from qacli.serializers import record_to_dict
from qacli.validation import MAX_ID, parse_count, sanitize_text
from qacli.web.api.schemas import AskRequest

COLUMNS = {column.name for column in QuestionAnswer.__table__.columns}  # type: ignore[attr-defined]


def test_record_columns_are_question_outcome_and_id() -> None:
    ask = {item.name for item in fields(Question)}
    outcome = {item.name for item in fields(Outcome)}
    assert not ask & outcome
    assert ask | outcome | {"id", *DERIVED_COLUMNS} == COLUMNS


def test_record_fields_are_the_columns() -> None:
    assert len(set(RECORD_FIELDS)) == len(RECORD_FIELDS)
    assert {*RECORD_FIELDS, *DERIVED_COLUMNS} == COLUMNS
    assert RECORD_FIELDS[:4] == ("id", "question", "answer", "created_at")


def test_record_to_dict_has_the_fields_in_order() -> None:
    made = record_to_dict(
        Question(question="Who am I?"), Outcome(status=Status.ANSWERED, answer="You."), 7
    )
    assert tuple(made) == RECORD_FIELDS
    assert (made["id"], made["question"], made["answer"]) == (7, "Who am I?", "You.")
    assert made["status"] == "answered"
    assert type(made["status"]) is str


def test_record_to_dict_times_have_an_offset() -> None:
    zone = timezone(timedelta(hours=2))
    ask = Question(question="q", created_at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    outcome = Outcome(answered_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=zone))
    made = record_to_dict(ask, outcome, None)
    assert made["created_at"] == "2026-01-02T03:04:05.000006+00:00"
    assert made["answered_at"] == "2026-01-02T03:04:05+02:00"
    assert made["id"] is None


def test_now_is_in_utc() -> None:
    assert now().utcoffset() == timedelta(0)


def test_question_uid_is_unique() -> None:
    uids = {Question(question="q").uid for _ in range(100)}
    assert len(uids) == 100
    assert {len(uid) for uid in uids} == {32}


@pytest.mark.parametrize("question", ["", " ", "\n\t\r ", "\u2003"])
def test_question_empty_is_refused(question: str) -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        Question(question=question)


@pytest.mark.parametrize("question", ["  Who?\r\n", "世界 🌍", "\ufeffx", "0", "\x01\x7f"])
def test_question_text_is_unchanged(question: str) -> None:
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
def test_question_unstorable_text_is_refused(
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
def test_create_question_temperature_out_of_range_is_refused(temperature: float) -> None:
    with pytest.raises(InvalidRequest, match="temperature"):
        create_question("q", model="m", system=None, params={"temperature": temperature})


@pytest.mark.parametrize("temperature", [0, 0.0, 1, 2, 2.0])
def test_create_question_temperature_in_range_is_kept(temperature: float) -> None:
    ask = create_question("q", model="m", system=None, params={"temperature": temperature})
    assert ask.params == {"model": "m", "temperature": temperature}


@pytest.mark.parametrize("max_tokens", [0, -1, MAX_ID + 1, 10**30])
def test_create_question_max_tokens_out_of_range_is_refused(max_tokens: int) -> None:
    with pytest.raises(InvalidRequest, match="token limit"):
        create_question("q", model="m", system=None, params={"max_tokens": max_tokens})


@pytest.mark.parametrize("max_tokens", [1, MAX_ID])
def test_create_question_max_tokens_in_range_is_kept(max_tokens: int) -> None:
    assert create_question(
        "q", model="m", system=None, params={"max_tokens": max_tokens}
    ).params == {
        "model": "m",
        "max_tokens": max_tokens,
    }


def test_create_question_unset_parameters_are_left_out() -> None:
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
def test_sanitize_text_makes_any_text_storable(text: str, kept: str) -> None:
    assert sanitize_text(text) == kept
    sanitize_text(text).encode()


@pytest.mark.parametrize("value", [0, 1, 42, MAX_ID])
def test_parse_count_whole_number_is_returned(value: int) -> None:
    assert parse_count(value) == value


def test_parse_count_float_is_an_int() -> None:
    assert parse_count(3.0) == 3
    assert type(parse_count(3.0)) is int


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, "3", "", [], {}, -1, -0.5, 1e300),
        *(math.nan, math.inf, -math.inf, MAX_ID + 1, float(2**63)),
    ],
)
def test_parse_count_invalid_is_none(value: object) -> None:
    assert parse_count(value) is None


def test_parse_count_huge_number_is_none() -> None:
    assert parse_count(10**400) is None


@pytest.mark.parametrize(
    "text", ["", " ", " a", "\n", "\x00a", "\x1ca", "\x85a", "\xa0a", "\ufeffa"]
)
def test_tag_beginning_with_an_invisible_character_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        create_question("x", model="m", system=None, tags=["a", text])
    assert repr(text) in caught.value.what
    # HTTP has the same rule, in the regular expressions of JSON Schema.
    with pytest.raises(ValidationError):
        AskRequest(question="x", tags=[text])


@pytest.mark.parametrize("text", ["a", "+", "a b ", "ß", "-", "\u200bé", "🏷"])
def test_tag_valid_is_accepted_by_command_and_request(text: str) -> None:
    assert create_question("x", model="m", system=None, tags=[text]).tags == [text]
    assert AskRequest(question="x", tags=[text]).tags == [text]


def test_question_from_an_import_keeps_an_invalid_tag() -> None:
    assert Question(question="x", tags=[""]).tags == [""]
