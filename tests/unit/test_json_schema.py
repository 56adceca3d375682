from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from exchange import Exchange, ObservedProvider

from qacli.domain import ChatRequest, Heartbeat, Question, Status
from qacli.errors import InvalidRequest, UnfitAnswer
from qacli.json_schema import AnswerSchema, extract_json
from qacli.provider import endpoint
from qacli.schema_repair import repair_prompt
from qacli.services.ask import AskService, build_repair, wait_for_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fake_provider import FakeProvider

    from qacli.config.settings import Settings

DOG = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def test_from_document_short_form_is_a_strict_schema() -> None:
    assert AnswerSchema.from_document("name, age int").schema == DOG
    kinds = AnswerSchema.from_document("a,b int , c float,d bool,e str").schema["properties"]
    assert [each["type"] for each in kinds.values()] == [
        *("string", "integer", "number", "boolean", "string")
    ]


def test_from_document_takes_a_file_json_or_a_table(home: Path) -> None:
    text = json.dumps(DOG)
    (home / "dog.json").write_text(text)
    (home / "beside").mkdir()
    (home / "beside" / "dog.json").write_text('{"type": "array"}')
    assert (
        AnswerSchema.from_document("dog.json")
        == AnswerSchema.from_document(text)
        == AnswerSchema.from_document(DOG)
    )
    assert AnswerSchema.from_document("dog.json", home / "beside").schema == {"type": "array"}
    assert AnswerSchema.from_document("name").response_format == {
        "type": "json_schema",
        "json_schema": {
            "name": "answer",
            "schema": AnswerSchema.from_document("name").schema,
            "strict": True,
        },
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("none.json", "neither a file nor a list of fields: 'none.json' is not a field"),
        ("", "neither a file nor"),
        ("name,,age", "'' is not a field"),
        ("name, age integer", "'age integer' is not a field"),
        ("1st", "'1st' is not a field"),
        ("a, b int, a", "'a' twice"),
        ("x" * 5000 + "!", "cannot be read: File name too long"),
        (".", "Is a directory"),
        ('{"a": ', "The schema is not JSON"),
        ('{"type": NaN}', "The schema is not JSON"),
        ('{"type": "strin"}', '"strin" is not valid under any of the schemas'),
        ('{"type": "strin"}', "keyword at $.type"),
        ('{"pattern": "("}', "at $.pattern"),
        ('{"$ref": "http://127.0.0.1:1/x"}', "refers to http://127.0.0.1:1/x"),
        ('{"anyOf": [{"$ref": "#/$defs/none"}]}', "refers to #/$defs/none"),
    ],
)
def test_from_document_invalid_schema_is_refused(given: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        AnswerSchema.from_document(given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"), [("[1]", "is not a JSON object"), (b"\xff", "is not UTF-8 text")]
)
def test_from_document_invalid_file_is_refused(home: Path, data: str | bytes, said: str) -> None:
    (home / "x.json").write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(InvalidRequest, match=said):
        AnswerSchema.from_document("x.json")


def test_check_follows_references_within_the_schema(home: Path) -> None:
    schema: dict[str, Any] = {
        "$id": "https://example.com/tree",
        "type": "object",
        "properties": {"left": {"$ref": "#/$defs/tree"}, "$ref": {"type": "string"}},
        "$defs": {"tree": {"$ref": "https://example.com/tree"}},
    }
    (home / "tree.json").write_text(json.dumps(schema))
    tree = AnswerSchema.from_document("tree.json")
    tree.check('{"left": {"left": {}}, "$ref": "x"}')
    with pytest.raises(UnfitAnswer, match=r"at \$\.left\.left"):
        tree.check('{"left": {"left": 3}}')


@pytest.mark.parametrize(
    "answer",
    [
        '{"name": "Rex", "age": 3}',
        ' {"age": 3, "name": "R\\u0000"}\n',
        '```json\n{"name": "Rex", "age": 3}\n```\n',
        '```\n{"name": "Rex", "age": 3}```',
    ],
)
def test_check_fitting_answer_is_accepted(answer: str) -> None:
    AnswerSchema.from_document("name, age int").check(answer)
    assert list(json.loads(extract_json(answer))) in (["name", "age"], ["age", "name"])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Rex is 3.", "it is not JSON"),
        ("", "it is not JSON"),
        ('{"name": "Rex", "age": NaN}', "NaN is not a JSON value"),
        ("[" * 100_000, "it is not JSON"),
        ("1" * 5000, "it is not JSON"),
        ('{"name": "Rex"}', '"age" is a required property at $.'),
        ('{"name": "Rex", "age": "3"}', '"3" is not of type "integer" at $.age.'),
        ('{"name": "Rex", "age": 3, "b": 1}', "('b' was unexpected) at $."),
        ('Here:\n```json\n{"name": "Rex", "age": 3}\n```', "it is not JSON"),
    ],
)
def test_check_unfit_answer_raises_with_the_reason(answer: str, said: str) -> None:
    schema = AnswerSchema.from_document("name, age int")
    with pytest.raises(UnfitAnswer) as caught:
        schema.check(answer)
    assert said in caught.value.what
    prompt = repair_prompt(caught.value, {"response_format": schema.response_format})
    assert caught.value.what in prompt
    assert json.loads(prompt.partition("\n\n")[2]) == schema.schema
    assert len(caught.value.what) < 1000


