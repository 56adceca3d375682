"""`qacli.ask`, `qacli.show` and `qacli.search`: the same records as those of `qa ask`."""

import asyncio
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY, Invoke
from fake_provider import FakeProvider
from pydantic import BaseModel, field_validator

import qacli
from qacli import ask, search, show
from qacli.db.records import Store
from qacli.domain import Status
from qacli.errors import (
    DatabaseError,
    InvalidRequest,
    KeyRejected,
    NotConfigured,
    NotFound,
    UnfitAnswer,
)


class Dog(BaseModel):
    name: str
    age: int

    @field_validator("age")
    @classmethod
    def check_age(cls, age: int) -> int:
        if age > 30:
            raise ValueError("no dog is so old")
        return age


def test_ask_returns_the_answer_of_its_record(history: Store, provider: FakeProvider) -> None:
    answer = ask("Who am I?", model="m", system="Brief.", tags=["a"], options={"temperature": 0})
    record = history.get(answer.id or 0)
    assert str(answer) == answer.answer == record.answer == "Answer to: Who am I?"
    assert (answer.question, answer.model, answer.data) == ("Who am I?", record.model, None)
    assert (answer.prompt_tokens, answer.completion_tokens) == (4, 5)
    assert answer.record == record.to_dict() == show(answer.id or 0)
    assert (record.system, record.tags, record.params["temperature"]) == ("Brief.", ["a"], 0)
    assert provider.requests[-1].body["messages"][0] == {"role": "system", "content": "Brief."}


def test_ask_follow_sends_the_thread_with_its_options(
    history: Store, provider: FakeProvider
) -> None:
    first = ask("One?", model="other", system="Brief.")
    second = ask("Two?", follow=first.id)
    assert history.get(second.id or 0).follows_id == first.id
    body = provider.requests[-1].body
    assert body["model"] == "other"
    texts = [message["content"] for message in body["messages"]]
    assert texts == ["Brief.", "One?", "Answer to: One?", "Two?"]


@pytest.mark.usefixtures("history")
def test_ask_follow_keeps_the_profile_of_its_record(
    home: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask("One?")
    (home / "config.toml").write_text(
        f'[profiles.there]\nbase_url = "{provider.base_url}"\napi_key = "{KEY}"\n'
    )
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    second = ask("Two?", follow=first.id, timeout=9)
    assert second.answer == "Answer to: Two?"


@pytest.mark.usefixtures("history")
def test_ask_with_a_file_sends_it(provider: FakeProvider, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Bring milk.")
    answer = ask("What?", files=[tmp_path / "notes.txt"])
    assert answer.record["attachments"][0]["name"] == str(tmp_path / "notes.txt")
    assert "Bring milk." in str(provider.requests[-1].body)


def test_ask_without_saving_keeps_no_record(history: Store) -> None:
    assert ask("Who am I?", save=False).id is None
    assert history.count() == 0


def test_stream_yields_pieces_and_then_has_the_answer(history: Store) -> None:
    pieces = ask("One two", stream=True)
    assert pieces.answer is None
    assert list(pieces) == ["Answer", " to:", " One", " two"]
    assert pieces.answer is not None
    assert history.get(pieces.answer.id or 0).answer == pieces.answer.answer


def test_stream_closed_early_keeps_what_arrived(history: Store) -> None:
    with ask("[[delay=0.05]] One two three", stream=True) as pieces:
        first = next(pieces)
    record = history.newest()
    assert record.status is Status.INTERRUPTED
    assert (record.answer or "").startswith(first)


def test_ask_with_a_pydantic_model_returns_its_instance(
    history: Store, provider: FakeProvider
) -> None:
    provider.script("schema=1")
    answer = ask("Invent a dog", schema=Dog)
    assert answer.data == Dog(name="x", age=1)
    schema = history.get(answer.id or 0).params["response_format"]["json_schema"]["schema"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name", "age"]


def test_ask_unfit_for_a_validator_is_corrected_once(
    history: Store, provider: FakeProvider
) -> None:
    provider.script("""text='{"name": "Rex", "age": 99}'""", """text='{"name": "Rex", "age": 9}'""")
    answer = ask("Invent a dog", schema=Dog)
    assert answer.data.age == 9
    first = history.get(answer.record["corrects_id"])
    assert (first.error_kind, first.status) == (UnfitAnswer.kind, Status.FAILED)
    assert "no dog is so old at $.age" in (first.error or "")


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    "schema", ["name, age int", {"type": "object", "properties": {"name": {"type": "string"}}}]
)
def test_ask_with_a_json_schema_returns_json(
    provider: FakeProvider, schema: str | dict[str, Any]
) -> None:
    provider.script("schema=1")
    assert ask("Invent a dog", schema=schema).data["name"] == "x"


@pytest.mark.usefixtures("history")
def test_ask_with_another_class_as_schema_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Give a Pydantic model"):
        ask("Invent a dog", schema=Path)  # type: ignore[type-var]


def test_ask_error_is_that_of_the_command_with_its_record(history: Store, invoke: Invoke) -> None:
    with pytest.raises(KeyRejected) as raised:
        ask("[[status=401]]")
    command = invoke("ask", "[[status=401]]")
    assert command.code == raised.value.exit_code
    assert str(raised.value) in command.err
    assert history.get(raised.value.record_id or 0).status is Status.FAILED


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ask(" "), InvalidRequest),
        (lambda: ask("Who?", options={"model": "m"}), InvalidRequest),
        (lambda: ask("Who?", follow=7), NotFound),
        (lambda: ask("Who?", files=["missing.txt"]), InvalidRequest),
        (lambda: show(7), NotFound),
    ],
)
def test_bad_argument_is_an_error_and_asks_nothing(
    provider: FakeProvider, call: Any, error: type[qacli.QaError]
) -> None:
    with pytest.raises(error):
        call()
    assert provider.requests == []


