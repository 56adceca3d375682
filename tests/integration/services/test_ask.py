import json
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY, Exchange, Watched
from fake_provider import FakeProvider
from fake_provider import Reply as Faked

from qacli.config.settings import Settings
from qacli.db.models import QuestionAnswer
from qacli.db.records import Store
from qacli.domain import (
    AnswerEvent,
    ChatRequest,
    Delta,
    Failed,
    Finished,
    Question,
    ReasoningDelta,
    Status,
    now,
)
from qacli.errors import (
    DatabaseError,
    InvalidRequest,
    OutboxUnwritable,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    RecordRefused,
)
from qacli.provider import endpoint
from qacli.provider.sync import SyncProvider
from qacli.recording.outbox import Outbox
from qacli.recording.recovery import recover_outbox
from qacli.services.ask import AskService

ways = pytest.mark.parametrize("whole", [False, True], ids=["stream", "whole"])


@dataclass
class House:
    """All that is needed to ask, with a database that can be switched off and on."""

    settings: Settings
    outbox: Outbox
    store: Store
    down: Store
    provider: Watched
    reachable: bool = True

    @property
    def asking(self) -> AskService:
        return AskService(
            provider=lambda _ask: self.provider,
            outbox=self.outbox,
            store=lambda: self.store if self.reachable else self.down,
        )

    def ask(
        self, question: str = "Who am I?", *, whole: bool = False, reserve: bool = False
    ) -> Exchange:
        ask = an_ask(question)
        request = ChatRequest(question=ask, stream=not whole)
        return Exchange(self.asking.stream(ask, request, reserve=reserve))

    @property
    def journals(self) -> list[Path]:
        return sorted(self.outbox.directory.iterdir())

    @property
    def records(self) -> list[QuestionAnswer]:
        return self.store.page(limit=100)


def an_ask(question: str, **fields: Any) -> Question:
    return replace(Question(question=question, params={"model": "m"}), **fields)


@pytest.fixture
def house(settings: Settings, store: Store, home: Path) -> Iterator[House]:
    # The same kind of database, where there is none: a wrong port, or a path below a file.
    (home / "file").touch()
    nowhere = f"sqlite:///{home / 'file' / 'history.db'}"
    if store.url.startswith("postgresql"):
        nowhere = "postgresql+psycopg2://user:hunter2@127.0.0.1:9/history"
    provider = Watched(endpoint.resolve_endpoint(settings), settings)
    yield House(settings, Outbox(settings.outbox_path), store, Store(nowhere), provider)
    provider.close()


def read(exchange: Exchange) -> str:
    with exchange:
        return "".join(exchange)


@ways
def test_ask_answer_is_read_and_recorded(house: House, *, whole: bool) -> None:
    before = now()
    exchange = house.ask(whole=whole)
    assert read(exchange) == "Answer to: Who am I?"
    (record,) = house.records
    assert exchange.record_id == record.id == 1
    assert exchange.undelivered is None
    assert record.uid == exchange.ask.uid
    assert record.question == "Who am I?"
    assert record.answer == exchange.outcome.answer == "Answer to: Who am I?"
    assert record.status is Status.ANSWERED
    assert record.error is None
    assert record.model == "m-2026-01-01"
    assert record.params == {"model": "m"}
    assert (record.provider_response_id or "").startswith("chatcmpl-")
    assert record.finish_reason == "stop"
    assert (record.prompt_tokens, record.completion_tokens) == (3, 5)
    assert record.cost_usd is None
    assert record.answered_at is not None
    assert before <= record.created_at <= record.answered_at <= now()
    assert house.journals == []


