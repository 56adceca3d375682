import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY
from exchange import Exchange, ObservedProvider
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
class Service:
    """The ask service with its parts.

    Attributes:
        down: A store whose database does not exist; used while `reachable` is false.
    """

    settings: Settings
    outbox: Outbox
    store: Store
    down: Store
    provider: ObservedProvider
    reachable: bool = True

    @property
    def ask_service(self) -> AskService:
        return AskService(
            provider=lambda _ask: self.provider,
            outbox=self.outbox,
            store=lambda: self.store if self.reachable else self.down,
        )

    def ask(
        self, question: str = "Who am I?", *, whole: bool = False, reserve: bool = False
    ) -> Exchange:
        ask = new_question(question)
        request = ChatRequest(question=ask, stream=not whole)
        return Exchange(self.ask_service.stream(ask, request, reserve=reserve))

    @property
    def journals(self) -> list[Path]:
        return sorted(self.outbox.directory.iterdir())

    @property
    def records(self) -> list[QuestionAnswer]:
        return self.store.page(limit=100)


def new_question(question: str, **fields: Any) -> Question:
    return replace(Question(question=question, params={"model": "m"}), **fields)


@pytest.fixture
def service(settings: Settings, store: Store, home: Path) -> Iterator[Service]:
    # A database that does not exist: a wrong port, or a path below a file.
    (home / "file").touch()
    nowhere = f"sqlite:///{home / 'file' / 'history.db'}"
    if store.url.startswith("postgresql"):
        nowhere = "postgresql+psycopg2://user:hunter2@127.0.0.1:9/history"
    provider = ObservedProvider(endpoint.resolve_endpoint(settings), settings)
    yield Service(settings, Outbox(settings.outbox_path), store, Store(nowhere), provider)
    provider.close()


def read(exchange: Exchange) -> str:
    with exchange:
        return "".join(exchange)


@ways
def test_ask_answer_is_read_and_recorded(service: Service, *, whole: bool) -> None:
    before = now()
    exchange = service.ask(whole=whole)
    assert read(exchange) == "Answer to: Who am I?"
    (record,) = service.records
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
    assert service.journals == []


