"""A follow-up keeps the model, the system prompt and the options of its record."""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from conftest import KEY, Invoke
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


@pytest.fixture
def config(home: Path, provider: FakeProvider) -> str:
    """Write profiles, two of them for the provider; return its URL with another host name."""
    (home / "config.toml").write_text(
        f'[profiles.there]\nbase_url = "{provider.base_url}"\napi_key = "{KEY}"\n'
        '[profiles.away]\nbase_url = "http://127.0.0.1:1/v1"\napi_key = "sk-away"\n'
        f'[profiles.too]\nbase_url = "{provider.base_url}"\napi_key = "sk-too"\n'
    )
    return provider.base_url.replace("127.0.0.1", "localhost")


@pytest.mark.parametrize(
    "words",
    [("ask", "-c"), ("ask", "-c", "-m", "m-2"), ("ask", "--again", "last"), ("chat", "-c")],
)
@pytest.mark.usefixtures("config")
def test_follow_up_keeps_the_profile_of_its_record(
    invoke: Invoke, provider: FakeProvider, words: tuple[str, ...]
) -> None:
    own = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}
    assert invoke("--profile", "there", "ask", "One?", **own).code == 0
    question = ["Two?"] if words[0] == "ask" and "--again" not in words else []
    done = invoke(*words, *question, "--timeout", "9", input="" if question else "Two?\n", **own)
    assert done.code == 0, done.err
    assert provider.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    host = urlsplit(provider.base_url).netloc
    assert (
        f"Asking {host} with the profile there, like record 2."
        in invoke("ask", "-c", "-v", "Three?", **own).err
    )


@pytest.mark.usefixtures("config")
def test_follow_up_with_another_profile_warns(invoke: Invoke, provider: FakeProvider) -> None:
    assert invoke("--profile", "there", "ask", "One?", OPENAI_BASE_URL="").code == 0
    away = invoke("--profile", "away", "ask", "-c", "Two?", "--retries", "0", OPENAI_BASE_URL="")
    assert away.code == 6
    assert f"Record 1 was answered by {urlsplit(provider.base_url).netloc}; " in away.err
    assert "go to 127.0.0.1:1. To ask there: --profile there" in away.err


def test_follow_up_with_an_url_of_the_environment_warns(
    invoke: Invoke, config: str, home: Path
) -> None:
    assert "was answered by" not in invoke("ask", "One?").err
    assert "was answered by" not in invoke("ask", "-c", "Two?").err
    done = invoke("ask", "-c", "Three?", OPENAI_BASE_URL=config)
    assert done.code == 0
    assert f"go to {urlsplit(config).netloc}. To ask there: --profile there" in done.err
    (home / "config.toml").unlink()
    alone = invoke("ask", "--follow", "1", "Four?", OPENAI_BASE_URL=config).err
    assert "was answered by" in alone
    assert "--profile" not in alone


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