def of_kind(events: list[AnswerEvent], kind: type[Delta | ReasoningDelta]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


@pytest.mark.parametrize("checked", [False, True], ids=["as-it-arrives", "checked"])
@ways
def test_stream_reasoning_precedes_the_answer_and_is_recorded(
    house: House, *, whole: bool, checked: bool
) -> None:
    ask = an_ask("Who? [[reasoning='Let me {think}.' text='I am.']]")
    texts: list[str] = []
    request = ChatRequest(question=ask, stream=not whole)
    events = list(house.asking.stream(ask, request, check=texts.append if checked else None))
    assert of_kind(events, ReasoningDelta) == "Let me {think}."
    assert of_kind(events, Delta) == "I am."
    kinds = [type(event) for event in events if isinstance(event, Delta | ReasoningDelta)]
    assert kinds == sorted(kinds, key=lambda kind: kind is Delta)
    assert texts == (["I am."] if checked else [])
    (record,) = house.records
    assert (record.answer, record.reasoning) == ("I am.", "Let me {think}.")
    assert record.reasoning_tokens == 3
    assert isinstance(events[-1], Finished)


def test_stream_cut_in_the_reasoning_keeps_the_reasoning(house: House) -> None:
    ask = an_ask("Who? [[reasoning='one two three' cut=2]]")
    events = list(house.asking.stream(ask))
    assert isinstance(events[-1], Failed)
    (record,) = house.records
    assert (record.status, record.answer, record.reasoning) == (Status.FAILED, None, "one two")


def test_ask_times_are_measured(house: House, provider: FakeProvider) -> None:
    provider.default = Faked(text="a b c", first_token_delay=0.2, delay=0.1)
    started = time.monotonic()
    read(house.ask())
    elapsed_ms = (time.monotonic() - started) * 1000
    (record,) = house.records
    assert record.first_token_ms is not None
    assert record.latency_ms is not None
    assert 200 <= record.first_token_ms < record.latency_ms
    assert 450 <= record.latency_ms <= elapsed_ms + 1


def test_ask_question_is_journaled_before_it_is_sent(house: House, provider: FakeProvider) -> None:
    noted = []

    def look(_request: Any) -> Faked:
        noted.extend(entry.question.question for entry in house.outbox.pending())
        return Faked()

    provider.default = look
    read(house.ask())
    assert noted == ["Who am I?"]


def test_ask_each_delta_is_journaled_before_it_is_shown(house: House) -> None:
    with house.ask() as exchange:
        shown = ""
        for text in exchange:
            shown += text
            (entry,) = house.outbox.pending()
            assert (entry.outcome().answer or "").startswith(shown)


def test_ask_database_is_used_only_after_the_answer(house: House) -> None:
    house.reachable = False
    with house.ask() as exchange:
        text = "".join(exchange)
        house.reachable = True
    assert text
    assert exchange.record_id == 1


@ways
@pytest.mark.parametrize("reserve", [False, True])
def test_ask_failure_is_recorded_with_its_reason(
    house: House, *, reserve: bool, whole: bool
) -> None:
    question = "Who? [[status=400 message='Too long.']]"
    exchange = house.ask(question, reserve=reserve, whole=whole)
    with pytest.raises(ProviderRefused) as caught:
        read(exchange)
    (record,) = house.records
    assert caught.value.record_id == exchange.record_id == record.id
    assert record.status is Status.FAILED
    assert (record.error_kind, record.error) == (
        "provider-refused",
        "The provider answered 400: Too long.",
    )
    assert record.answer is None
    assert record.answered_at is None
    assert record.latency_ms is not None
    assert house.journals == []


def test_ask_cut_answer_records_the_received_text(house: House) -> None:
    with pytest.raises(ProviderUnreachable):
        read(house.ask("Who? [[cut=2]]"))
    (record,) = house.records
    assert record.status is Status.FAILED
    assert record.answer == "Answer to:"
    assert record.error_kind == "provider-unreachable"
    assert record.model == "m-2026-01-01"


def test_ask_key_in_an_error_is_not_recorded(house: House, home: Path) -> None:
    with pytest.raises(ProviderError):
        read(house.ask("[[leak_key]]"))
    (record,) = house.records
    assert KEY not in str(record.to_dict())
    for path in home.rglob("*"):
        if path.is_file() and not path.name.startswith("fake"):
            assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("message", ["bad \0", "bad \ud800"])
def test_ask_failure_with_any_message_is_recorded(
    house: House, provider: FakeProvider, message: str
) -> None:
    provider.default = Faked(status=400, message=message)
    with pytest.raises(ProviderRefused):
        read(house.ask())
    (record,) = house.records
    assert record.status is Status.FAILED
    if "\0" in message and house.store.url.startswith("sqlite"):
        assert "\0" not in (record.error or "")  # SQLite would take it, and cut it elsewhere


def test_ask_answer_with_any_finish_reason_is_recorded(
    house: House, provider: FakeProvider
) -> None:
    provider.default = Faked(finish_reason="st\0op\ud800")
    read(house.ask())
    assert house.records[0].finish_reason == "st\ufffdop\ufffd"


def test_ask_answer_with_any_characters_is_recorded(house: House, provider: FakeProvider) -> None:
    provider.default = Faked(nasty=True, text="Hi", model="mo\0del\ud800")
    read(house.ask())
    (record,) = house.records
    assert record.answer == "Hi NUL \ufffd surrogate \ufffd end"
    assert record.model == "mo\ufffddel\ufffd"


def test_ask_left_early_records_the_received_text(house: House) -> None:
    with house.ask("Who? [[delay=0.02]]") as exchange:
        for number, _ in enumerate(exchange):
            if number == 1:
                break
    (record,) = house.records
    assert record.status is Status.INTERRUPTED
    assert record.answer == "Answer to:"
    assert (record.error_kind, record.error) == (
        "interrupted",
        "stopped before the answer was complete",
    )
    assert record.answered_at is None
    assert house.journals == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_ask_stopped_by_an_exception_records_the_received_text(
    house: House, kind: type[BaseException]
) -> None:
    def stopped() -> None:
        with house.ask("Who? [[delay=0.2]]") as exchange:
            for text in exchange:
                if text == " to:":
                    raise kind

    with pytest.raises(kind):
        stopped()
    (record,) = house.records
    assert record.status is Status.INTERRUPTED
    assert record.answer == "Answer to:"


def test_ask_never_read_is_recorded_as_interrupted(house: House, provider: FakeProvider) -> None:
    with house.ask():
        pass
    (record,) = house.records
    assert record.status is Status.INTERRUPTED
    assert record.answer is None
    assert record.latency_ms is None
    assert provider.requests == []


def test_ask_exception_of_the_caller_is_recorded_as_such(house: House) -> None:
    def mistaken() -> None:
        with house.ask("Who? [[delay=0.2]]") as exchange:
            for _ in exchange:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        mistaken()
    (record,) = house.records
    assert record.status is Status.FAILED
    assert (record.error_kind, record.error) == ("unexpected", "ZeroDivisionError")
    assert record.answer == "Answer"


def test_ask_answer_received_but_not_read_is_recorded(
    house: House, wait_for: Callable[..., Any]
) -> None:
    with house.ask() as exchange:
        next(iter(exchange))
        wait_for(lambda: house.provider.is_complete)
    (record,) = house.records
    assert (record.status, record.answer) == (Status.ANSWERED, "Answer to: Who am I?")


def test_ask_interrupted_after_the_answer_is_recorded_as_answered(house: House) -> None:
    def stopped() -> None:
        with house.ask() as exchange:
            "".join(exchange)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    (record,) = house.records
    assert record.status is Status.ANSWERED
    assert record.answer == "Answer to: Who am I?"


def test_ask_without_an_outbox_records_nothing(house: House) -> None:
    asking = replace(house.asking, outbox=None)
    for question in ("Who?", "Who? [[cut=2]]"):
        exchange = Exchange(asking.stream(an_ask(question)))
        try:
            assert read(exchange)
        except ProviderError as error:
            assert error.record_id is None  # noqa: PT017 - one of the two questions fails
        assert exchange.record_id is None
        assert (exchange.outcome.answer or "").startswith("Answer to:")
    assert house.records == []
    assert not house.outbox.directory.exists()


def test_ask_reserved_record_has_its_id_before_the_first_text(
    house: House, provider: FakeProvider
) -> None:
    with house.ask(reserve=True) as exchange:
        assert exchange.record_id == 1
        assert provider.requests == []
        assert house.store.get(1).status is Status.ASKING
        assert "".join(exchange)
        assert house.store.get(1).status is Status.ASKING
    (record,) = house.records
    assert exchange.record_id == record.id == 1
    assert record.status is Status.ANSWERED


def test_ask_reserve_with_database_down_raises_and_sends_nothing(
    house: House, provider: FakeProvider
) -> None:
    house.reachable = False
    with pytest.raises(DatabaseError) as caught:
        read(house.ask(reserve=True))
    assert "hunter2" not in str(caught.value)
    assert provider.requests == []
    assert house.journals == []


def test_ask_reserved_record_is_completed_by_delivery(house: House) -> None:
    with house.ask(reserve=True) as exchange:
        "".join(exchange)
        house.reachable = False
    assert exchange.undelivered is not None
    assert exchange.record_id == 1
    assert house.store.get(1).status is Status.ASKING
    assert recover_outbox(house.outbox, house.store) == 1
    (record,) = house.records
    assert (record.id, record.status) == (1, Status.ANSWERED)


@pytest.mark.parametrize(
    ("question", "status", "answer"),
    [
        ("Who?", Status.ANSWERED, "Answer to: Who?"),
        ("[[cut=2]]", Status.FAILED, "Answer to:"),
        ("[[status=400]]", Status.FAILED, None),
    ],
)
def test_ask_ended_with_the_database_down_is_delivered_once(
    house: House, question: str, status: Status, answer: str | None
) -> None:
    house.reachable = False
    exchange = house.ask(question)
    failed = False
    try:
        read(exchange)
    except ProviderError as error:
        failed = True
        assert error.record_id is None  # noqa: PT017 - only some of the questions fail
    assert failed == (status is Status.FAILED)
    assert exchange.record_id is None
    assert isinstance(exchange.undelivered, DatabaseError)
    assert "hunter2" not in str(exchange.undelivered)
    assert len(house.journals) == 1
    (entry,) = house.outbox.pending()
    assert entry.outcome() == exchange.outcome

    with pytest.raises(DatabaseError):
        recover_outbox(house.outbox, house.down)
    assert len(house.journals) == 1

    assert recover_outbox(house.outbox, house.store) == 1
    assert recover_outbox(house.outbox, house.store) == 0
    (record,) = house.records
    assert record.uid == exchange.ask.uid
    assert (record.status, record.answer) == (status, answer)
    assert record.created_at == exchange.ask.created_at
    assert record.latency_ms == exchange.outcome.latency_ms
    assert house.journals == []


def test_ask_question_in_flight_is_not_delivered(house: House) -> None:
    with house.ask() as exchange:
        for _ in exchange:
            assert recover_outbox(house.outbox, house.store) == 0
            assert house.records == []
    assert len(house.records) == 1


def test_ask_with_the_database_down_is_delivered_later(house: House) -> None:
    house.reachable = False
    for number in range(3):
        read(house.ask(str(number)))
    house.reachable = True
    read(house.ask("3"))
    assert recover_outbox(house.outbox, house.store) == 3
    assert sorted(record.question for record in house.records) == ["0", "1", "2", "3"]
    assert house.records[0].question == "3"


@pytest.fixture
def disk() -> Iterator[Callable[[int], None]]:
    """A disk with room for files of so many bytes, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_ask_unwritable_journal_sends_nothing(
    house: House, provider: FakeProvider, disk: Callable[[int], None]
) -> None:
    disk(10)
    with pytest.raises(OutboxUnwritable):
        read(house.ask())
    disk(10**9)
    assert provider.requests == []
    assert house.records == []
    assert house.journals == []


def test_ask_answer_not_journaled_is_stored_by_the_database(
    postgres_url: str, home: Path, provider: FakeProvider, disk: Callable[[int], None]
) -> None:
    # PostgreSQL, whose disk is another: SQLite's would be as full.
    from conftest import migrated

    settings = Settings(
        api_key=KEY, base_url=provider.base_url, data_dir=home, database_url=postgres_url
    )
    store, outbox = migrated(settings), Outbox(settings.outbox_path)
    client = SyncProvider(endpoint.resolve_endpoint(settings), settings)
    asking = AskService(provider=lambda _ask: client, outbox=outbox, store=lambda: store)
    with Exchange(asking.stream(an_ask("Who?"))) as exchange:
        for _ in exchange:
            (journal,) = outbox.directory.iterdir()
            disk(journal.stat().st_size)
    disk(10**9)
    assert exchange.undelivered is None
    (record,) = store.page(limit=5)
    assert record.id == exchange.record_id
    assert record.answer == "Answer to: Who?"
    assert list(outbox.directory.iterdir()) == []
    store.close()
    client.close()


def test_ask_answer_stored_nowhere_raises(house: House, disk: Callable[[int], None]) -> None:
    house.reachable = False

    def asked() -> None:
        with house.ask() as exchange:
            for _ in exchange:
                disk(house.journals[0].stat().st_size)

    with pytest.raises(DatabaseError, match="could not be stored") as caught:
        asked()
    disk(10**9)
    assert "\n" not in str(caught.value)
    house.reachable = True
    assert recover_outbox(house.outbox, house.store) == 1
    (record,) = house.records
    assert record.status is Status.INTERRUPTED
    assert (record.answer or "").startswith("Answer")


def test_ask_refused_record_can_still_be_read(house: House) -> None:
    first = Exchange(house.asking.stream(an_ask("one", idempotency_key="k")))
    read(first)
    second = Exchange(house.asking.stream(an_ask("two", idempotency_key="k")))
    assert read(second) == "Answer to: two"
    assert isinstance(second.undelivered, RecordRefused)
    assert recover_outbox(house.outbox, house.store) == 0
    assert [record.question for record in house.records] == ["one"]
    (aside,) = house.journals
    lines = [json.loads(line) for line in aside.read_text().splitlines()]
    assert lines[-1]["outcome"]["answer"] == "Answer to: two"
    assert recover_outbox(house.outbox, house.store) == 0


def test_ask_provider_unavailable_leaves_no_journal(house: House) -> None:
    def none(_ask: Question) -> SyncProvider:
        raise InvalidRequest("There is no such model.")

    with pytest.raises(InvalidRequest):
        read(Exchange(replace(house.asking, provider=none).stream(an_ask("q"))))
    assert not house.outbox.directory.exists()


def test_ask_in_many_threads_records_each_answer(house: House, provider: FakeProvider) -> None:
    from concurrent.futures import ThreadPoolExecutor

    provider.default = Faked(latency=0.1)

    def one(number: int) -> tuple[int | None, str]:
        exchange = house.ask(str(number), reserve=number % 2 == 0)
        return (read(exchange), exchange.record_id)[::-1]

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(one, range(40)))
    assert [text for _, text in found] == [f"Answer to: {number}" for number in range(40)]
    assert sorted(record.id or 0 for record in house.records) == list(range(1, 41))
    for number, (record_id, _) in enumerate(found):
        assert house.store.get(record_id or 0).question == str(number)
    assert house.journals == []


def test_ask_delivered_later_keeps_the_time_of_the_question(house: House) -> None:
    asked = datetime(2020, 1, 1, 12, tzinfo=UTC)
    house.reachable = False
    read(Exchange(house.asking.stream(an_ask("old", created_at=asked))))
    recover_outbox(house.outbox, house.store)
    assert house.records[0].created_at == asked
