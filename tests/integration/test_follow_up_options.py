"""A follow-up keeps the model, the system prompt and the options of its record."""

from typing import TYPE_CHECKING, Any

import pytest
from conftest import Invoke
from fake_provider import FakeProvider, Reply
from flask.testing import FlaskClient

from qacli.db.models import QuestionAnswer
from qacli.domain import Status, now
from qacli.services.follow_up import FollowUpOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

FLAGS = ("--model", "m-1", "--system", "Be brief.", "--temperature", "0.5", "--option", "k=1")


def last_request(provider: FakeProvider) -> dict[str, Any]:
    """Return the parts of the last request that a follow-up keeps."""
    body = provider.requests[-1].body
    system = [item["content"] for item in body["messages"] if item["role"] == "system"]
    return {"system": system, **{name: body.get(name) for name in ("model", "temperature", "k")}}


KEPT: "Mapping[str, Any]" = {"system": ["Be brief."], "model": "m-1", "temperature": 0.5, "k": 1}


@pytest.mark.parametrize("words", [("ask", "-c"), ("ask", "--follow", "last"), ("chat", "-c")])
def test_follow_up_without_options_keeps_those_of_its_record(
    invoke: Invoke, provider: FakeProvider, words: tuple[str, ...]
) -> None:
    assert invoke("ask", *FLAGS, "One?").code == 0
    question = ["Two?"] if words[0] == "ask" else []
    assert invoke(*words, *question, input="" if question else "Two?\n").code == 0
    assert last_request(provider) == KEPT


def test_follow_up_with_options_uses_them(invoke: Invoke, provider: FakeProvider) -> None:
    assert invoke("ask", *FLAGS, "One?").code == 0
    assert invoke("ask", "-c", "-m", "m-2", "-s", "", "--temperature", "1", "Two?").code == 0
    assert last_request(provider) == {"system": [], "model": "m-2", "temperature": 1, "k": 1}


def test_follow_up_of_a_schema_does_not_ask_for_json(
    invoke: Invoke, provider: FakeProvider
) -> None:
    provider.script(Reply(text='{"name": "Rex"}'))
    assert invoke("ask", "--schema", "name", "A dog").code == 0
    assert invoke("ask", "-c", "Why?").code == 0
    assert "response_format" not in provider.requests[-1].body


def test_post_ask_with_follows_id_keeps_the_options(
    client: FlaskClient, provider: FakeProvider
) -> None:
    first = {"question": "One?", "model": "m-1", "system": "Be brief.", "temperature": 0.5}
    record = client.post("/ask", json={**first, "options": {"k": 1}}).get_json()
    follow_up = {"question": "Two?", "follows_id": record["id"]}
    assert client.post("/ask", json=follow_up).status_code == 200
    assert last_request(provider) == KEPT
    client.post("/ask", json={**follow_up, "model": "m-2"})
    assert last_request(provider) == {**KEPT, "model": "m-2"}


def test_follow_up_on_the_page_keeps_the_options(
    client: FlaskClient, provider: FakeProvider
) -> None:
    first = {"question": "One?", "model": "m-1", "system": "Be brief.", "temperature": 0.5}
    record = client.post("/ask", json={**first, "options": {"k": 1}}).get_json()
    client.post("/page/ask", data={"question": "Two?", "follows_id": record["id"]})
    assert last_request(provider) == KEPT


def test_another_endpoint_gets_only_the_system_prompt() -> None:
    record = QuestionAnswer(
        question="One?",
        created_at=now(),
        status=Status.ANSWERED,
        uid="a",
        system="Be brief.",
        params={"model": "m-1", "k": 1},
        endpoint="api.one.example",
    )
    assert FollowUpOptions.of(record, "api.two.example") == FollowUpOptions(system="Be brief.")


def test_another_model_does_not_get_the_defaults_of_the_first() -> None:
    defaults = {"m-1": {"k": 1}, "m-2": {"j": 2}}
    before = FollowUpOptions("m-1", "", {"k": 1, "seed": 7})
    assert before.merge("m-1", defaults.__getitem__) == {"k": 1, "seed": 7}
    assert before.merge("m-2", defaults.__getitem__) == {"seed": 7, "j": 2}
    assert before.merge("m-2", defaults.__getitem__, {"k": 3}) == {"seed": 7, "j": 2, "k": 3}