def of_kind(events: list[AnswerEvent], kind: type[Delta | ReasoningDelta]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


@pytest.mark.parametrize("checked", [False, True], ids=["as-it-arrives", "checked"])
@ways
def test_stream_reasoning_precedes_the_answer_and_is_recorded(
    service: Service, *, whole: bool, checked: bool
) -> None:
    ask = new_question("Who? [[reasoning='Let me {think}.' text='I am.']]")
    texts: list[str] = []
    request = ChatRequest(question=ask, stream=not whole)
    events = list(service.ask_service.stream(ask, request, check=texts.append if checked else None))
    assert of_kind(events, ReasoningDelta) == "Let me {think}."
    assert of_kind(events, Delta) == "I am."
    kinds = [type(event) for event in events if isinstance(event, Delta | ReasoningDelta)]
    assert kinds == sorted(kinds, key=lambda kind: kind is Delta)
    assert texts == (["I am."] if checked else [])
    (record,) = service.records
    assert (record.answer, record.reasoning) == ("I am.", "Let me {think}.")
    assert record.reasoning_tokens == 3
    assert isinstance(events[-1], Finished)


def test_stream_cut_in_the_reasoning_keeps_the_reasoning(service: Service) -> None:
    ask = new_question("Who? [[reasoning='one two three' cut=2]]")
    events = list(service.ask_service.stream(ask))
    assert isinstance(events[-1], Failed)
    (record,) = service.records
    assert (record.status, record.answer, record.reasoning) == (Status.FAILED, None, "one two")


def test_ask_times_are_measured(service: Service, provider: FakeProvider) -> None:
    provider.default = Faked(text="a b c", first_token_delay=0.2, delay=0.1)
    started = time.monotonic()
    read(service.ask())
    elapsed_ms = (time.monotonic() - started) * 1000
    (record,) = service.records
    assert record.first_token_ms is not None
    assert record.latency_ms is not None
    assert 200 <= record.first_token_ms < record.latency_ms
    assert 450 <= record.latency_ms <= elapsed_ms + 1


def test_ask_question_is_journaled_before_it_is_sent(
    service: Service, provider: FakeProvider
) -> None:
    noted = []

    def look(_request: Any) -> Faked:
        noted.extend(entry.question.question for entry in service.outbox.pending())
        return Faked()

    provider.default = look
    read(service.ask())
    assert noted == ["Who am I?"]


def test_ask_each_delta_is_journaled_before_it_is_shown(service: Service) -> None:
    with service.ask() as exchange:
        shown = ""
        for text in exchange:
            shown += text
            (entry,) = service.outbox.pending()
            assert (entry.outcome().answer or "").startswith(shown)


def test_ask_database_is_used_only_after_the_answer(service: Service) -> None:
    service.reachable = False
    with service.ask() as exchange:
        text = "".join(exchange)
        service.reachable = True
    assert text
    assert exchange.record_id == 1


@ways
@pytest.mark.parametrize("reserve", [False, True])
def test_ask_failure_is_recorded_with_its_reason(
    service: Service, *, reserve: bool, whole: bool
) -> None:
    question = "Who? [[status=400 message='Too long.']]"
    exchange = service.ask(question, reserve=reserve, whole=whole)
    with pytest.raises(ProviderRefused) as caught:
        read(exchange)
    (record,) = service.records
    assert caught.value.record_id == exchange.record_id == record.id
    assert record.status is Status.FAILED
    assert (record.error_kind, record.error) == (
        "provider-refused",
        "The provider answered 400: Too long.",
    )
    assert record.answer is None
    assert record.answered_at is None
    assert record.latency_ms is not None
    assert service.journals == []


def test_ask_cut_answer_records_the_received_text(service: Service) -> None:
    with pytest.raises(ProviderUnreachable):
        read(service.ask("Who? [[cut=2]]"))
    (record,) = service.records
    assert record.status is Status.FAILED
    assert record.answer == "Answer to:"
    assert record.error_kind == "provider-unreachable"
    assert record.model == "m-2026-01-01"


def test_ask_key_in_an_error_is_not_recorded(service: Service, home: Path) -> None:
    with pytest.raises(ProviderError):
        read(service.ask("[[leak_key]]"))
    (record,) = service.records
    assert KEY not in str(record.to_dict())
    for path in home.rglob("*"):
        if path.is_file() and not path.name.startswith("fake"):
            assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("message", ["bad \0", "bad \ud800"])
def test_ask_failure_with_any_message_is_recorded(
    service: Service, provider: FakeProvider, message: str
) -> None:
    provider.default = Faked(status=400, message=message)
    with pytest.raises(ProviderRefused):
        read(service.ask())
    (record,) = service.records
    assert record.status is Status.FAILED
    if "\0" in message and service.store.url.startswith("sqlite"):
        assert "\0" not in (record.error or "")  # SQLite would take it, and cut it elsewhere


def test_ask_answer_with_any_finish_reason_is_recorded(
    service: Service, provider: FakeProvider
) -> None:
    provider.default = Faked(finish_reason="st\0op\ud800")
    read(service.ask())
    assert service.records[0].finish_reason == "st\ufffdop\ufffd"


def test_ask_answer_with_any_characters_is_recorded(
    service: Service, provider: FakeProvider
) -> None:
    provider.default = Faked(nasty=True, text="Hi", model="mo\0del\ud800")
    read(service.ask())
    (record,) = service.records
    assert record.answer == "Hi NUL \ufffd surrogate \ufffd end"
    assert record.model == "mo\ufffddel\ufffd"


def test_ask_left_early_records_the_received_text(service: Service) -> None:
    with service.ask("Who? [[delay=0.02]]") as exchange:
        for number, _ in enumerate(exchange):
            if number == 1:
                break
    (record,) = service.records
    assert record.status is Status.INTERRUPTED
    assert record.answer == "Answer to:"
    assert (record.error_kind, record.error) == (
        "interrupted",
        "stopped before the answer was complete",
    )
    assert record.answered_at is None
    assert service.journals == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_ask_stopped_by_an_exception_records_the_received_text(
    service: Service, kind: type[BaseException]
) -> None:
    def stopped() -> None:
        with service.ask("Who? [[delay=0.2]]") as exchange:
            for text in exchange:
                if text == " to:":
                    raise kind

    with pytest.raises(kind):
        stopped()
    (record,) = service.records
    assert record.status is Status.INTERRUPTED
    assert record.answer == "Answer to:"


def test_ask_never_read_is_recorded_as_interrupted(
    service: Service, provider: FakeProvider
) -> None:
    with service.ask():
        pass
    (record,) = service.records
    assert record.status is Status.INTERRUPTED
    assert record.answer is None
    assert record.latency_ms is None
    assert provider.requests == []


def test_ask_exception_of_the_caller_is_recorded_as_such(service: Service) -> None:
    def mistaken() -> None:
        with service.ask("Who? [[delay=0.2]]") as exchange:
            for _ in exchange:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        mistaken()
    (record,) = service.records
    assert record.status is Status.FAILED
    assert (record.error_kind, record.error) == ("unexpected", "ZeroDivisionError")
    assert record.answer == "Answer"


def test_ask_answer_received_but_not_read_is_recorded(
    service: Service, wait_for: Callable[..., Any]
) -> None:
    with service.ask() as exchange:
        next(iter(exchange))
        wait_for(lambda: service.provider.is_complete)
    (record,) = service.records
    assert (record.status, record.answer) == (Status.ANSWERED, "Answer to: Who am I?")


def test_ask_interrupted_after_the_answer_is_recorded_as_answered(service: Service) -> None:
    def stopped() -> None:
        with service.ask() as exchange:
            "".join(exchange)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    (record,) = service.records
    assert record.status is Status.ANSWERED
    assert record.answer == "Answer to: Who am I?"


def test_ask_without_an_outbox_records_nothing(service: Service) -> None:
    asking = replace(service.ask_service, outbox=None)
    for question in ("Who?", "Who? [[cut=2]]"):
        exchange = Exchange(asking.stream(new_question(question)))
        try:
            assert read(exchange)
        except ProviderError as error:
            assert error.record_id is None  # noqa: PT017 - one of the two questions fails
        assert exchange.record_id is None
        assert (exchange.outcome.answer or "").startswith("Answer to:")
    assert service.records == []
    assert not service.outbox.directory.exists()


def test_ask_reserved_record_has_its_id_before_the_first_text(
    service: Service, provider: FakeProvider
) -> None:
    with service.ask(reserve=True) as exchange:
        assert exchange.record_id == 1
        assert provider.requests == []
        assert service.store.get(1).status is Status.ASKING
        assert "".join(exchange)
        assert service.store.get(1).status is Status.ASKING
    (record,) = service.records
    assert exchange.record_id == record.id == 1
    assert record.status is Status.ANSWERED


def test_ask_reserve_with_database_down_raises_and_sends_nothing(
    service: Service, provider: FakeProvider
) -> None:
    service.reachable = False
    with pytest.raises(DatabaseError) as caught:
        read(service.ask(reserve=True))
    assert "hunter2" not in str(caught.value)
    assert provider.requests == []
    assert service.journals == []


def test_ask_reserved_record_is_completed_by_delivery(service: Service) -> None:
    with service.ask(reserve=True) as exchange:
        "".join(exchange)
        service.reachable = False
    assert exchange.undelivered is not None
    assert exchange.record_id == 1
    assert service.store.get(1).status is Status.ASKING
    assert recover_outbox(service.outbox, service.store) == 1
    (record,) = service.records
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
    service: Service, question: str, status: Status, answer: str | None
) -> None:
    service.reachable = False
    exchange = service.ask(question)
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
    assert len(service.journals) == 1
    (entry,) = service.outbox.pending()
    assert entry.outcome() == exchange.outcome

    with pytest.raises(DatabaseError):
        recover_outbox(service.outbox, service.down)
    assert len(service.journals) == 1

    assert recover_outbox(service.outbox, service.store) == 1
    assert recover_outbox(service.outbox, service.store) == 0
    (record,) = service.records
    assert record.uid == exchange.ask.uid
    assert (record.status, record.answer) == (status, answer)
    assert record.created_at == exchange.ask.created_at
    assert record.latency_ms == exchange.outcome.latency_ms
    assert service.journals == []