def test_repair_prompt_does_not_repeat_a_long_schema() -> None:
    fields = ", ".join(f"field_{number}" for number in range(1000))
    schema = AnswerSchema.from_document(fields)
    params = {"response_format": schema.response_format}
    assert repair_prompt(UnfitAnswer("It is not JSON."), params).endswith("fits the schema.")


def test_check_error_message_can_be_stored() -> None:
    structure = AnswerSchema.from_document(
        {"additionalProperties": False, "items": {"type": "integer"}}
    )
    for answer in ('{"a\\u0000\\ud800\\n": 1}', '["\\u0000\\ud800"]'):
        with pytest.raises(UnfitAnswer) as caught:
            structure.check(answer)
        caught.value.what.encode()
        assert "\0" not in caught.value.what
        assert "\n" not in caught.value.what


@pytest.fixture
def client(settings: Settings) -> Iterator[ObservedProvider]:
    client = ObservedProvider(endpoint.resolve_endpoint(settings), settings)
    yield client
    client.close()


@pytest.fixture
def asking(client: ObservedProvider) -> AskService:
    """Return a service that asks without storing."""
    return AskService(provider=lambda _ask: client, outbox=None, store=lambda: pytest.fail("kept"))


# Nothing is stored, so one kind of database is enough.
one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@one_database
@pytest.mark.parametrize("whole_answer", [False, True])
def test_ask_unfit_answer_is_a_failure_with_its_whole_text(
    asking: AskService, *, whole_answer: bool
) -> None:
    check = AnswerSchema.from_document("name").check
    ask = Question(question="Who?", params={"model": "m"})
    request = ChatRequest(question=ask, stream=not whole_answer)
    exchange = Exchange(asking.stream(ask, request, check=check))
    with pytest.raises(UnfitAnswer) as caught, exchange:
        assert "".join(exchange) == ""
    assert exchange.outcome.status is Status.FAILED
    assert exchange.outcome.answer == "Answer to: Who?"
    assert exchange.outcome.answered_at is not None
    assert (exchange.outcome.error_kind, exchange.outcome.error) == (
        "unfit-answer",
        caught.value.what,
    )


@one_database
def test_ask_unfit_answer_not_read_to_its_end_is_a_failure(
    asking: AskService, client: ObservedProvider, wait_for: Callable[..., Any]
) -> None:
    ask = Question(question="Who? [[first_token_delay=0.2]]", params={"model": "m"})
    check = AnswerSchema.from_document("name").check

    def stopped(exchange: Exchange) -> None:
        with exchange:
            assert isinstance(next(exchange.events), Heartbeat)
            wait_for(lambda: client.is_complete)
            raise KeyboardInterrupt

    exchange = Exchange(asking.stream(ask, check=check, heartbeat_seconds=0.01))
    with pytest.raises(KeyboardInterrupt):
        stopped(exchange)
    assert exchange.outcome.status is Status.FAILED
    assert exchange.outcome.error_kind == "unfit-answer"


@one_database
def test_repair_request_has_the_turns_of_the_first_one(
    asking: AskService, provider: FakeProvider
) -> None:
    question = Question(question="Who?", params={"model": "m"}, tags=["t"])
    first = wait_for_result(asking.stream(question))
    request = build_repair(first, ChatRequest(question=question), "Sure?")
    second = wait_for_result(asking.stream(request.question, request))
    assert second.question.uid != first.question.uid
    assert second.question.tags == ["t"]
    assert second.question.corrects_id == first.record_id
    messages = provider.requests[-1].body["messages"]
    assert [each["content"] for each in messages] == ["Who?", "Answer to: Who?", "Sure?"]