@pytest.mark.usefixtures("history")
def test_ask_without_a_provider_is_not_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name)
    with pytest.raises(NotConfigured, match="Set OPENAI_API_KEY"):
        ask("Who?")


@pytest.mark.usefixtures("history")
def test_ask_database_broken_at_the_end_warns_and_keeps_the_answer(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    file = home / "broken.db"
    file.write_text("This is no database. " * 100)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{file}")
    with pytest.warns(UserWarning, match="safe in the outbox"):
        answer = ask("Who am I?")
    assert (answer.id, answer.answer) == (None, "Answer to: Who am I?")
    with pytest.raises(DatabaseError):
        search()
    file.unlink()
    assert [record["answer"] for record in search()] == ["Answer to: Who am I?"]


@pytest.mark.usefixtures("history")
def test_ask_untrusted_env_file_is_a_warning(home: Path) -> None:
    (home / ".env").write_text("QA_SYSTEM=Brief.\n")
    with pytest.warns(UserWarning, match="is ignored: it is not trusted"):
        assert ask("Who?").record["system"] is None


def test_search_returns_matches_and_filters(history: Store) -> None:
    river, lake = ask("A river?", tags=["water"]), ask("A lake?", tags=["water"])
    ask("A hill?")
    assert [record["id"] for record in search("river")] == [river.id]
    assert [record["id"] for record in search(tag="water")] == [lake.id, river.id]
    assert search(limit=1) == [history.newest().to_dict()]


def test_ask_in_a_running_event_loop_and_in_threads_works(history: Store) -> None:
    async def main() -> tuple[str, str]:
        blocking = ask("One?").answer
        return blocking, (await asyncio.to_thread(ask, "Two?")).answer

    assert asyncio.run(main()) == ("Answer to: One?", "Answer to: Two?")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: ask(f"Number {number}?").id, range(8)))
    assert len(set(answers)) == 8
    assert history.count() == 10


def ask_in_child(question: str) -> str:
    return ask(question).answer


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_ask_in_a_forked_worker_works(history: Store) -> None:
    ask("In the parent?")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(ask_in_child, ["One?", "Two?"]) == ["Answer to: One?", "Answer to: Two?"]
    assert history.count() == 3