def test_ask_question_in_flight_is_not_delivered(service: Service) -> None:
    with service.ask() as exchange:
        for _ in exchange:
            assert recover_outbox(service.outbox, service.store) == 0
            assert service.records == []
    assert len(service.records) == 1


def test_ask_with_the_database_down_is_delivered_later(service: Service) -> None:
    service.reachable = False
    for number in range(3):
        read(service.ask(str(number)))
    service.reachable = True
    read(service.ask("3"))
    assert recover_outbox(service.outbox, service.store) == 3
    assert sorted(record.question for record in service.records) == ["0", "1", "2", "3"]
    assert service.records[0].question == "3"


def test_ask_unwritable_journal_sends_nothing(
    service: Service, provider: FakeProvider, limit_file_size: Callable[[int], None]
) -> None:
    limit_file_size(10)
    with pytest.raises(OutboxUnwritable):
        read(service.ask())
    limit_file_size(10**9)
    assert provider.requests == []
    assert service.records == []
    assert service.journals == []


def test_ask_answer_not_journaled_is_stored_by_the_database(
    postgres_url: str, home: Path, provider: FakeProvider, limit_file_size: Callable[[int], None]
) -> None:
    # Only PostgreSQL, whose files this process does not write.
    from conftest import migrated

    settings = Settings(
        api_key=KEY, base_url=provider.base_url, data_dir=home, database_url=postgres_url
    )
    store, outbox = migrated(settings), Outbox(settings.outbox_path)
    client = SyncProvider(endpoint.resolve_endpoint(settings), settings)
    asking = AskService(provider=lambda _ask: client, outbox=outbox, store=lambda: store)
    with Exchange(asking.stream(new_question("Who?"))) as exchange:
        for _ in exchange:
            (journal,) = outbox.directory.iterdir()
            limit_file_size(journal.stat().st_size)
    limit_file_size(10**9)
    assert exchange.undelivered is None
    (record,) = store.page(limit=5)
    assert record.id == exchange.record_id
    assert record.answer == "Answer to: Who?"
    assert list(outbox.directory.iterdir()) == []
    store.close()
    client.close()


def test_ask_answer_stored_nowhere_raises(
    service: Service, limit_file_size: Callable[[int], None]
) -> None:
    service.reachable = False

    def asked() -> None:
        with service.ask() as exchange:
            for _ in exchange:
                limit_file_size(service.journals[0].stat().st_size)

    with pytest.raises(DatabaseError, match="could not be stored") as caught:
        asked()
    limit_file_size(10**9)
    assert "\n" not in str(caught.value)
    service.reachable = True
    assert recover_outbox(service.outbox, service.store) == 1
    (record,) = service.records
    assert record.status is Status.INTERRUPTED
    assert (record.answer or "").startswith("Answer")


def test_ask_refused_record_can_still_be_read(service: Service) -> None:
    first = Exchange(service.ask_service.stream(new_question("one", idempotency_key="k")))
    read(first)
    second = Exchange(service.ask_service.stream(new_question("two", idempotency_key="k")))
    assert read(second) == "Answer to: two"
    assert isinstance(second.undelivered, RecordRefused)
    assert recover_outbox(service.outbox, service.store) == 0
    assert [record.question for record in service.records] == ["one"]
    (aside,) = service.journals
    lines = [json.loads(line) for line in aside.read_text().splitlines()]
    assert lines[-1]["outcome"]["answer"] == "Answer to: two"
    assert recover_outbox(service.outbox, service.store) == 0


def test_ask_provider_unavailable_leaves_no_journal(service: Service) -> None:
    def none(_ask: Question) -> SyncProvider:
        raise InvalidRequest("There is no such model.")

    with pytest.raises(InvalidRequest):
        read(Exchange(replace(service.ask_service, provider=none).stream(new_question("q"))))
    assert not service.outbox.directory.exists()


def test_ask_in_many_threads_records_each_answer(service: Service, provider: FakeProvider) -> None:
    from concurrent.futures import ThreadPoolExecutor

    provider.default = Faked(latency=0.1)

    def one(number: int) -> tuple[int | None, str]:
        exchange = service.ask(str(number), reserve=number % 2 == 0)
        return (read(exchange), exchange.record_id)[::-1]

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(one, range(40)))
    assert [text for _, text in found] == [f"Answer to: {number}" for number in range(40)]
    assert sorted(record.id or 0 for record in service.records) == list(range(1, 41))
    for number, (record_id, _) in enumerate(found):
        assert service.store.get(record_id or 0).question == str(number)
    assert service.journals == []


def test_ask_delivered_later_keeps_the_time_of_the_question(service: Service) -> None:
    asked = datetime(2020, 1, 1, 12, tzinfo=UTC)
    service.reachable = False
    read(Exchange(service.ask_service.stream(new_question("old", created_at=asked))))
    recover_outbox(service.outbox, service.store)
    assert service.records[0].created_at == asked
